"""Parse a page of HTML: its title and its main text."""

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

META_CHARSET = re.compile(rb"<meta[^>]{1,200}?charset\s*=\s*[\"']?([\w-]{1,40})", re.IGNORECASE)
# Python also has codecs that aren't charsets, some of which take quadratic time.
TEXT_CHARSET = re.compile(r"(utf-?(8|16)|us-ascii|iso-?8859|latin|windows-|cp12|koi8|shift|euc|gb|big5)[\w-]*$", re.I)
TITLE_TAGS = frozenset({"title", "h1"})
BLOCK_TAGS = TITLE_TAGS | {"p", "br", "div", "li", "tr", "section", "article", "pre", "h2", "h3", "h4", "h5", "h6"}
SKIPPED_TAGS = frozenset({"script", "style", "template", "noscript", "svg"})


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """The content of a file or page: a title, and text in paragraphs."""

    title: str
    text: str


class PlainTextParser(HTMLParser):
    """Extracts all text of a page, if trafilatura isn't installed or finds no main text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.titles: list[str] = []
        self._tag = ""
        self._skipped = 0
        self.feed(html)
        self.close()

    @property
    def document(self) -> ParsedDocument:
        lines = (" ".join(line.split()) for line in "".join(self.parts).splitlines())
        return ParsedDocument(" ".join("".join(self.titles[:1]).split()), "\n\n".join(line for line in lines if line))

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._tag = tag
        self._skipped += tag in SKIPPED_TAGS
        self._break(tag)

    def handle_endtag(self, tag: str) -> None:
        self._tag = ""
        self._skipped -= tag in SKIPPED_TAGS and self._skipped > 0
        self._break(tag)

    def handle_data(self, data: str) -> None:
        if self._tag in TITLE_TAGS and data.strip():
            self.titles.append(data)
        if not self._skipped and self._tag != "title":
            self.parts.append(data)

    def _break(self, tag: str) -> None:
        if tag in BLOCK_TAGS:
            self.parts.append("\n")


def parse_html(html: bytes, charset: str | None = None) -> ParsedDocument:
    """Return a page's title and main text; `charset` comes from the Content-Type header, if it has one."""
    text = decode_html(html, charset)
    extract = load_extractor()
    found = extract(text, with_metadata=True, include_comments=False) if extract else None
    return ParsedDocument(found.title or "", found.text) if found and found.text else PlainTextParser(text).document


def load_extractor() -> Callable[..., Any] | None:
    """Return trafilatura's extractor of a page's main text, None if it or a dependency isn't installed."""
    try:
        from trafilatura import bare_extraction
    except ImportError:
        return None
    return bare_extraction


def decode_html(html: bytes, charset: str | None) -> str:
    declared = META_CHARSET.search(html[:4096])
    name = charset or (declared[1].decode("ascii") if declared else "")
    if TEXT_CHARSET.match(name):
        with suppress(LookupError):
            return html.decode(name, "replace")
    return html.decode("utf-8", "replace")
