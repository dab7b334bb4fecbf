"""An item as a `curl` command."""

import json
import subprocess
from typing import Any
from urllib.parse import unquote

import pytest
from django.test import Client

from tests.batching.admin_pages import page_named
from tests.batching.factories import make


def test_an_item_has_a_page_with_a_command_that_runs_it_again(admin: Client) -> None:
    body = {"message": 'It\'s $HOME `x` \\ "q"\nسلم', "password": "********"}
    headers = {"Accept-Language": "de", "X-Request-ID": "a'b"}
    path = "/api/عربي?q={a,b}&x=[1-2]"
    batch = make({"method": "POST", "path": path, "request_body": body, "request_headers": headers})
    response = admin.get(page_named("item", batch, 0))
    words = arguments(response.context["command"])
    assert words[:3] == ["--globoff", "-X", "POST"]
    assert words[3].isascii()
    assert unquote(words[3]) == f"http://testserver{path}"
    sent = ["Accept-Language: de", "Content-Type: application/json", "X-Request-ID: a'b"]
    assert sorted(words[5:-2:2]) == sent
    assert words[4:-2:2] == ["-H"] * 3
    assert words[-2] == "--data-raw"
    assert json.loads(words[-1]) == body
    assert "replace the masked values" in response.content.decode()


def test_a_body_that_is_no_json_travels_as_it_is(admin: Client) -> None:
    form = {"method": "POST", "request_body": "a=1&b='", "request_headers": {"content-type": "text/plain"}}
    words = arguments(admin.get(page_named("item", make(form), 0)).context["command"])
    assert words[-4:] == ["-H", "content-type: text/plain", "--data-raw", "a=1&b='"]
    words = arguments(admin.get(page_named("item", make({}), 0)).context["command"])
    assert words == ["-X", "GET", "http://testserver/api/x"]


def arguments(command: str) -> list[str]:
    """Return what a shell hands to curl."""
    script = "curl() { printf '%s\\0' \"$@\"; }\n" + command
    return subprocess.run(["sh", "-c", script], capture_output=True, check=True).stdout.decode().split("\0")[:-1]


@pytest.mark.parametrize(
    "item",
    [
        {"path": "//evil.example/", "status": 400, "started": None},
        {"path": "http://evil.example/"},
        {"method": ""},
        {"status": 400, "started": None, "request_body": {"id": "a", "path": "/api/x", "method": "BREW"}},
    ],
)
def test_what_never_was_a_request_has_no_command(admin: Client, item: dict[str, Any]) -> None:
    response = admin.get(page_named("item", make(item), 0))
    assert response.context["command"] is None
    assert "This item was refused as invalid" in response.content.decode()
