"""Parse a body into items: an error in the batch refuses the batch, an error in an item settles that item alone."""

import re
from typing import Any

from batching.errors import BadItem, CallerError
from batching.items import dependencies, references
from batching.items.item import Item, ItemRequest, ItemResponse
from batching.items.paths import AllowedPaths, BadPath
from wire.api import json
from wire.api.json import NotJSON

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
FIELDS = {"id", "method", "path", "body", "headers", "depends_on"}
HEADER = re.compile(
    r"accept|accept-language|content-type|idempotency-key|if-[a-z-]+|prefer|x-request-id", re.IGNORECASE | re.ASCII
)
VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")
ID_MAX_CHARS = 255


def parse_batch(data: Any, allowed: AllowedPaths, *, max_size: int) -> list[Item]:
    """Return the items of a batch, bad ones settled with a 400. Raises `CallerError` for a bad batch."""
    items = [parse_item(position, raw, allowed) for position, raw in enumerate(requests_of(data, max_size))]
    refuse_duplicates(items)
    dependencies.check({item.id: item.depends_on for item in items if isinstance(item.id, str)})
    return items


def parse_line(position: int, line: bytes | None, allowed: AllowedPaths) -> Item:
    """Return the item in a line of NDJSON; None stands for a line that is too long."""
    try:
        if line is None:
            raise BadItem("The line is too long.")
        raw = json.loads(line)
    except (NotJSON, BadItem) as error:
        item = Item(position, None, None)
        refuse(item, BadItem(error.message))
        return item
    return parse_item(position, raw, allowed)


def refuse_dependencies(item: Item) -> None:
    """Refuse an item that depends on others, where items are executed one by one."""
    if item.depends_on:
        refuse(item, BadItem("The items of a background batch can't build on each other.", field="depends_on"))


def bad_batch(message: str) -> CallerError:
    return CallerError(message, details={"requests": [message]})


def requests_of(data: Any, max_size: int) -> list[Any]:
    if not isinstance(data, dict):
        raise CallerError("The body has to be a JSON object.", details={"body": ["This has to be a JSON object."]})
    for field in data.keys() - {"requests"}:
        raise BadItem("This field isn't known.", field=field)
    requests = data.get("requests")
    if not isinstance(requests, list) or not requests:
        raise bad_batch("requests has to be a list of at least one item.")
    if len(requests) > max_size:
        raise bad_batch(f"A batch may have {max_size} items; this one has {len(requests)}.")
    return requests


def refuse_duplicates(items: list[Item]) -> None:
    seen: set[str] = set()
    for item in items:
        if isinstance(item.id, str) and item.id in seen:
            raise bad_batch(f"Two items have the id {item.id}.")
        seen.add(item.id)


def parse_item(position: int, raw: Any, allowed: AllowedPaths) -> Item:
    item = Item(position, id_of(raw), raw)
    try:
        item.request = parse_request(raw)
        item.depends_on, item.has_references = parse_dependencies(raw, item.request)
        check_target(item.request.path, allowed)
    except CallerError as error:
        refuse(item, error)
    return item


def refuse(item: Item, error: CallerError) -> None:
    """Settle an item that can't be executed."""
    item.request = None
    item.depends_on = ()
    item.prevent_start()
    item.settle(ItemResponse.from_error(error))


def id_of(raw: Any) -> str | int | None:
    """Return the id that the response echoes, also where it isn't an allowed one."""
    given = raw.get("id") if isinstance(raw, dict) else None
    return given if isinstance(given, str | int) and not isinstance(given, bool) else None


def parse_request(raw: Any) -> ItemRequest:
    if not isinstance(raw, dict):
        raise BadItem("An item has to be a JSON object.")
    for field in raw.keys() - FIELDS:
        raise BadItem("This field isn't known.", field=field)
    if len(text(raw, "id")) > ID_MAX_CHARS:
        raise BadItem(f"This may have {ID_MAX_CHARS} characters.", field="id")
    return ItemRequest(
        method=parse_method(raw),
        path=text(raw, "path"),
        headers=parse_headers(raw.get("headers", {})),
        body=raw.get("body"),
        has_body="body" in raw,
    )


def text(raw: dict[str, Any], field: str) -> str:
    value = raw.get(field)
    if not isinstance(value, str) or not value:
        raise BadItem("This has to be a string with something in it.", field=field)
    return value


def parse_method(raw: dict[str, Any]) -> str:
    method = text(raw, "method").upper()
    if method not in METHODS:
        raise BadItem(f"This has to be one of {', '.join(METHODS)}.", field="method")
    return method


def parse_headers(headers: Any) -> dict[str, str]:
    if not isinstance(headers, dict):
        raise BadItem("This has to be a JSON object.", field="headers")
    for name, value in headers.items():
        if not HEADER.fullmatch(name):
            raise BadItem(f"An item may not set {name}.", field="headers")
        if not isinstance(value, str) or not VALUE.fullmatch(value):
            raise BadItem(f"{name} has to be a string that a header can hold.", field="headers")
    lowered = {name.lower(): value for name, value in headers.items()}
    if len(lowered) != len(headers):
        raise BadItem("The same header stands there twice.", field="headers")
    return lowered


def parse_dependencies(raw: dict[str, Any], request: ItemRequest) -> tuple[tuple[str, ...], bool]:
    """Return the ids of the items that have to succeed first, and whether the request refers to their values."""
    named = raw.get("depends_on", [])
    if not isinstance(named, list) or not all(isinstance(one, str) for one in named):
        raise BadItem("This has to be a list of ids.", field="depends_on")
    referred = [reference.item for reference in references.find([request.path, request.body])]
    return tuple(dict.fromkeys([*named, *referred])), bool(referred)


def check_target(path: str, allowed: AllowedPaths) -> None:
    """Refuse a path that is bad whatever the values of its references."""
    try:
        allowed.target(references.BRACES.sub("0", path))
    except BadPath as error:
        raise BadItem(error.message, field="path") from None
