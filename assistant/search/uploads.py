"""What an operator uploads or pastes, as documents: all of it is stored, or nothing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Annotated

from django.db import IntegrityError
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from assistant.models import Document
from assistant.search.documents import (
    HEADING,
    MAX_TITLE_CHARS,
    SLICE,
    Reading,
    Unreadable,
    checked_rows,
    decoded,
    storable,
    store,
)
from wire.api.json import NotJSON, loads

KINDS = (".txt", ".md", ".jsonl")
MAX_DOCUMENTS = 1_000
MOST_REASONS = 10

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Refused(Exception):
    """Nothing was stored; each reason is a sentence for a person."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__(*reasons)
        self.reasons = reasons

    @property
    def shown(self) -> list[str]:
        rest = len(self.reasons) - MOST_REASONS
        return [*self.reasons[:MOST_REASONS], *([f"And {rest} more."] if rest > 0 else [])]


class Line(BaseModel):
    """A document as a line of JSON."""

    model_config = ConfigDict(extra="forbid", strict=True)

    title: Annotated[Text, StringConstraints(max_length=MAX_TITLE_CHARS)]
    text: Text
    source: str = ""
    url: str = ""
    credit: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A document that is to be stored; `where` it came from is for whoever uploads it."""

    where: str
    source: str
    rows: list[Document]


@dataclass(frozen=True, slots=True)
class Stored:
    """What was stored: documents, the passages that they make, and how many of them replaced one."""

    documents: int
    passages: int
    replaced: int


def entries(name: str, data: bytes, *, credit: str) -> list[Entry]:
    """Return the documents of a file. Raises `Refused`."""
    kind = PurePath(name).suffix.lower()
    try:
        if kind not in KINDS:
            raise Unreadable(f"it isn't one of {', '.join(KINDS)}")
        text = decoded(data)
        if kind == ".jsonl":
            return lines(name, text, credit=credit)
        return [entry(name, Reading(title_of(name, text), storable(text)), source=storable(name), credit=credit)]
    except Unreadable as reason:
        raise Refused([f"{name}: {reason}."]) from None


def title_of(name: str, text: str) -> str:
    heading = HEADING.search(text) if name.lower().endswith(".md") else None
    return storable(heading[1] if heading else PurePath(name).stem)[:MAX_TITLE_CHARS]


def lines(name: str, text: str, *, credit: str) -> list[Entry]:
    """Return the documents of a file of JSON lines. Raises `Refused` with the reason for each line that isn't one."""
    found: list[Entry] = []
    reasons: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        try:
            found.append(line_entry(where, line, source=f"{name}:{number}", credit=credit))
        except Unreadable as reason:
            reasons.append(f"{where}: {reason}.")
    if not found and not reasons:
        raise Unreadable("there is no text in it")
    if reasons:
        raise Refused(reasons)
    return found


def line_entry(where: str, text: str, *, source: str, credit: str) -> Entry:
    try:
        line = Line.model_validate(loads(text.encode()))
    except NotJSON:
        raise Unreadable("it isn't valid JSON") from None
    except ValidationError as error:
        raise Unreadable("; ".join(described(error))) from None
    reading = Reading(line.title, line.text)
    return entry(where, reading, source=line.source or source, url=line.url, credit=line.credit or credit)


def described(error: ValidationError) -> Iterator[str]:
    for each in error.errors(include_url=False):
        name = ".".join(map(str, each["loc"]))
        yield f"{name}: {each['msg'].lower()}" if name else "it isn't an object with a title and a text"


def entry(where: str, reading: Reading, *, source: str, url: str = "", credit: str = "") -> Entry:
    if not reading.text:
        raise Unreadable("there is no text in it")
    try:
        return Entry(where, source, checked_rows(reading, source=source, url=url, credit=credit))
    except Unreadable as reason:
        raise Unreadable(str(reason).rstrip(".")) from None


def put(found: Sequence[Entry], *, replace: bool) -> Stored:
    """Store all of the entries. Raises `Refused`, also where one is there already and isn't to be replaced."""
    if reasons := [*too_many(found), *doubled(found)]:
        raise Refused(reasons)
    present = there(found)
    if present and not replace:
        raise Refused([f"{each.where}: there is a document of the source {each.source} already." for each in present])
    rows = [row for each in found for row in each.rows]
    try:
        store(rows, instead_of=[each.source for each in present])
    except IntegrityError:
        raise Refused(["A passage of one of these sources is stored already: add it under another source."]) from None
    return Stored(len(found), len(rows), len(present))


def too_many(found: Sequence[Entry]) -> Iterator[str]:
    if len(found) > MAX_DOCUMENTS:
        yield f"These are {len(found):,} documents: at most {MAX_DOCUMENTS:,} can be added at once."


def doubled(found: Sequence[Entry]) -> Iterator[str]:
    seen: dict[str, str] = {}
    for each in found:
        for row in each.rows:
            if first := seen.get(row.source):
                yield f"{each.where}: it has the source {row.source}, as {first} has."
                break
            seen[row.source] = each.where


def there(found: Sequence[Entry]) -> list[Entry]:
    """Return the entries of which something is stored, whole or as passages."""
    names = [name for each in found for name in (each.source, f"{each.source}#1")]
    slices = (names[start : start + SLICE] for start in range(0, len(names), SLICE))
    stored = {name for part in slices for name in sources(part)}
    return [each for each in found if not stored.isdisjoint((each.source, f"{each.source}#1"))]


def sources(names: Sequence[str]) -> Iterator[str]:
    return Document.objects.filter(source__in=names).values_list("source", flat=True).iterator()
