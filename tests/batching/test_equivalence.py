"""An item is a direct call: the same requests, sent alone, as a batch of one and within a batch of ten, end alike."""

import json
import random
import re
from contextvars import Context
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connections
from django.test import Client

from tests.batching.conftest import asgi, wsgi
from tests.host import views

# What a database does in its own way shows soon.
ROUNDS = 12 if connections["default"].vendor == "sqlite" else 4
BATCH = 10

TEXTS = [
    "",
    "a",
    "é",
    "日本",
    "a/b",
    "a?b",
    "a&b=c",
    "{{",
    "}}",
    "{{a}}",
    "a b",
    "%",
    "%2e",
    "\u2028",
    "'\"<>",
    "\t\n",
    "\U0001f600",
]
NUMBERS = [0, -1, 1.5, 1e300, 2**63 - 1, -(2**63), True, False, None]
PATHS = [
    *(
        "/api/echo",
        "/api/echo-plain",
        "/api/echo-async",
        "/api/echo/name",
        "/api/echo/a%20b/more",
        "/api/files/a/b%20c",
    ),
    *("/api/groups", "/api/private", "/api/protected", "/api/nothing", "/api/around", "/api/around-async"),
    *(
        f"/api/answering/{what}"
        for what in ("html", "latin", "bytes", "nothing", "unchanged", "nan", "long", "problem")
    ),
    *(f"/api/answering/{what}" for what in ("fields", "house", "teapot", "unheard", "away", "later", "empty", "list")),
    *(
        "/api/raising/error",
        "/api/raising/missing",
        "/api/raising/forbidden",
        "/api/raising/none",
        "/api/raising/twice",
    ),
    *("/api/raising-async/error", "/api/raising-async/missing", "/api/marking", "/api/slow?seconds=0"),
]


class Requests:
    """Varied requests, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.number = 0

    def value(self, depth: int = 0) -> Any:
        match self.random.randrange(6 if depth < 3 else 4):
            case 4:
                return [self.value(depth + 1) for _ in range(self.random.randrange(3))]
            case 5:
                return {self.random.choice(TEXTS): self.value(depth + 1) for _ in range(self.random.randrange(3))}
            case even if even % 2:
                return self.random.choice(NUMBERS)
            case _:
                return self.random.choice(TEXTS)

    def path(self) -> str:
        path = self.random.choice(PATHS)
        if self.random.random() < 0.3:
            path += ("&" if "?" in path else "?") + self.random.choice(
                ["a=1&a=2", "q=%C3%A9+x", "x=%2F%3F", "empty=", "plain"]
            )
        return path

    def headers(self) -> dict[str, str]:
        choices = {
            "Accept": ["application/json", "text/html", "*/*", "application/xml"],
            "Accept-Language": ["de", "fr;q=0.5, ja", "xx"],
            "If-Match": ['"1"'],
            "Prefer": ["return=minimal"],
        }
        return {name: self.random.choice(some) for name, some in choices.items() if self.random.random() < 0.2}

    def one(self) -> dict[str, Any]:
        self.number += 1
        method = self.random.choice(["GET", "GET", "POST", "POST", "PUT", "PATCH", "DELETE"])
        made: dict[str, Any] = {
            "id": str(self.number),
            "method": method,
            "path": self.path(),
            "headers": self.headers(),
        }
        if self.random.random() < 0.6:
            made["body"] = self.value()
        if made["path"].startswith("/api/groups") and method == "POST":
            fail = {"fail": 1} if self.random.random() < 0.3 else {}
            made["body"] = {"name": f"group {self.number}", **fail}
        return made


def direct(send: Any, client: Client, made: dict[str, Any]) -> tuple[int, Any]:
    """Send a request alone and say what of its answer the contract promises."""
    body = {"data": json.dumps(made["body"], ensure_ascii=False)} if "body" in made else {}
    headers = {**caller(client), **made["headers"]}
    # The test client keeps what a view activated (a language, a time zone); the next request of a server finds nothing.
    response = Context().run(send, made["method"], made["path"], body.get("data"), headers=headers)
    return response.status_code, content(response)


def content(response: Any) -> Any:
    """Return a direct response's body as an item's would be."""
    if response.status_code >= 400:
        return None
    if not response.content:
        return None
    kind = response["Content-Type"]
    if kind.startswith("application/json"):
        try:
            return json.loads(response.content, parse_constant=int)
        except ValueError:
            return response.content.decode()
    return response.content.decode(response.charset) if kind.startswith("text/") else "bytes"


def batched(send: Any, client: Client, requests: list[dict[str, Any]]) -> list[tuple[int, Any]]:
    response = send("POST", "/api/batch", {"requests": requests}, headers=caller(client))
    assert response.status_code == 200, response.content
    return [
        (one["status"], "bytes" if one.get("encoding") else one.get("body")) for one in response.json()["responses"]
    ]


def caller(client: Client) -> dict[str, str]:
    cookies = "; ".join(f"{name}={morsel.value}" for name, morsel in client.cookies.items())
    return {"cookie": cookies, "x-csrftoken": client.cookies["csrftoken"].value, "accept-language": "en"}


def groups() -> list[str]:
    """Return the names of the groups that are there, and take them away."""
    names = sorted(Group.objects.values_list("name", flat=True))
    Group.objects.all().delete()
    return names


def comparable(answer: tuple[int, Any]) -> tuple[int, Any]:
    """Leave out what differs between any two calls: the number of a new row."""
    status, body = answer
    if isinstance(body, dict) and body.keys() == {"id"}:
        return status, "a new row"
    if isinstance(body, dict) and body.keys() == {"names"}:
        return status, "names"
    if isinstance(body, str) and "<!DOCTYPE html>" in body:
        return status, re.sub("[0-9]+|csrf.*", "", body)
    return status, body


@pytest.fixture
def client(committed: None) -> Client:
    """Return a client that has a session and a CSRF token, as a browser that is logged in."""
    client = Client()
    client.force_login(User.objects.create_user("ada", password="x"))
    client.cookies["csrftoken"] = "a" * 32
    return client


@pytest.mark.parametrize("send", [wsgi, asgi], ids=["wsgi", "asgi"])
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_alone_as_a_batch_of_one_and_in_a_batch_of_ten_all_is_alike(send: Any, seed: int, client: Client) -> None:
    made = Requests(seed)
    for _ in range(5):
        requests = [made.one() for _ in range(BATCH)]
        alone = [comparable(direct(send, client, one)) for one in requests]
        names = groups()
        ones = [comparable(batched(send, client, [one])[0]) for one in requests]
        assert groups() == names
        ten = [comparable(one) for one in batched(send, client, requests)]
        assert groups() == names
        for request, expected, first, second in zip(requests, alone, ones, ten, strict=True):
            assert first == expected, request
            assert second == expected, request
    views.seen.clear()
