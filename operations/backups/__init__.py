"""Backups: the database as one dump, the list of blobs, and optionally the blobs.

    <place>/<name>/database.dump   PostgreSQL's custom format
    <place>/<name>/blobs.txt       one line per blob: sha256 and size
    <place>/<name>/backup.json     the description, with the digest of the dump; written last
    <place>/blobs/<aa>/<sha256>    with --blobs: shared by all backups of that place

A directory without backup.json is an interrupted backup and cannot be restored.
"""
