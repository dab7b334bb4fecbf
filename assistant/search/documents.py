"""Texts as documents: split into passages and stored."""

import re
from collections.abc import Iterable

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q, QuerySet

from assistant.models import Document
from assistant.search.html import ParsedDocument
from assistant.search.readers import DocumentError

# A passage has to fit into the context of a small model.
PASSAGE_CHARS = 4_000
BATCH_SIZE = 1_000


def split_passages(text: str, size: int = PASSAGE_CHARS) -> list[str]:
    """Split a text into parts of at most `size` characters, at headings and paragraphs if possible."""
    parts = []
    start = 0
    while len(text) - start > size:
        end = find_boundary(text, start, size)
        parts.append(text[start:end].strip())
        start = end
    return [part for part in (*parts, text[start:].strip()) if part]


def find_boundary(text: str, start: int, size: int) -> int:
    """Return the last boundary in the second half: of a heading, a paragraph, a line, a sentence or a word."""
    for mark in ("\n#", "\n\n", "\n", ". ", " "):
        place = text.rfind(mark, start + size // 2, start + size)
        if place >= 0:
            return place + 1
    return start + size


def to_rows(document: ParsedDocument, *, source: str, url: str = "", credit: str = "") -> list[Document]:
    """Return a document as rows: one, or for a long text one per passage (`source#1`, `source#2`)."""
    parts = split_passages(document.text)
    if len(parts) == 1:
        return [Document(source=source, title=document.title, text=parts[0], url=url, credit=credit)]
    return [
        Document(
            source=f"{source}#{number}",
            title=document.title if number == 1 else f"{document.title} ({number})",
            text=part,
            url=url,
            credit=credit,
        )
        for number, part in enumerate(parts, 1)
    ]


def add_document(document: ParsedDocument, *, source: str, url: str = "", credit: str = "") -> int:
    """Store a document in place of its earlier rows, and return the number of rows.

    Raises `DocumentError` if its URL, credit or source is too long or invalid.
    """
    rows = validate_rows(document, source=source, url=url, credit=credit)
    replace_rows(rows, replaced_sources=[source])
    return len(rows)


def validate_rows(document: ParsedDocument, *, source: str, url: str = "", credit: str = "") -> list[Document]:
    """Return a document as rows. Raises `DocumentError` if one of them can't be stored."""
    rows = to_rows(document, source=source, url=url, credit=credit)
    try:
        rows[-1].clean_fields(exclude=["text"])
    except ValidationError as error:
        raise DocumentError(" ".join(error.messages)) from error
    return rows


def replace_rows(rows: list[Document], *, replaced_sources: Iterable[str]) -> None:
    """Store all of the rows, or none, in place of the rows of these sources."""
    with transaction.atomic():
        for source in replaced_sources:
            rows_of_source(source).delete()
        Document.objects.bulk_create(rows, batch_size=BATCH_SIZE)


def rows_of_source(source: str) -> QuerySet[Document]:
    """Return the rows of a source: itself, or its passages."""
    near = Document.objects.filter(Q(source=source) | Q(source__startswith=f"{source}#")).values_list("pk", "source")
    own = re.compile(rf"{re.escape(source)}(#\d+)?")
    return Document.objects.filter(pk__in=[key for key, name in near if own.fullmatch(name)])
