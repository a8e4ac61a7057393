"""The collector with a bucket."""

import pytest
from django.test import Client

from bundles.garbage_collection import collect_blobs
from bundles.storage.s3_client import Bucket
from foundation.errors import Unavailable
from tests.bundles.publisher import Publisher, sha256
from tests.bundles.storage.conftest import RemoteBucket
from tests.bundles.test_garbage_collection import check_nothing_is_lost, store_unused
from tests.factories import make_token, make_user

CONTENT = b"an unused blob"


@pytest.mark.django_db
def test_the_collector_deletes_the_object(bucket: Bucket, remote_bucket: RemoteBucket) -> None:
    store_unused(CONTENT)
    assert remote_bucket.object_keys() == [f"blobs/{sha256(CONTENT)[:2]}/{sha256(CONTENT)}"]
    collect_blobs()
    assert remote_bucket.object_keys() == []


@pytest.mark.django_db
def test_the_deletion_waits_while_storage_is_unavailable(bucket: Bucket, remote_bucket: RemoteBucket) -> None:
    store_unused(CONTENT)
    remote_bucket.proxy.cut()
    with pytest.raises(Unavailable):
        collect_blobs()
    remote_bucket.proxy.restore()
    assert len(remote_bucket.object_keys()) == 1
    collect_blobs()
    assert remote_bucket.object_keys() == []


@pytest.mark.django_db(transaction=True)
def test_concurrent_drafts_uploads_and_collectors_lose_no_blob(client: Client, bucket: Bucket) -> None:
    check_nothing_is_lost(Publisher(client, make_token(make_user(), "publisher")), rounds=4)
