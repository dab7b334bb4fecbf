"""Errors of views have one shape and tell no secret."""

import pytest
from django.test import Client

from tests.wire.api.api import SECRET, post

pytestmark = pytest.mark.urls("tests.wire.api.api")


@pytest.mark.parametrize(
    ("what", "status", "error"),
    [
        ("crash", 500, "Something went wrong in the service."),
        ("wire", 500, "It is full."),
        ("missing", 404, "Not found."),
        ("forbidden", 403, "You may not do this."),
        ("throttled", 429, "Request was throttled. Expected available in 2 seconds."),
        ("suspicious", 400, "The request can't be understood."),
        ("unreachable", 503, "The database can't be reached right now."),
        ("lost", 503, "The database can't be reached right now."),
        ("mistaken", 500, "Something went wrong in the service."),
    ],
)
def test_every_error_has_one_shape_and_tells_no_secret(client: Client, what: str, status: int, error: str) -> None:
    response = client.get("/api/echo", {"raise": what})
    assert response.status_code == status
    assert response.json() | {"details": None} == {"error": error, "code": status, "details": None}
    assert SECRET not in response.content.decode()


def test_an_error_says_when_to_come_back(client: Client) -> None:
    assert client.get("/api/echo", {"raise": "wire"})["Retry-After"] == "3"
    assert client.get("/api/echo", {"raise": "throttled"})["Retry-After"] == "2"
    assert client.get("/api/echo", {"raise": "unreachable"})["Retry-After"] == "5"


def test_details_name_the_inner_field(client: Client) -> None:
    response = post(client, "/api/checked", b'{"text": "a", "inner": [{"b": 1}, {"d": "c"}]}')
    assert response.json() == {
        "error": "inner.1.d: A valid integer is required.",
        "code": 400,
        "details": {"inner.1.d": ["A valid integer is required."]},
    }
