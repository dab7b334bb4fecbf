import json
from typing import Any

import pytest
from django.http import HttpRequest
from django.test import AsyncRequestFactory, RequestFactory

from batching.errors import BadItem
from batching.items import request_factory
from batching.items.item import ItemRequest
from batching.items.request_factory import factory_for

OUTER = {"wsgi": RequestFactory().post, "asgi": AsyncRequestFactory().post}


def outer(server: str, **headers: str) -> HttpRequest:
    return OUTER[server]("/api/batch", b"{}", content_type="application/json", headers=headers)


@pytest.mark.parametrize("server", OUTER)
def test_a_request_has_the_callers_headers_and_the_items_own(server: str) -> None:
    factory = factory_for(outer(server, Cookie="a=1", Prefer="respond-async"), ["/api/"])
    item = ItemRequest("PUT", "/api/caf%C3%A9?a=b", {"accept": "text/plain", "x-request-id": "own"}, [1], has_body=True)
    request = factory.request(item, {"x-request-id": "default", "idempotency-key": "key"})
    assert (request.method, request.path, request.GET["a"]) == ("PUT", "/api/café", "b")
    assert json.loads(request.body) == [1]
    assert (request.COOKIES, request.content_type) == ({"a": "1"}, "application/json")
    assert (request.headers["Accept"], request.headers["X-Request-ID"]) == ("text/plain", "own")
    assert request.headers["Idempotency-Key"] == "key"
    assert "Prefer" not in request.headers


def test_an_item_has_a_path_of_its_own_behind_mod_rewrite() -> None:
    batch = RequestFactory().post("/api/batch", SCRIPT_URL="/sub/api/batch")
    request = factory_for(batch, ["/api/"]).request(ItemRequest("GET", "/api/x"), {})
    assert (request.path, request.META["SCRIPT_NAME"]) == ("/sub/api/x", "/sub")


def test_a_stored_request_has_no_credentials() -> None:
    stored = request_factory.dump(outer("wsgi", Cookie="a=1", Authorization="Bearer x", **{"Accept-Language": "de"}))
    request = request_factory.load(json.loads(json.dumps(stored)), ["/api/"]).request(ItemRequest("GET", "/api/x"), {})
    assert request.headers["Accept-Language"] == "de"
    assert "Authorization" not in request.headers
    assert request.COOKIES == {}


@pytest.mark.parametrize("body", [{"a": 1}, None])
def test_a_body_of_another_type_has_to_be_text(body: Any) -> None:
    item = ItemRequest("POST", "/api/x", {"content-type": "text/plain"}, body, has_body=True)
    with pytest.raises(BadItem, match="With the Content-Type text/plain this has to be a string"):
        factory_for(outer("wsgi"), ["/api/"]).request(item, {})
