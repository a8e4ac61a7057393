"""Where the bytes of blobs and uploads are kept.

    blobs/<aa>/<sha256>   final keys: written once, complete, durable and verified; never overwritten
    uploads/<id>          bytes that are not verified yet; an upload becomes a blob or is deleted

`interface.blobs()` returns the storage that `STORAGES["default"]` names. `interface.Blobs` is its interface, with three
implementations:

    disk.DiskBlobs         a directory on a local disk
    s3_blobs.S3Blobs       a bucket of S3-compatible storage
    migration.MovingBlobs  a bucket that is being filled from a disk (`manage.py move_blobs`)

How bytes reach a final key:

    disk    publisher ──PUT part──► web worker ──write──► uploads/<id> ──┐
                                                                         ├─ seal, hash, promote ─► blobs/<aa>/<sha256>
    bucket  publisher ──PUT part to a presigned URL──► uploads/<id> ─────┘  (the scheduler)

1. `write` puts a part into `uploads/<id>` on disk. With a bucket, publishers put parts there themselves:
   `interface.direct_uploads()` tells whether they do, and returns what creates the presigned URLs.
2. `sealed` holds one upload so that no byte of it can change any more. On disk this is an exclusive lock. In a bucket
   it completes the multipart upload, after which its presigned URLs no longer work.
3. `SealedUpload.digest` hashes all bytes. In a bucket, large objects are hashed a few seconds at a time.
4. `SealedUpload.promote` gives the bytes their final key, durably: a hard link on disk, a copy by the storage in a
   bucket. Promoting is idempotent and never replaces an object. It leaves `uploads/<id>` in place.
5. `discard` deletes `uploads/<id>`, once the database has the blob or the upload was refused or has expired.

A process that is killed between two steps leaves nothing that the next run of the scheduler cannot continue from.

`delete` removes a blob that nothing refers to; only `bundles.garbage_collection` calls it.

The bucket's modules: `s3_client` has the clients, their errors, and the check whether storage responds; `s3_objects`
reads and writes single objects; `s3_uploads` creates presigned URLs; `s3_verification` hashes and promotes; `s3_blobs`
implements the interface with them.
"""
