"""References between items: `{{id.body.path}}` in a path or a body stands for a value in another item's response.

`{{a.body.results.0.title}}` is the `title` of the first of `results` in the body of the response to item `a`. Alone in
a string, it stands for the value with its type; within other text, for the value as text, or as JSON where it isn't a
string. In a path it is percent-encoded. A value is never searched for references itself, and never run as code. A
reference is a dependency too. Other text between `{{` and `}}` stays as it is, and so do unclosed braces.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from batching.errors import CallerError, FailedDependency
from batching.items import paths
from batching.items.item import ItemRequest
from batching.items.paths import AllowedPaths

# Without braces inside, the nearest pair is found in time that grows with the length of the text.
BRACES = re.compile(r"\{\{([^{}]+)\}\}")


class TooLong(CallerError):
    """The values of references would make the item larger than a batch may be."""

    status = 413
    message = "The values of the references are too long."


@dataclass(frozen=True, slots=True)
class Reference:
    """A value in the body of a response: the id of the item, and the keys from the body to the value."""

    text: str
    item: str
    keys: tuple[str, ...]


def parse(text: str) -> Reference | None:
    """Parse the text between two pairs of braces; None where it isn't a reference."""
    item, dot, keys = text.strip().partition(".body")
    if not item or not dot or (keys and not keys.startswith(".")):
        return None
    return Reference(text.strip(), item, tuple(keys[1:].split(".")) if keys else ())


def find(value: Any) -> Iterator[Reference]:
    """Yield the references in a path or in the values of a body."""
    for text in strings(value):
        for match in BRACES.finditer(text):
            if reference := parse(match[1]):
                yield reference


def strings(value: Any) -> Iterator[str]:
    waiting = [value]
    while waiting:
        match waiting.pop():
            case str() as text:
                yield text
            case dict() as mapping:
                waiting.extend(mapping.values())
            case list() as items:
                waiting.extend(items)


def resolve(request: ItemRequest, bodies: Mapping[str, Any], allowed: AllowedPaths, max_chars: int) -> ItemRequest:
    """Return a request with the values of its references, at most `max_chars` of them in all.

    Raises `FailedDependency` and `TooLong`.
    """
    values = Values(bodies, max_chars)
    path, body = values.fill_path(request.path), values.fill(request.body)
    if path != request.path:
        refuse_detour(path, Values(bodies, max_chars).fill_path(request.path, slash="-"), allowed)
    return replace(request, path=path, body=body)


def refuse_detour(path: str, placeholder: str, allowed: AllowedPaths) -> None:
    """Refuse a value that would change which view is called."""
    try:
        detour = path != placeholder and paths.changes_route(allowed.target(path), allowed.target(placeholder))
        allowed.target(path)
    except paths.BadPath:
        detour = True
    if detour:
        raise FailedDependency("Failed dependency: a value that the path refers to can't stand in a path.")


class Values:
    """The values of references: the bodies of responses by item, and the characters that they may fill."""

    def __init__(self, bodies: Mapping[str, Any], max_chars: int) -> None:
        self.bodies = bodies
        self.chars_left = max_chars

    def fill(self, value: Any) -> Any:
        """Return a body with the values of its references. Raises `FailedDependency` and `TooLong`."""
        match value:
            case str():
                return self.fill_text(value)
            case dict():
                return {key: self.fill(inner) for key, inner in value.items()}
            case list():
                return [self.fill(inner) for inner in value]
            case _:
                return value

    def fill_text(self, text: str) -> Any:
        whole = BRACES.fullmatch(text)
        if whole and (reference := parse(whole[1])):
            value = self.look_up(reference)
            self.count(as_text(value))
            return value
        return self.substitute(text, as_text)

    def fill_path(self, path: str, *, slash: str = "%2F") -> str:
        """Return a path with the values of its references, percent-encoded; `slash` replaces each slash in a value.

        Raises `FailedDependency` and `TooLong`.
        """
        return self.substitute(path, lambda value: as_segment(value).replace("%2F", slash))

    def substitute(self, text: str, encode: Callable[[Any], str]) -> str:
        def replacement(match: re.Match[str]) -> str:
            reference = parse(match[1])
            return self.count(encode(self.look_up(reference))) if reference else match[0]

        return BRACES.sub(replacement, text)

    def count(self, text: str) -> str:
        self.chars_left -= len(text)
        if self.chars_left < 0:
            raise TooLong
        return text

    def look_up(self, reference: Reference) -> Any:
        value = self.bodies[reference.item]
        for key in reference.keys:
            value = step(value, key, reference)
        return value


def step(value: Any, key: str, reference: Reference) -> Any:
    if isinstance(value, dict) and key in value:
        return value[key]
    if isinstance(value, list) and re.fullmatch("[0-9]{1,9}", key) and int(key) < len(value):
        return value[int(key)]
    raise FailedDependency(f"Failed dependency: There is no value for {{{{{reference.text}}}}}.")


def as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def as_segment(value: Any) -> str:
    """Encode a value so that no character of it has a meaning in the path."""
    return quote(as_text(value), safe="", errors="replace")
