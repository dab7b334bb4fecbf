"""No id in a path and no parameter of a query is a 500, on SQLite and on PostgreSQL."""

from base64 import b64encode
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from assistant.models import APIKey
from tests.assistant.conftest import ada, db  # noqa: F401  # fixtures

IDS = ["%00", "a%00b", "%ff", "%ed%a0%80", quote("\U0001f600"), "x" * 5_000, "-1", "..", "%20", "%0a", "'", "{id}"]
VALUES = ["", "%00", "%ff", "-1", "9" * 400, "1e999", "null", "x" * 5_000, quote("\U0001f600"), "%0a"]
PARAMETERS = [
    "after",
    "cursor",
    "expires_after",
    "format",
    "on_disconnect",
    "page_size",
    "priority",
    "q",
    "status",
    "stream",
]
CURSORS = ["p=abc", "p=", "p=2026-13-45", "p=%00", "r=1&p=9" + "9" * 400]


def templates(patterns: Any, prefix: str = "") -> Iterator[str]:
    """Yield the paths of the API, with a `{}` for each id."""
    for each in patterns:
        path = prefix + str(each.pattern)
        if isinstance(each, URLResolver):
            yield from templates(each.url_patterns, path)
        elif isinstance(each, URLPattern) and path.startswith("api/"):
            for converter in ("message_id", "conversation_id", "batch_id", "name"):
                path = path.replace(f"<str:{converter}>", "{}")
            yield f"/{path}"


PATHS = sorted({path for path in templates(get_resolver().url_patterns) if "<" not in path})


@pytest.fixture
def client(ada: Any, settings: Any) -> Client:  # noqa: F811  # a fixture
    settings.BATCH_RUN_IN_SERVER = False
    secret = APIKey.issue(user=ada, name="hostile")[1]
    return Client(raise_request_exception=False, headers={"authorization": f"Bearer {secret}"})


@pytest.mark.parametrize("path", [path for path in PATHS if "{}" in path])
def test_no_id_is_a_500(client: Client, path: str) -> None:
    for hostile in IDS:
        for method in ("GET", "POST", "PATCH", "DELETE"):
            response = client.generic(method, path.format(hostile), "{}", content_type="application/json")
            assert response.status_code in (400, 403, 404, 405), (method, hostile)


@pytest.mark.parametrize("path", ["/api/batch", "/api/conversations", "/api/agents", "/api/tools"])
def test_no_parameter_of_a_query_is_a_500(client: Client, path: str) -> None:
    for name in PARAMETERS:
        for value in VALUES:
            assert client.get(f"{path}?{name}={value}").status_code in (200, 400), (name, value)


@pytest.mark.parametrize("path", ["/api/batch", "/api/conversations"])
@pytest.mark.parametrize("position", CURSORS)
def test_a_cursor_that_the_list_did_not_give_is_a_400(client: Client, path: str, position: str) -> None:
    client.get(path)
    response = client.get(path, {"cursor": b64encode(position.encode()).decode()})
    assert response.status_code in ((200, 400) if position == "p=" else (400,))
    if response.status_code == 400:
        assert "cursor" in response.json()["details"]
