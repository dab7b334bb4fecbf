"""From an item's response to its answer."""

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

# What a caller is told beside the body; Set-Cookie and what the server says of itself never.
HEADERS = {
    *("content-disposition", "content-language", "etag", "idempotency-replayed", "last-modified", "link", "location"),
    *("preference-applied", "retry-after", "www-authenticate", "x-request-id"),
}
TEXTS = ("application/javascript", "application/x-www-form-urlencoded", "application/xml", "application/yaml")

NO_STREAM = ItemResponse(NoStream.status, error=NoStream.message)
CRASHED = ItemResponse(500, error=sentence(500))


def read(response: HttpResponseBase) -> ItemResponse:
    """Return the answer that a response stands for."""
    if not isinstance(response, HttpResponse):
        return NO_STREAM
    kind = media_type(response)
    body, encoding, is_json = read_body(response, kind)
    told = HEADERS | {"allow"} if response.status_code == 405 else HEADERS
    headers = {name: value for name, value in response.items() if name.lower() in told}
    if response.content and not is_json:
        headers["Content-Type"] = response.headers.get("Content-Type", "")
    if response.status_code >= 400:
        return failed(response.status_code, body if is_json else None, headers)
    return ItemResponse(response.status_code, body, headers=headers, encoding=encoding)


def media_type(response: HttpResponseBase) -> str:
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def read_body(response: HttpResponse, kind: str) -> tuple[Any, str, bool]:
    """Return the body, its encoding, and whether it was JSON."""
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


def failed(status: int, body: Any, headers: Mapping[str, str]) -> ItemResponse:
    """Return an error in the words of the item's own answer, as far as it has any."""
    if not isinstance(body, dict):
        return ItemResponse(status, error=sentence(status), details=body, headers=headers)
    said = next((body[name] for name in ("error", "detail") if isinstance(body.get(name), str)), None)
    details = body.get("details") if said else body
    return ItemResponse(status, error=said or sentence(status), details=details, headers=headers)


def loads(content: bytes) -> Any:
    """Parse JSON that can stand in the envelope; duplicate keys and long integers are the view's own affair."""
    return DECODER.decode(content.decode())


DECODER = json.JSONDecoder(parse_constant=refuse_constant, parse_float=parse_float)
