"""From a body to items: what is wrong with the batch refuses it, what is wrong with an item answers that item."""

import re
from collections.abc import Iterable
from typing import Any

from batching.errors import CallerError
from batching.items import paths, references
from batching.items.item import Item, ItemRequest, ItemResponse
from wire.api import json
from wire.api.json import NotJSON

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
FIELDS = {"id", "method", "path", "body", "headers", "depends_on"}
HEADER = re.compile(
    r"accept|accept-language|content-type|idempotency-key|if-[a-z-]+|prefer|x-request-id", re.IGNORECASE | re.ASCII
)
VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")
ID_MAX_CHARS = 255


class BadItem(CallerError):
    """An item can't be carried out as it is; it alone is answered with 400."""


def wrong(field: str, message: str) -> BadItem:
    return BadItem(f"{field}: {message}", details={field: [message]})


class Rules:
    """What is asked of every item: where it may lead to, and how many there may be."""

    def __init__(self, *, max_size: int, allowed: Iterable[str], script_name: str = "") -> None:
        self.max_size = max_size
        self.allowed = tuple(allowed)
        self.script_name = script_name

    def target(self, path: str) -> paths.Target:
        return paths.read(path, script_name=self.script_name, allowed=self.allowed)


def read(data: Any, rules: Rules) -> list[Item]:
    """Return the items of a batch, some perhaps answered with 400 already. Raises `CallerError` for a bad batch."""
    requests = listed(data, rules.max_size)
    items = [read_item(position, asked, rules) for position, asked in enumerate(requests)]
    refuse_duplicates(items)
    try:
        references.check({item.id: item.depends_on for item in items if isinstance(item.id, str)})
    except references.BadPlan as error:
        raise refused(str(error)) from None
    return items


def read_line(position: int, line: bytes | None, rules: Rules) -> Item:
    """Return the item that a line holds; None is a line that was too long."""
    try:
        if line is None:
            raise BadItem("The line is too long.")
        asked = json.loads(line)
    except (NotJSON, BadItem) as error:
        item = Item(position, None, None)
        refuse(item, BadItem(error.message))
        return item
    return read_item(position, asked, rules)


def refuse_dependencies(item: Item) -> None:
    """Refuse an item that builds on others, where items are carried out one by one."""
    if item.depends_on:
        refuse(item, wrong("depends_on", "The items of a background batch can't build on each other."))


def refused(message: str) -> CallerError:
    return CallerError(message, details={"requests": [message]})


def listed(data: Any, max_size: int) -> list[Any]:
    if not isinstance(data, dict):
        raise CallerError("The body has to be a JSON object.", details={"body": ["This has to be a JSON object."]})
    for field in data.keys() - {"requests"}:
        raise wrong(field, "This field isn't known.")
    requests = data.get("requests")
    if not isinstance(requests, list) or not requests:
        raise refused("requests has to be a list of at least one item.")
    if len(requests) > max_size:
        raise refused(f"A batch may have {max_size} items; this one has {len(requests)}.")
    return requests


def refuse_duplicates(items: list[Item]) -> None:
    seen: set[str] = set()
    for item in items:
        if isinstance(item.id, str) and item.id in seen:
            raise refused(f"Two items have the id {item.id}.")
        seen.add(item.id)


def read_item(position: int, asked: Any, rules: Rules) -> Item:
    item = Item(position, echoed(asked), asked)
    try:
        item.call = read_call(asked)
        item.depends_on, item.refers = read_dependencies(asked, item.call)
        check_target(item.call.path, rules)
    except CallerError as error:
        refuse(item, error)
    return item


def refuse(item: Item, error: CallerError) -> None:
    """Answer an item that can't be carried out."""
    item.call = None
    item.depends_on = ()
    item.call_off()
    item.settle(ItemResponse(error.status, error=error.message, details=error.details))


def echoed(asked: Any) -> str | int | None:
    """Return the id that the answer carries, also where it isn't one that is allowed."""
    given = asked.get("id") if isinstance(asked, dict) else None
    return given if isinstance(given, str | int) and not isinstance(given, bool) else None


def read_call(asked: Any) -> ItemRequest:
    if not isinstance(asked, dict):
        raise BadItem("An item has to be a JSON object.")
    for field in asked.keys() - FIELDS:
        raise wrong(field, "This field isn't known.")
    if len(text(asked, "id")) > ID_MAX_CHARS:
        raise wrong("id", f"This may have {ID_MAX_CHARS} characters.")
    return ItemRequest(
        method=read_method(asked),
        path=text(asked, "path"),
        headers=read_headers(asked.get("headers", {})),
        body=asked.get("body"),
        has_body="body" in asked,
    )


def text(asked: dict[str, Any], field: str) -> str:
    value = asked.get(field)
    if not isinstance(value, str) or not value:
        raise wrong(field, "This has to be a string with something in it.")
    return value


def read_method(asked: dict[str, Any]) -> str:
    method = text(asked, "method").upper()
    if method not in METHODS:
        raise wrong("method", f"This has to be one of {', '.join(METHODS)}.")
    return method


def read_headers(headers: Any) -> dict[str, str]:
    if not isinstance(headers, dict):
        raise wrong("headers", "This has to be a JSON object.")
    for name, value in headers.items():
        if not HEADER.fullmatch(name):
            raise wrong("headers", f"An item may not set {name}.")
        if not isinstance(value, str) or not VALUE.fullmatch(value):
            raise wrong("headers", f"{name} has to be a string that a header can hold.")
    lowered = {name.lower(): value for name, value in headers.items()}
    if len(lowered) != len(headers):
        raise wrong("headers", "The same header stands there twice.")
    return lowered


def read_dependencies(asked: dict[str, Any], call: ItemRequest) -> tuple[tuple[str, ...], bool]:
    """Return the ids of the items that have to succeed first, and whether values of theirs are referred to."""
    named = asked.get("depends_on", [])
    if not isinstance(named, list) or not all(isinstance(one, str) for one in named):
        raise wrong("depends_on", "This has to be a list of ids.")
    referred = [reference.item for reference in references.references([call.path, call.body])]
    return tuple(dict.fromkeys([*named, *referred])), bool(referred)


def check_target(path: str, rules: Rules) -> None:
    """Refuse a path that can't become a good one, whatever its references stand for."""
    try:
        rules.target(references.BRACES.sub("0", path))
    except paths.BadPath as error:
        raise wrong("path", error.message) from None
