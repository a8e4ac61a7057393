"""Invalid input to the admin gets a status below 500 and changes nothing."""

import pytest
from django.db import connection
from django.test import Client

from bundles.archives.drafting import draft_from_archive
from devices.models import Device
from tests.admin.actions import LISTS, object_url
from tests.admin.test_decisions import archive
from tests.factories import make_bundle, make_deployment, make_device, make_enrolment_token

pytestmark = pytest.mark.django_db
QUERIES = (
    "q=%00", "q=%ED%A0%80", f"q={'a' * 5000}", "%00=1", "p=abc", "p=99999", "p=-1", "state__exact=nope",
    "state__exact=%00", "state__exact=a&state__exact=%00", "liveness=nope", "liveness=%00", "tag=%00",
    "group__id__exact=nope", "name=%00", "kind=%00", "role=%00", "bundle__name=%00", "o=1.2.-3.99", "o=%00", "e=1",
    "user__password__startswith=p", "all=", "_popup=1",
)  # fmt: skip
KEYS: tuple[list[str], ...] = ([], ["nonsense"], ["\0"], ["9" * 30], ["00000000-0000-0000-0000-000000000000"])
ACTIONS = {
    "devices": ["approve", "reject", "decommission", "deploy", "collect_logs"],
    "groups": ["remove"], "tokens": ["revoke"],
    "bundles": ["publish", "discard", "withdraw"], "deployments": ["cancel"], "API tokens": ["revoke"],
}  # fmt: skip


@pytest.fixture
def existing_objects() -> None:
    make_deployment(make_bundle(), make_device(name="edge-1"))
    make_enrolment_token()


@pytest.mark.parametrize("page", LISTS)
def test_invalid_queries_of_a_list(boss: Client, existing_objects: None, page: str) -> None:
    statuses = {query: boss.get(f"{LISTS[page]}?{query}").status_code for query in QUERIES}
    assert {query: status for query, status in statuses.items() if status >= 500} == {}
    assert statuses["q=%00"] == 400


@pytest.mark.parametrize("page", LISTS)
def test_invalid_object_urls(boss: Client, existing_objects: None, page: str) -> None:
    for suffix in ("nonsense/change/", "0/change/", f"{'9' * 30}/change/", "%00/change/", "x/delete/", "x/history/"):
        assert boss.get(LISTS[page] + suffix).status_code < 500, suffix
    for query in ("group=nonsense", "name=%00", "expires_at=nonsense", "user=nonsense"):
        assert boss.get(f"{LISTS[page]}add/?{query}").status_code < 500, query


@pytest.mark.parametrize("page", LISTS)
@pytest.mark.parametrize("extra_fields", [{}, {"confirmed": "yes"}, {"begun_on": "object"}, {"index": "nonsense"}])
def test_invalid_action_requests(boss: Client, existing_objects: None, page: str, extra_fields: dict[str, str]) -> None:
    for action in (*ACTIONS.get(page, []), "nonsense", "\0"):
        for keys in KEYS:
            response = boss.post(LISTS[page], {"action": action, "_selected_action": keys, **extra_fields})
            assert response.status_code < 500, (action, keys)
    assert Device.objects.get().state == "accepted"


@pytest.mark.parametrize("text", ["\0", "x" * 100_000, "-1", "9" * 30, "2030-13-45", "\n", "\u0661"])
def test_invalid_values_of_a_device(boss: Client, text: str) -> None:
    device = make_device(name="edge-1")
    valid_form = {"name": "edge-2", "group": device.group_id, "tags": "a,b"}
    for field in ("name", "group", "tags"):
        assert boss.post(object_url("devices", device), {**valid_form, field: text}).status_code in {200, 302}


@pytest.mark.parametrize("text", ["\0", "x" * 100_000, "-1", "9" * 30, "2030-13-45", "0001-01-01", "9999-12-31"])
def test_invalid_values_of_an_enrolment_token(boss: Client, text: str) -> None:
    group = make_device().group_id
    valid_form = {
        "name": "t",
        "group": group,
        "uses_allowed": "1",
        "expires_at_0": "2030-01-01",
        "expires_at_1": "12:00:00",
    }
    for field in valid_form:
        assert boss.post(f"{LISTS['tokens']}add/", {**valid_form, field: text}).status_code == 200


def test_an_archive_is_read_outside_of_a_transaction(boss: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database ends sessions that idle in a transaction for 15 seconds; a large archive takes longer."""
    transaction_states = []

    def record_transaction(*args: object, **fields: object) -> object:
        transaction_states.append(connection.in_atomic_block and bool(connection.savepoint_ids))
        return draft_from_archive(*args, **fields)  # type: ignore[arg-type]

    monkeypatch.setattr("bundles.admin.bundles.draft_from_archive", record_transaction)
    body = {"name": "vad", "version": "1.0.0", "archive": archive(model=b"weights")}
    boss.post(f"{LISTS['bundles']}add/", body)
    assert transaction_states == [False]
