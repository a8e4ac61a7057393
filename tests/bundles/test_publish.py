"""POST /api/v1/bundles/{name}/{version}/publish and …/withdraw, and every other change of a bundle's state."""

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client

from bundles.models import Blob, Bundle, Upload
from bundles.publishing import publish, withdraw
from bundles.verifying import verify_bundles, verify_uploads
from deployments import downloads
from kernex.errors import IllegalTransition, NotFound
from kernex.events.models import Event
from tests.bundles.publisher import Publisher, manifest_of, sha256
from tests.factories import make_token, make_user

PUBLISH, WITHDRAW = "bundles/vad/1.0.0/publish", "bundles/vad/1.0.0/withdraw"


def test_it_needs_every_blob(publisher: Publisher) -> None:
    contents = {f"{n:02}": str(n).encode() for n in range(30)}
    publisher.draft(manifest_of(contents))
    answer = publisher.post(PUBLISH)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "missing_blobs")
    assert len(answer.json()["error"]["missing"]) == 20
    assert set(answer.json()["error"]["missing"][0]) == {"sha256", "size"}
    assert Bundle.objects.get().state == "draft"


def test_it_waits_for_what_is_being_verified(publisher: Publisher) -> None:
    publisher.draft(manifest_of({"a": b"1"}))
    publisher.upload(b"1")
    answer = publisher.post(PUBLISH)
    assert (answer.status_code, answer.json()["state"]) == (202, "verifying")
    assert verify_bundles() == 0
    assert Bundle.objects.get().state == "verifying"
    assert (verify_uploads(), verify_bundles()) == (1, 1)
    answer = publisher.post(PUBLISH)
    assert (answer.status_code, answer.json()["state"]) == (200, "ready")
    assert answer.json()["ready_at"] is not None


def test_it_may_be_said_twice(publisher: Publisher) -> None:
    Blob.objects.create(sha256=sha256(b"1"), size=1)
    publisher.draft(manifest_of({"a": b"1"}))
    assert [publisher.post(PUBLISH).status_code for _ in range(2)] == [202, 202]
    assert Event.objects.filter(kind="bundle.published").count() == 1


def test_a_bundle_with_a_refused_upload_is_a_draft_again(publisher: Publisher) -> None:
    publisher.draft(manifest_of({"model": b"1"}))
    upload = publisher.upload(b"1")
    publisher.post(PUBLISH)
    Upload.objects.filter(pk=upload).update(size=2)  # as if something else had arrived
    verify_uploads()
    assert verify_bundles() == 1  # nobody claims those bytes in that size any more
    bundle = Bundle.objects.get()
    assert bundle.state == "draft"
    assert bundle.state_reason == "model: 2 bytes were announced, 1 are there"
    assert not Blob.objects.exists()
    assert Event.objects.filter(kind="bundle.returned", bundle_id=bundle.pk, actor="scheduler").count() == 1


def test_it_withdraws(publisher: Publisher, viewer: Publisher) -> None:
    publisher.push({"a": b"1"})
    assert [publisher.post(WITHDRAW).status_code for _ in range(2)] == [200, 200]
    assert viewer.get("bundles/vad/1.0.0").json()["state"] == "withdrawn"
    bundle = Bundle.objects.get()
    assert bundle.withdrawn_at is not None
    assert not Bundle.objects.ready().exists()
    with pytest.raises(NotFound):
        downloads.manifest(uuid4(), "vad", "1.0.0", bundle.manifest_sha256)
    with pytest.raises(NotFound):
        downloads.size_of_blob(uuid4(), sha256(b"1"))
    assert Event.objects.filter(kind="bundle.withdrawn").count() == 1


def test_a_withdrawn_blob_is_delivered_for_another_bundle(publisher: Publisher) -> None:
    publisher.push({"a": b"1"})
    publisher.draft(manifest_of({"b": b"1"}, version="2"))
    publisher.post("bundles/vad/2/publish")
    verify_bundles()
    publisher.post(WITHDRAW)
    assert downloads.size_of_blob(uuid4(), sha256(b"1")) == 1


def test_others_may_neither_publish_nor_withdraw(publisher: Publisher, viewer: Publisher, stranger: Publisher) -> None:
    publisher.draft(manifest_of({"a": b"1"}))
    for address in (PUBLISH, WITHDRAW):
        assert viewer.post(address).status_code == 403
        assert stranger.post(address).status_code == 401
        assert publisher.post(address.replace("vad", "other")).status_code == 404


# What becomes of each state: the new state, or None where it is refused.
TABLE = {
    publish: {"draft": "verifying", "verifying": "verifying", "ready": "ready", "withdrawn": None},
    withdraw: {"draft": None, "verifying": None, "ready": "withdrawn", "withdrawn": "withdrawn"},
}


@pytest.mark.parametrize("state", ["draft", "verifying", "ready", "withdrawn"])
@pytest.mark.parametrize("change", TABLE, ids=lambda change: change.__name__)
def test_every_change_of_every_state(publisher: Publisher, change: object, state: str) -> None:
    Blob.objects.create(sha256=sha256(b"1"), size=1)
    publisher.draft(manifest_of({"a": b"1"}))
    Bundle.objects.update(state=state)
    bundle, wanted = Bundle.objects.get(), TABLE[change][state]  # type: ignore[index]
    if wanted is None:
        with pytest.raises(IllegalTransition):
            change(bundle, actor="operator:alice")  # type: ignore[operator]
    else:
        change(bundle, actor="operator:alice")  # type: ignore[operator]
    assert Bundle.objects.get().state == bundle.state == (wanted or state)


@pytest.mark.django_db(transaction=True)
def test_two_at_once_change_it_once(client: Client) -> None:
    secret = make_token(make_user(), "publisher")
    Publisher(client, secret).push({"a": b"1"})

    def say(_: int) -> int:
        try:
            return int(Publisher(Client(), secret).post(WITHDRAW).status_code)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(say, range(4))) == [200] * 4
    assert Event.objects.filter(kind="bundle.withdrawn").count() == 1
