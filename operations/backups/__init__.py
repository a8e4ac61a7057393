"""Backups: the database as one dump, the list of blobs, and at wish the blobs themselves.

    <place>/<name>/database.dump   PostgreSQL's custom format
    <place>/<name>/blobs.txt       a line for each blob: sha256 and size
    <place>/<name>/backup.json     what it is, with the digest of the dump; written last
    <place>/blobs/<aa>/<sha256>    with --blobs: shared by all backups of that place

A directory without backup.json is a backup that was cut off, and is not restored.
"""
