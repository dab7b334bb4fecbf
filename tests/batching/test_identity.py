"""An item of a background batch runs as who sent it, though no credentials are kept; and as nobody else."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from batching.models import Batch, BatchItem
from tests.batching.background import ASYNC, LINES, drain, lines
from tests.batching.conftest import item

Statuses = Callable[..., list[int]]
DOORS = [item(f"/api/{name}", "POST", id=name) for name in ("private", "keyed", "either", "protected", "whoami")]


@pytest.fixture
def ada(committed: None) -> User:
    return User.objects.create_user("ada", password="pw")


def sent(client: Client, items: list[Any], **headers: str) -> Batch:
    response = client.post("/api/batch", lines(items), content_type=LINES, headers={**ASYNC, **headers})
    assert response.status_code == 202, response.content
    return Batch.objects.get(pk=response.json()["batch_id"])


def direct(client: Client, one: Any, **headers: str) -> tuple[int, Any]:
    response = client.generic(one["method"], one["path"], headers=headers)
    return response.status_code, user_in(response.content)


def user_in(content: bytes) -> Any:
    try:
        return json.loads(content).get("user")
    except ValueError:
        return None


def in_background(client: Client, items: list[Any], **headers: str) -> list[tuple[int, Any]]:
    batch = sent(client, items, **headers)
    drain()
    return outcomes(batch)


def outcomes(batch: Batch) -> list[tuple[int, Any]]:
    rows = BatchItem.objects.filter(batch=batch).order_by("position")
    return [(row.status or 0, (row.response_body or {}).get("user")) for row in rows]


def logged_in(**options: Any) -> Client:
    client = Client(**options)
    assert client.login(username="ada", password="pw")
    return client


def test_a_session_opens_what_it_opens_directly(ada: User) -> None:
    client = logged_in()
    found = in_background(client, DOORS)
    assert found == [direct(client, one) for one in DOORS]
    assert [user for _, user in found] == ["ada", None, "ada", "ada", "ada"]


def test_a_key_opens_what_it_opens_directly(ada: User) -> None:
    client = Client(enforce_csrf_checks=True)
    key = {"authorization": f"Key {ada.pk}"}
    found = in_background(client, DOORS, **key)
    assert found == [direct(client, one, **key) for one in DOORS]
    assert [user for _, user in found] == [None, "ada", "ada", None, "AnonymousUser"]


def test_nobody_opens_what_nobody_opens_directly(committed: None) -> None:
    client = Client(enforce_csrf_checks=True)
    found = in_background(client, DOORS)
    assert found == [direct(client, one) for one in DOORS]


def test_csrf_is_passed_once_and_not_by_whom_it_stops(ada: User) -> None:
    client = logged_in(enforce_csrf_checks=True)
    response = client.post("/api/batch", lines(DOORS), content_type=LINES, headers=ASYNC)
    assert response.status_code == 403
    client.get("/admin/login/")
    token = {"x-csrftoken": client.cookies["csrftoken"].value}
    assert [status for status, _ in in_background(client, DOORS, **token)] == [200, 401, 200, 200, 200]


@pytest.mark.parametrize("name", ["cookie", "authorization", "x-user", "remote-user", "_cached_user", "x-csrftoken"])
def test_no_header_of_an_item_can_say_who_calls(ada: User, name: str) -> None:
    forged = item("/api/whoami", id="a", headers={name: "ada"})
    assert in_background(Client(), [forged])[0][0] == 400


def test_no_header_of_the_batch_reaches_an_item_but_the_harmless(ada: User) -> None:
    said = {"x-api-key": "k", "x-user": "ada", "authorization": f"Key {ada.pk}", "accept-language": "de"}
    batch = sent(Client(), [item("/api/all-headers", id="a")], **said)
    assert str(batch.origin).count("Key") == 0
    drain()
    row = BatchItem.objects.get(batch=batch)
    names = {name.lower() for name in row.response_body["headers"]}
    assert "accept-language" in names
    assert not names & {"x-api-key", "x-user", "authorization", "cookie"}


def test_who_was_deactivated_since_is_nobody_and_not_anonymous(ada: User) -> None:
    batch = sent(logged_in(), DOORS)
    User.objects.update(is_active=False)
    drain()
    assert {status for status, _ in outcomes(batch)} == {401}


def test_a_key_that_was_revoked_since_opens_nothing(ada: User) -> None:
    batch = sent(Client(), DOORS, authorization=f"Key {ada.pk}")
    Batch.objects.update(identity={**(batch.identity or {}), "key": ["auth.group", "1"]})
    drain()
    assert {status for status, _ in outcomes(batch)} == {401}


def test_a_batch_goes_with_its_owner(ada: User) -> None:
    batch = sent(logged_in(), DOORS)
    ada.delete()
    drain()
    assert not Batch.objects.filter(pk=batch.pk).exists()


def test_nothing_of_one_item_is_left_for_the_next(ada: User) -> None:
    mine, theirs = sent(logged_in(), DOORS), sent(Client(enforce_csrf_checks=True), DOORS)
    drain()
    assert [user for _, user in outcomes(mine)] == ["ada", None, "ada", "ada", "ada"]
    assert [user for _, user in outcomes(theirs)] == [None, None, None, None, "AnonymousUser"]
