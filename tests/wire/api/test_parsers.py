"""A body is strict JSON in UTF-8, up to a limit."""

from typing import Any

import pytest
from django.test import Client

from tests.wire.api.api import post

pytestmark = pytest.mark.urls("tests.wire.api.api")


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{}", "application/json", 200),
        (b"{}", "application/json; charset=utf-8", 200),
        (b"{}", 'application/json; charset="UTF-8"', 200),
        ("{}".encode("utf-16"), "application/json; charset=utf-16", 415),
        (b"{}", "text/plain", 415),
        (b"a=1", "application/x-www-form-urlencoded", 415),
        (b"{}", "multipart/form-data; boundary=x", 415),
        (b"{}", "", 415),
        (b"1e999", "application/json", 400),
        (b'{"a": 1, "a": 1}', "application/json", 400),
    ],
)
def test_a_body_is_json_in_utf_8(client: Client, body: bytes, content_type: str, status: int) -> None:
    response = post(client, "/api/echo", body, content_type)
    assert response.status_code == status
    assert status == 200 or response.json()["code"] == status


def test_a_body_over_the_limit_is_refused(client: Client, settings: Any) -> None:
    settings.BODY_MAX_BYTES = 10
    assert post(client, "/api/echo", b'"23456789"').status_code == 200
    response = post(client, "/api/echo", b'"234567890"')
    assert (response.status_code, response.json()["error"]) == (413, "The body is larger than 10 bytes.")
