"""POST /api/v1/bundles/{name}/{version}/publish and …/withdraw, and every other change of a bundle's state."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client

from bundles.missing_blobs import lost_blobs
from bundles.models import Blob, Bundle, Upload
from bundles.publishing import publish
from bundles.uploads.verification import verify_bundles, verify_uploads
from deployments import download_access
from foundation.errors import IllegalTransition, NotFound
from foundation.events.models import Event
from tests.bundles.publisher import Publisher, manifest_of, sha256
from tests.factories import make_token, make_user

BUNDLE = "bundles/vad/1.0.0"
PUBLISH, WITHDRAW = f"{BUNDLE}/publish", f"{BUNDLE}/withdraw"


def test_publishing_needs_every_blob(publisher: Publisher) -> None:
    contents = {f"{n:02}": str(n).encode() for n in range(30)}
    publisher.draft(manifest_of(contents))
    response = publisher.post(PUBLISH)
    assert (response.status_code, response.json()["error"]["code"]) == (409, "missing_blobs")
    assert len(response.json()["error"]["missing"]) == 20
    assert set(response.json()["error"]["missing"][0]) == {"sha256", "size"}
    assert Bundle.objects.get().state == "draft"


def test_publishing_waits_for_uploads_in_verification(publisher: Publisher) -> None:
    publisher.draft(manifest_of({"a": b"1"}))
    publisher.upload(b"1")
    response = publisher.post(PUBLISH)
    assert (response.status_code, response.json()["state"]) == (202, "verifying")
    assert verify_bundles() == 0
    assert Bundle.objects.get().state == "verifying"
    assert (verify_uploads(), verify_bundles()) == (1, 1)
    response = publisher.post(PUBLISH)
    assert (response.status_code, response.json()["state"]) == (200, "ready")
    assert response.json()["ready_at"] is not None


def test_a_blob_stored_between_two_reads_is_not_missing(publisher: Publisher) -> None:
    publisher.draft(manifest_of({"a": b"1"}))
    publisher.upload(b"1")
    selects: list[str] = []

    def store_after_the_first(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        response = execute(sql, *rest)
        if not selects and any(f'FROM "{model._meta.db_table}"' in sql for model in (Blob, Upload)):
            selects.append(sql)
            assert verify_uploads() == 1
        return response

    with connection.execute_wrapper(store_after_the_first):
        assert lost_blobs(Bundle.objects.get()) == []
    assert selects


def test_publishing_is_idempotent(publisher: Publisher) -> None:
    Blob.objects.create(sha256=sha256(b"1"), size=1)
    publisher.draft(manifest_of({"a": b"1"}))
    assert [publisher.post(PUBLISH).status_code for _ in range(2)] == [202, 202]
    assert Event.objects.filter(kind="bundle.published").count() == 1


def test_a_bundle_with_a_refused_upload_is_a_draft_again(publisher: Publisher) -> None:
    publisher.draft(manifest_of({"model": b"1"}))
    upload = publisher.upload(b"1")
    publisher.post(PUBLISH)
    Upload.objects.filter(pk=upload).update(size=2)  # as if other bytes had arrived
    verify_uploads()
    assert verify_bundles() == 1  # no upload provides the blob any more
    bundle = Bundle.objects.get()
    assert bundle.state == "draft"
    assert bundle.state_reason == "model: 2 bytes were declared, 1 arrived"
    assert not Blob.objects.exists()
    assert Event.objects.filter(kind="bundle.returned", bundle_id=bundle.pk, actor="scheduler").count() == 1


def test_withdrawing_stops_downloads(publisher: Publisher, viewer: Publisher) -> None:
    publisher.push({"a": b"1"})
    assert [publisher.post(WITHDRAW).status_code for _ in range(2)] == [200, 200]
    assert viewer.get("bundles/vad/1.0.0").json()["state"] == "withdrawn"
    bundle = Bundle.objects.get()
    assert bundle.withdrawn_at is not None
    assert not Bundle.objects.ready().exists()
    with pytest.raises(NotFound):
        download_access.manifest(uuid4(), "vad", "1.0.0", bundle.manifest_sha256)
    with pytest.raises(NotFound):
        download_access.size_of_blob(uuid4(), sha256(b"1"))
    assert Event.objects.filter(kind="bundle.withdrawn").count() == 1


def test_a_withdrawn_blob_is_delivered_for_another_bundle(publisher: Publisher) -> None:
    publisher.push({"a": b"1"})
    publisher.draft(manifest_of({"b": b"1"}, version="2"))
    publisher.post("bundles/vad/2/publish")
    verify_bundles()
    publisher.post(WITHDRAW)
    assert download_access.size_of_blob(uuid4(), sha256(b"1")) == 1


def test_a_discarded_draft_leaves_its_version_free(publisher: Publisher, viewer: Publisher) -> None:
    publisher.draft(manifest_of({"a": b"1"}))
    bundle = Bundle.objects.get()
    assert publisher.delete(BUNDLE).status_code == 204
    assert (viewer.get(BUNDLE).status_code, publisher.delete(BUNDLE).status_code) == (404, 404)
    assert Event.objects.filter(kind="bundle.discarded", bundle_id=bundle.pk).count() == 1
    assert publisher.draft(manifest_of({"a": b"2"})).status_code == 201


def test_viewers_and_strangers_cannot_change_a_bundle(
    publisher: Publisher, viewer: Publisher, stranger: Publisher
) -> None:
    publisher.draft(manifest_of({"a": b"1"}))
    for path in (PUBLISH, WITHDRAW):
        assert viewer.post(path).status_code == 403
        assert stranger.post(path).status_code == 401
        assert publisher.post(path.replace("vad", "other")).status_code == 404
    assert (viewer.delete(BUNDLE).status_code, stranger.delete(BUNDLE).status_code) == (403, 401)


def withdraw(bundle: Bundle, *, actor: str) -> None:
    bundle.withdraw(actor=actor)


def discard(bundle: Bundle, *, actor: str) -> None:
    bundle.discard(actor=actor)


# The state after each change of each state. GONE: the row is deleted; None: the change is refused.
GONE = "gone"
TABLE = {
    publish: {"draft": "verifying", "verifying": "verifying", "ready": "ready", "withdrawn": None},
    discard: {"draft": GONE, "verifying": None, "ready": None, "withdrawn": None},
    withdraw: {"draft": None, "verifying": None, "ready": "withdrawn", "withdrawn": "withdrawn"},
}


@pytest.mark.parametrize("state", ["draft", "verifying", "ready", "withdrawn"])
@pytest.mark.parametrize("change", TABLE, ids=lambda change: change.__name__)
def test_every_change_of_every_state(publisher: Publisher, change: object, state: str) -> None:
    Blob.objects.create(sha256=sha256(b"1"), size=1)
    publisher.draft(manifest_of({"a": b"1"}))
    Bundle.objects.update(state=state)
    bundle, expected = Bundle.objects.get(), TABLE[change][state]  # type: ignore[index]
    if expected is None:
        with pytest.raises(IllegalTransition):
            change(bundle, actor="operator:alice")  # type: ignore[operator]
    else:
        change(bundle, actor="operator:alice")  # type: ignore[operator]
    left = Bundle.objects.first()
    assert (left.state if left else GONE) == (expected or state)
    if left:
        assert bundle.state == left.state


@pytest.mark.parametrize("change", [publish, withdraw, discard])
def test_a_bundle_discarded_meanwhile_is_not_found(publisher: Publisher, change: Callable[..., object]) -> None:
    Blob.objects.create(sha256=sha256(b"1"), size=1)
    publisher.draft(manifest_of({"a": b"1"}))
    bundle = Bundle.objects.get()
    Bundle.objects.all().delete()
    with pytest.raises(NotFound):
        change(bundle, actor="operator:alice")


@pytest.mark.django_db(transaction=True)
def test_concurrent_withdrawals_change_it_once(client: Client) -> None:
    secret = make_token(make_user(), "publisher")
    Publisher(client, secret).push({"a": b"1"})

    def withdraw_once(_: int) -> int:
        try:
            return int(Publisher(Client(), secret).post(WITHDRAW).status_code)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(withdraw_once, range(4))) == [200] * 4
    assert Event.objects.filter(kind="bundle.withdrawn").count() == 1


@pytest.mark.django_db(transaction=True)
def test_concurrent_publish_and_discard_let_one_win(client: Client) -> None:
    secret = make_token(make_user(), "publisher")
    Blob.objects.create(sha256=sha256(b"1"), size=1)

    def call(method: str) -> int:
        try:
            publisher = Publisher(Client(), secret)
            return int((publisher.delete(BUNDLE) if method == "DELETE" else publisher.post(PUBLISH)).status_code)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        for _ in range(10):
            Bundle.objects.all().delete()
            Publisher(client, secret).draft(manifest_of({"a": b"1"}))
            responses = tuple(pool.map(call, ["DELETE", "POST"]))
            assert responses in {(204, 404), (409, 202)}
            assert Bundle.objects.exists() == (responses == (409, 202))
