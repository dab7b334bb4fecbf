"""How the items of a batch build on each other: `depends_on`, and `{{id.body.path}}` for a value in an earlier answer.

`{{a.body.results.0.title}}` is, in the body that answered item `a`, the first of `results` and its `title`. Alone in a
string it stands for the value with its type; among other text for its text, or its JSON where it isn't a string. In a
path it is percent-encoded. What it stands for is never searched for references again, and never run. A reference is a
dependency too. Anything else between `{{` and `}}` is text, and so are braces that aren't closed.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any
from urllib.parse import quote

# Without braces inside, the nearest pair is found in time that grows with the length of the text.
BRACES = re.compile(r"\{\{([^{}]+)\}\}")


class BadPlan(Exception):
    """The items can't be ordered: a dependency is unknown, on itself, or circular. The text is for a person."""


class MissingValue(Exception):
    """An answer doesn't have the value that a reference names. The text is for a person."""


class TooMuch(Exception):
    """The values would make the item larger than it may be. The text is for a person."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A value in the body that answered an item: the item's id, and the keys that lead from the body to it."""

    text: str
    item: str
    keys: tuple[str, ...]


def parse(text: str) -> Reference | None:
    """Read what stands between two pairs of braces; None where it isn't a reference."""
    item, dot, keys = text.strip().partition(".body")
    if not item or not dot or (keys and not keys.startswith(".")):
        return None
    return Reference(text.strip(), item, tuple(keys[1:].split(".")) if keys else ())


def references(value: Any) -> Iterator[Reference]:
    """Yield the references in a path or in the values of a body."""
    for text in strings(value):
        for found in BRACES.finditer(text):
            if reference := parse(found[1]):
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


def check(dependencies: Mapping[str, Iterable[str]]) -> None:
    """Raise `BadPlan` unless every item can start once those that it depends on have ended."""
    for item, needed in dependencies.items():
        for other in needed:
            if other == item:
                raise BadPlan(f"Item {item} depends on itself.")
            if other not in dependencies:
                raise BadPlan(f"Item {item} depends on {other}, which isn't in the batch.")
    try:
        TopologicalSorter(dependencies).prepare()
    except CycleError as error:
        raise BadPlan(f"These items depend on each other in a circle: {' on '.join(error.args[1][::-1])}.") from None


class Values:
    """What references stand for: the bodies of answers by item, and how many characters may come out of them."""

    def __init__(self, bodies: Mapping[str, Any], room: int) -> None:
        self.bodies = bodies
        self.room = room

    def fill(self, value: Any) -> Any:
        """Return a body with what its references stand for. Raises `MissingValue` and `TooMuch`."""
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
        """Return a path with what its references stand for, percent-encoded; `slash` stands for each slash in it.

        Raises `MissingValue` and `TooMuch`.
        """
        return self.substitute(path, lambda value: as_segment(value).replace("%2F", slash))

    def substitute(self, text: str, encode: Callable[[Any], str]) -> str:
        def replacement(found: re.Match[str]) -> str:
            reference = parse(found[1])
            return self.count(encode(self.look_up(reference))) if reference else found[0]

        return BRACES.sub(replacement, text)

    def count(self, text: str) -> str:
        self.room -= len(text)
        if self.room < 0:
            raise TooMuch("What the references stand for is too long.")
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
    raise MissingValue(f"There is no value for {{{{{reference.text}}}}}.")


def as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def as_segment(value: Any) -> str:
    """Encode a value so that nothing in it reads as a part of the path around it."""
    return quote(as_text(value), safe="", errors="replace")
