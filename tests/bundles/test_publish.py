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


def test_a_blob_stored_between_two_reads_is_not_missing(publisher: Publisher) -> None:
    publisher.draft(manifest_of({"a": b"1"}))
    publisher.upload(b"1")
    looks: list[str] = []

    def store_after_the_first(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        answer = execute(sql, *rest)
        if not looks and any(f'FROM "{model._meta.db_table}"' in sql for model in (Blob, Upload)):
            looks.append(sql)
            assert verify_uploads() == 1
        return answer

    with connection.execute_wrapper(store_after_the_first):
        assert lost_blobs(Bundle.objects.get()) == []
    assert looks


def test_publishing_is_idempotent(publisher: Publisher) -> None:
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


def test_others_may_not(publisher: Publisher, viewer: Publisher, stranger: Publisher) -> None:
    publisher.draft(manifest_of({"a": b"1"}))
    for address in (PUBLISH, WITHDRAW):
        assert viewer.post(address).status_code == 403
        assert stranger.post(address).status_code == 401
        assert publisher.post(address.replace("vad", "other")).status_code == 404
    assert (viewer.delete(BUNDLE).status_code, stranger.delete(BUNDLE).status_code) == (403, 401)


def withdraw(bundle: Bundle, *, actor: str) -> None:
    bundle.withdraw(actor=actor)


def discard(bundle: Bundle, *, actor: str) -> None:
    bundle.discard(actor=actor)


# What each change makes of each state: the new state, GONE, or None if it is refused.
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
    bundle, wanted = Bundle.objects.get(), TABLE[change][state]  # type: ignore[index]
    if wanted is None:
        with pytest.raises(IllegalTransition):
            change(bundle, actor="operator:alice")  # type: ignore[operator]
    else:
        change(bundle, actor="operator:alice")  # type: ignore[operator]
    left = Bundle.objects.first()
    assert (left.state if left else GONE) == (wanted or state)
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

    def say(_: int) -> int:
        try:
            return int(Publisher(Client(), secret).post(WITHDRAW).status_code)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(say, range(4))) == [200] * 4
    assert Event.objects.filter(kind="bundle.withdrawn").count() == 1


@pytest.mark.django_db(transaction=True)
def test_concurrent_publish_and_discard_let_one_win(client: Client) -> None:
    secret = make_token(make_user(), "publisher")
    Blob.objects.create(sha256=sha256(b"1"), size=1)

    def say(method: str) -> int:
        try:
            publisher = Publisher(Client(), secret)
            return int((publisher.delete(BUNDLE) if method == "DELETE" else publisher.post(PUBLISH)).status_code)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        for _ in range(10):
            Bundle.objects.all().delete()
            Publisher(client, secret).draft(manifest_of({"a": b"1"}))
            answers = tuple(pool.map(say, ["DELETE", "POST"]))
            assert answers in {(204, 404), (409, 202)}
            assert Bundle.objects.exists() == (answers == (409, 202))
