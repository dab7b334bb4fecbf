"""Uploaded files and pasted texts as documents: all of them are stored, or none."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Annotated

from django.db import IntegrityError
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from assistant.models import Document
from assistant.search.documents import BATCH_SIZE, replace_rows, validate_rows
from assistant.search.html import ParsedDocument
from assistant.search.readers import HEADING, MAX_TITLE_CHARS, DocumentError, clean_text, decode_text
from wire.api.json import NotJSON, loads

FILE_TYPES = (".txt", ".md", ".jsonl")
MAX_DOCUMENTS = 1_000
MAX_MESSAGES = 10

NonEmptyText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class UploadError(Exception):
    """The upload was refused and nothing is stored; each reason is a sentence for a person."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__(*reasons)
        self.reasons = reasons

    @property
    def messages(self) -> list[str]:
        rest = len(self.reasons) - MAX_MESSAGES
        return [*self.reasons[:MAX_MESSAGES], *([f"And {rest} more."] if rest > 0 else [])]


class DocumentLine(BaseModel):
    """A document as a line of JSON."""

    model_config = ConfigDict(extra="forbid", strict=True)

    title: Annotated[NonEmptyText, StringConstraints(max_length=MAX_TITLE_CHARS)]
    text: NonEmptyText
    source: str = ""
    url: str = ""
    credit: str = ""


@dataclass(frozen=True, slots=True)
class PendingDocument:
    """A document before it is stored; `location` tells the operator which file and line it came from."""

    location: str
    source: str
    rows: list[Document]


@dataclass(frozen=True, slots=True)
class UploadSummary:
    """The result of an upload: its documents, their passages, and how many documents replaced one."""

    documents: int
    passages: int
    replaced: int


def parse_file(name: str, data: bytes, *, credit: str) -> list[PendingDocument]:
    """Return the documents of a file. Raises `UploadError`."""
    file_type = PurePath(name).suffix.lower()
    try:
        if file_type not in FILE_TYPES:
            raise DocumentError(f"it isn't one of {', '.join(FILE_TYPES)}")
        text = decode_text(data)
        if file_type == ".jsonl":
            return parse_lines(name, text, credit=credit)
        return [
            make_pending(
                name, ParsedDocument(title_of(name, text), clean_text(text)), source=clean_text(name), credit=credit
            )
        ]
    except DocumentError as reason:
        raise UploadError([f"{name}: {reason}."]) from None


def title_of(name: str, text: str) -> str:
    heading = HEADING.search(text) if name.lower().endswith(".md") else None
    return clean_text(heading[1] if heading else PurePath(name).stem)[:MAX_TITLE_CHARS]


def parse_lines(name: str, text: str, *, credit: str) -> list[PendingDocument]:
    """Return the documents of a file of JSON lines. Raises `UploadError` with a reason for each invalid line."""
    found: list[PendingDocument] = []
    reasons: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        location = f"{name}, line {number}"
        try:
            found.append(parse_line(location, line, source=f"{name}:{number}", credit=credit))
        except DocumentError as reason:
            reasons.append(f"{location}: {reason}.")
    if not found and not reasons:
        raise DocumentError("there is no text in it")
    if reasons:
        raise UploadError(reasons)
    return found


def parse_line(location: str, text: str, *, source: str, credit: str) -> PendingDocument:
    try:
        line = DocumentLine.model_validate(loads(text.encode()))
    except NotJSON:
        raise DocumentError("it isn't valid JSON") from None
    except ValidationError as error:
        raise DocumentError("; ".join(validation_messages(error))) from None
    document = ParsedDocument(line.title, line.text)
    return make_pending(location, document, source=line.source or source, url=line.url, credit=line.credit or credit)


def validation_messages(error: ValidationError) -> Iterator[str]:
    for each in error.errors(include_url=False):
        name = ".".join(map(str, each["loc"]))
        yield f"{name}: {each['msg'].lower()}" if name else "it isn't an object with a title and a text"


def make_pending(
    location: str, document: ParsedDocument, *, source: str, url: str = "", credit: str = ""
) -> PendingDocument:
    if not document.text:
        raise DocumentError("there is no text in it")
    try:
        return PendingDocument(location, source, validate_rows(document, source=source, url=url, credit=credit))
    except DocumentError as reason:
        raise DocumentError(str(reason).rstrip(".")) from None


def store(found: Sequence[PendingDocument], *, replace: bool) -> UploadSummary:
    """Store all documents. Raises `UploadError`, also for a stored source that may not be replaced."""
    if reasons := [*check_count(found), *find_duplicates(found)]:
        raise UploadError(reasons)
    present = find_existing(found)
    if present and not replace:
        raise UploadError(
            [f"{pending.location}: the source {pending.source} is stored already." for pending in present]
        )
    rows = [row for pending in found for row in pending.rows]
    try:
        replace_rows(rows, replaced_sources=[pending.source for pending in present])
    except IntegrityError:
        raise UploadError(["A passage of one of these sources is stored already: choose another source."]) from None
    return UploadSummary(len(found), len(rows), len(present))


def check_count(found: Sequence[PendingDocument]) -> Iterator[str]:
    if len(found) > MAX_DOCUMENTS:
        yield f"These are {len(found):,} documents: add at most {MAX_DOCUMENTS:,} at once."


def find_duplicates(found: Sequence[PendingDocument]) -> Iterator[str]:
    seen: dict[str, str] = {}
    for pending in found:
        for row in pending.rows:
            if first := seen.get(row.source):
                yield f"{pending.location}: its source {row.source} is also that of {first}."
                break
            seen[row.source] = pending.location


def find_existing(found: Sequence[PendingDocument]) -> list[PendingDocument]:
    """Return the documents whose source is stored, whole or as passages."""
    names = [name for pending in found for name in (pending.source, f"{pending.source}#1")]
    slices = (names[start : start + BATCH_SIZE] for start in range(0, len(names), BATCH_SIZE))
    stored = {name for part in slices for name in stored_sources(part)}
    return [pending for pending in found if not stored.isdisjoint((pending.source, f"{pending.source}#1"))]


def stored_sources(names: Sequence[str]) -> Iterator[str]:
    return Document.objects.filter(source__in=names).values_list("source", flat=True).iterator()
