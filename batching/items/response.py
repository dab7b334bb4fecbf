"""Read a Django response into the response of an item."""

import json
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from django.http import HttpResponse
from django.http.response import HttpResponseBase

from batching.items.item import ItemResponse
from wire.api.json import NotJSON, parse_float, refuse_constant
from wire.api.sse import NoStream
from wire.errors import sentence

# Headers that a caller gets beside the body; never Set-Cookie, nor those that describe the server.
HEADERS = {
    *("content-disposition", "content-language", "etag", "idempotency-replayed", "last-modified", "link", "location"),
    *("preference-applied", "retry-after", "www-authenticate", "x-request-id"),
}
TEXTS = ("application/javascript", "application/x-www-form-urlencoded", "application/xml", "application/yaml")

# Deeper JSON is text: a database or a parser might not take it.
MAX_DEPTH = 500
TOO_LONG = "The answer has more than {} bytes, which is the limit of an item (BATCH_ITEM_MAX_BYTES)."
NO_STREAM = ItemResponse(NoStream.status, error=NoStream.message)
CRASHED = ItemResponse(500, error=sentence(500))


def read(response: HttpResponseBase, max_bytes: int) -> ItemResponse:
    """Return a response as an item's; a stream, and more than `max_bytes`, are errors."""
    if not isinstance(response, HttpResponse):
        return NO_STREAM
    if len(response.content) > max_bytes:
        return ItemResponse(502, error=TOO_LONG.format(max_bytes), is_final=True)
    kind = media_type(response)
    body, encoding, is_json = read_body(response, kind)
    names = HEADERS | {"allow"} if response.status_code == 405 else HEADERS
    headers = {name: value for name, value in response.items() if name.lower() in names}
    if response.content and not is_json:
        headers["Content-Type"] = response.headers.get("Content-Type", "")
    if response.status_code >= 400:
        return read_error(response.status_code, body if is_json else None, headers)
    return ItemResponse(response.status_code, body, headers=headers, encoding=encoding)


def media_type(response: HttpResponseBase) -> str:
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def read_body(response: HttpResponse, kind: str) -> tuple[Any, str, bool]:
    """Return the body, its encoding, and whether it is JSON."""
    content = response.content
    if not content:
        return None, "", False
    if kind == "application/json" or kind.endswith("+json"):
        try:
            return loads(content), "", True
        except (NotJSON, ValueError, RecursionError):
            kind = "text/plain"
    if kind.startswith("text/") or kind.endswith("+xml") or kind in TEXTS:
        try:
            return content.decode(response.charset), "", False
        except (LookupError, UnicodeDecodeError):
            pass
    return b64encode(content).decode("ascii"), "base64", False


def read_error(status: int, body: Any, headers: Mapping[str, str]) -> ItemResponse:
    """Return an error with the message of the view, where its body has one."""
    if not isinstance(body, dict):
        return ItemResponse(status, error=sentence(status), details=body, headers=headers)
    message = next((body[name] for name in ("error", "detail") if isinstance(body.get(name), str)), None)
    details = body.get("details") if message else body
    return ItemResponse(status, error=message or sentence(status), details=details, headers=headers)


def loads(content: bytes) -> Any:
    """Parse JSON that the envelope can hold; duplicate keys and long integers are up to the view."""
    value = DECODER.decode(content.decode())
    if content.count(b"[") + content.count(b"{") > MAX_DEPTH and is_deep(value):
        raise NotJSON
    return value


def is_deep(value: Any) -> bool:
    """Tell whether lists and objects are nested deeper than MAX_DEPTH."""
    level = [value]
    for _ in range(MAX_DEPTH):
        outer = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [inner for some in outer for inner in some]
        if not level:
            return False
    return True


DECODER = json.JSONDecoder(parse_constant=refuse_constant, parse_float=parse_float)
