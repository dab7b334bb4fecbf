"""Files as documents: text, Markdown, HTML and PDF, read, cut into passages and stored."""

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q, QuerySet

from assistant.models import Document
from wire.api.json import UNSTORABLE

# A passage has to fit into what a small model is given.
PASSAGE_CHARS = 4_000
MAX_TITLE_CHARS = 250
SLICE = 1_000
EXTRA = "pip install django-assistant-backend[documents]"

HEADING = re.compile(r"^#{1,6}\s+(.+?)[\s#]*$", re.MULTILINE)
DECLARED_CHARSET = re.compile(rb"<meta[^>]{1,200}?charset\s*=\s*[\"']?([\w-]{1,40})", re.IGNORECASE)
# Codecs that are charsets: Python also has some that take time that grows with the square of the length.
TEXT_CHARSET = re.compile(r"(utf-?(8|16)|us-ascii|iso-?8859|latin|windows-|cp12|koi8|shift|euc|gb|big5)[\w-]*$", re.I)
TITLES = frozenset({"title", "h1"})
BLOCKS = TITLES | {"p", "br", "div", "li", "tr", "section", "article", "pre", "h2", "h3", "h4", "h5", "h6"}
UNREAD = frozenset({"script", "style", "template", "noscript", "svg"})


class Unreadable(Exception):
    """A file that can't become a document; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read: a title, and text in paragraphs."""

    title: str
    text: str


# Finding files and reading them.


def find_files(root: Path) -> list[Path]:
    """Return the files of a known kind under a folder, hidden ones left out; without any, the path itself."""
    if not root.is_dir():
        return [root]
    inside = (path.relative_to(root) for path in sorted(root.rglob("*")) if path.suffix.lower() in READERS)
    return [root / path for path in inside if not any(part.startswith(".") for part in path.parts)] or [root]


def read_file(path: Path) -> Reading:
    """Read a file by the kind that its name tells; raises `Unreadable`."""
    if not path.exists():
        raise Unreadable("it doesn't exist")
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise Unreadable(f"it isn't one of {', '.join(sorted(READERS))}")
    try:
        reading = read(path)
    except OSError as error:
        raise Unreadable(error.strerror or "it can't be read") from error
    if not reading.text.strip():
        raise Unreadable("there is no text in it")
    return Reading(storable(reading.title or path.stem)[:MAX_TITLE_CHARS], storable(reading.text))


def read_text(path: Path) -> Reading:
    return Reading("", decoded(path.read_bytes()))


def read_markdown(path: Path) -> Reading:
    text = decoded(path.read_bytes())
    heading = HEADING.search(text)
    return Reading(heading[1] if heading else "", text)


def read_html(path: Path) -> Reading:
    return readable(path.read_bytes())


def read_pdf(path: Path) -> Reading:
    try:
        from pypdf import PdfReader
    except ImportError:
        raise Unreadable(f"PDF needs pypdf: {EXTRA}") from None
    try:
        reader = PdfReader(path)
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable("it is encrypted")
        title = (reader.metadata.title if reader.metadata else None) or ""
        return Reading(title.strip(), "\n\n".join(page.extract_text() for page in reader.pages))
    except (Unreadable, OSError):
        raise
    except Exception as error:  # pypdf raises nearly anything at a damaged file
        raise Unreadable("it isn't a PDF that can be read") from error


READERS: dict[str, Callable[[Path], Reading]] = {
    ".txt": read_text,
    ".md": read_markdown,
    ".html": read_html,
    ".htm": read_html,
    ".pdf": read_pdf,
}


def decoded(data: bytes) -> str:
    """Decode UTF-8, or UTF-16 with its mark; raises `Unreadable` for what isn't text."""
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        raise Unreadable("it isn't text in UTF-8") from None
    if "\x00" in text:
        raise Unreadable("it is binary")
    return text.replace("\r\n", "\n")


def storable(text: str) -> str:
    """Replace what a database can't hold."""
    return UNSTORABLE.sub("\ufffd", text).strip()


# HTML.


class HTMLText(HTMLParser):
    """All text of a page, for when trafilatura isn't installed or finds no main part in it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.titles: list[str] = []
        self._open = ""
        self._unread = 0
        self.feed(html)
        self.close()

    @property
    def reading(self) -> Reading:
        lines = (" ".join(line.split()) for line in "".join(self.parts).splitlines())
        return Reading(" ".join("".join(self.titles[:1]).split()), "\n\n".join(line for line in lines if line))

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._open = tag
        self._unread += tag in UNREAD
        self._break(tag)

    def handle_endtag(self, tag: str) -> None:
        self._open = ""
        self._unread -= tag in UNREAD and self._unread > 0
        self._break(tag)

    def handle_data(self, data: str) -> None:
        if self._open in TITLES and data.strip():
            self.titles.append(data)
        if not self._unread and self._open != "title":
            self.parts.append(data)

    def _break(self, tag: str) -> None:
        if tag in BLOCKS:
            self.parts.append("\n")


def readable(html: bytes, charset: str | None = None) -> Reading:
    """Return a page's title and its main text; `charset` is what the server said, if anything."""
    text = decoded_html(html, charset)
    extract = extractor()
    found = extract(text, with_metadata=True, include_comments=False) if extract else None
    return Reading(found.title or "", found.text) if found and found.text else HTMLText(text).reading


def extractor() -> Callable[..., Any] | None:
    """Return what finds the main part of a page, where it is installed (with all that it needs itself)."""
    try:
        from trafilatura import bare_extraction
    except ImportError:
        return None
    return bare_extraction


def decoded_html(html: bytes, charset: str | None) -> str:
    declared = DECLARED_CHARSET.search(html[:4096])
    name = charset or (declared[1].decode("ascii") if declared else "")
    if TEXT_CHARSET.match(name):
        with suppress(LookupError):
            return html.decode(name, "replace")
    return html.decode("utf-8", "replace")


# Passages, and storing them.


def passages(text: str, size: int = PASSAGE_CHARS) -> list[str]:
    """Cut a text into parts of at most `size` characters, at headings and paragraphs where that is possible."""
    parts = []
    start = 0
    while len(text) - start > size:
        end = border(text, start, size)
        parts.append(text[start:end].strip())
        start = end
    return [part for part in (*parts, text[start:].strip()) if part]


def border(text: str, start: int, size: int) -> int:
    """Return the last good place to cut in the second half: a heading, a paragraph, a line, a sentence, a word."""
    for mark in ("\n#", "\n\n", "\n", ". ", " "):
        place = text.rfind(mark, start + size // 2, start + size)
        if place >= 0:
            return place + 1
    return start + size


def documents_of(reading: Reading, *, source: str, url: str = "", credit: str = "") -> list[Document]:
    """Return a reading as rows: one, or one a passage (`source#1`, `source#2`) where it is long."""
    parts = passages(reading.text)
    if len(parts) == 1:
        return [Document(source=source, title=reading.title, text=parts[0], url=url, credit=credit)]
    return [
        Document(
            source=f"{source}#{number}",
            title=reading.title if number == 1 else f"{reading.title} ({number})",
            text=part,
            url=url,
            credit=credit,
        )
        for number, part in enumerate(parts, 1)
    ]


def add(reading: Reading, *, source: str, url: str = "", credit: str = "") -> int:
    """Store a reading in place of what was stored of it before, and return the number of rows.

    Raises `Unreadable` where its address, credit or source is longer than can be stored.
    """
    rows = checked_rows(reading, source=source, url=url, credit=credit)
    store(rows, instead_of=[source])
    return len(rows)


def checked_rows(reading: Reading, *, source: str, url: str = "", credit: str = "") -> list[Document]:
    """Return a reading as rows; raises `Unreadable` where one of them can't be stored."""
    rows = documents_of(reading, source=source, url=url, credit=credit)
    try:
        rows[-1].clean_fields(exclude=["text"])
    except ValidationError as error:
        raise Unreadable(" ".join(error.messages)) from error
    return rows


def store(rows: list[Document], *, instead_of: Iterable[str]) -> None:
    """Store all of the rows, or none, in place of what is stored of these sources."""
    with transaction.atomic():
        for source in instead_of:
            stored(source).delete()
        Document.objects.bulk_create(rows, batch_size=SLICE)


def stored(source: str) -> QuerySet[Document]:
    """Return the rows of a source: itself, or its passages."""
    near = Document.objects.filter(Q(source=source) | Q(source__startswith=f"{source}#")).values_list("pk", "source")
    own = re.compile(rf"{re.escape(source)}(#\d+)?")
    return Document.objects.filter(pk__in=[key for key, name in near if own.fullmatch(name)])
