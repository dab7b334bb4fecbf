"""Read files of text, Markdown, HTML and PDF."""

import re
from collections.abc import Callable
from pathlib import Path

from assistant.search.html import ParsedDocument, parse_html
from wire.api.json import UNSTORABLE

MAX_TITLE_CHARS = 250
EXTRA = "pip install django-assistant-backend[documents]"

HEADING = re.compile(r"^#{1,6}\s+(.+?)[\s#]*$", re.MULTILINE)


class DocumentError(Exception):
    """A file that can't become a document; the message says why."""


def find_files(root: Path) -> list[Path]:
    """Return the readable files under a folder without hidden ones; the path itself if there are none."""
    if not root.is_dir():
        return [root]
    inside = (path.relative_to(root) for path in sorted(root.rglob("*")) if path.suffix.lower() in READERS)
    return [root / path for path in inside if not any(part.startswith(".") for part in path.parts)] or [root]


def read_file(path: Path) -> ParsedDocument:
    """Read a file by its suffix. Raises `DocumentError`."""
    if not path.exists():
        raise DocumentError("it doesn't exist")
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise DocumentError(f"it isn't one of {', '.join(sorted(READERS))}")
    try:
        document = read(path)
    except OSError as error:
        raise DocumentError(error.strerror or "it can't be read") from error
    if not document.text.strip():
        raise DocumentError("there is no text in it")
    return ParsedDocument(clean_text(document.title or path.stem)[:MAX_TITLE_CHARS], clean_text(document.text))


def read_text(path: Path) -> ParsedDocument:
    return ParsedDocument("", decode_text(path.read_bytes()))


def read_markdown(path: Path) -> ParsedDocument:
    text = decode_text(path.read_bytes())
    heading = HEADING.search(text)
    return ParsedDocument(heading[1] if heading else "", text)


def read_html(path: Path) -> ParsedDocument:
    return parse_html(path.read_bytes())


def read_pdf(path: Path) -> ParsedDocument:
    try:
        from pypdf import PdfReader
    except ImportError:
        raise DocumentError(f"PDF needs pypdf: {EXTRA}") from None
    try:
        reader = PdfReader(path)
        if reader.is_encrypted and not reader.decrypt(""):
            raise DocumentError("it is encrypted")
        title = (reader.metadata.title if reader.metadata else None) or ""
        return ParsedDocument(title.strip(), "\n\n".join(page.extract_text() for page in reader.pages))
    except (DocumentError, OSError):
        raise
    except Exception as error:  # pypdf raises nearly any exception for a damaged file
        raise DocumentError("it isn't a PDF that can be read") from error


READERS: dict[str, Callable[[Path], ParsedDocument]] = {
    ".txt": read_text,
    ".md": read_markdown,
    ".html": read_html,
    ".htm": read_html,
    ".pdf": read_pdf,
}


def decode_text(data: bytes) -> str:
    """Decode UTF-8, or UTF-16 with a byte order mark. Raises `DocumentError` for anything else."""
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        raise DocumentError("it isn't text in UTF-8") from None
    if "\x00" in text:
        raise DocumentError("it is binary")
    return text.replace("\r\n", "\n")


def clean_text(text: str) -> str:
    """Replace characters that a database can't store, and strip white space."""
    return UNSTORABLE.sub("\ufffd", text).strip()
