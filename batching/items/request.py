"""From what an item asks for to the request that travels."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from batching.errors import CallerError, FailedDependency
from batching.items import paths, references
from batching.items.item import ItemRequest
from batching.items.parse import Rules, wrong
from batching.items.request_factory import PreparedRequest


class TooLong(CallerError):
    """What references stand for would make the item larger than a batch may be."""

    status = 413
    message = "What the references stand for is too long."


def prepared(call: ItemRequest, rules: Rules, extra: Mapping[str, str]) -> PreparedRequest:
    """Return the request that a call stands for; `extra` headers give way to its own. Raises `CallerError`."""
    headers = {**extra, **call.headers}
    content = b""
    if call.has_body:
        content = encoded(call, headers)
        headers["content-length"] = str(len(content))
    return PreparedRequest(call.method, rules.target(call.path), headers, content)


def stored(call: ItemRequest) -> str:
    """Return a call as it is kept until it is carried out: whole, credentials included."""
    return json.dumps({name: getattr(call, name) for name in ItemRequest.__slots__})


def restored(text: str) -> ItemRequest:
    return ItemRequest(**json.loads(text))


def encoded(call: ItemRequest, headers: dict[str, str]) -> bytes:
    """Return the body as it travels: JSON, or a string as it is where the item's Content-Type is another."""
    kind = headers.setdefault("content-type", "application/json").partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        return json.dumps(call.body, ensure_ascii=False).encode(errors="surrogatepass")
    if not isinstance(call.body, str):
        raise wrong("body", f"With the Content-Type {kind} this has to be a string.")
    return call.body.encode(errors="surrogatepass")


def filled(call: ItemRequest, bodies: Mapping[str, Any], rules: Rules, room: int) -> ItemRequest:
    """Return the call with what its references stand for. Raises `FailedDependency` and `TooLong`."""
    values = references.Values(bodies, room)
    try:
        path, body = values.fill_path(call.path), values.fill(call.body)
    except references.MissingValue as error:
        raise FailedDependency(f"Failed dependency: {error}") from None
    except references.TooMuch:
        raise TooLong from None
    if path != call.path:
        refuse_detour(path, references.Values(bodies, room).fill_path(call.path, slash="-"), rules)
    return replace(call, path=path, body=body)


def refuse_detour(path: str, harmless: str, rules: Rules) -> None:
    """Refuse a value that would change what is called, not only with what."""
    try:
        detour = path != harmless and paths.leads_elsewhere(rules.target(path), rules.target(harmless))
        rules.target(path)
    except paths.BadPath:
        detour = True
    if detour:
        raise FailedDependency("Failed dependency: a value that the path refers to can't stand in a path.")
