"""Backups: the database as one dump, the list of blobs, and optionally the blobs.

    <destination>/<name>/database.dump   PostgreSQL's custom format
    <destination>/<name>/blobs.txt       one line per blob: sha256 and size
    <destination>/<name>/backup.json     the description, with the digest of the dump; written last
    <destination>/blobs/<aa>/<sha256>    with --blobs: shared by all backups at that destination

A directory without backup.json is an interrupted backup and cannot be restored.
"""
