"""What a query finds and why, for whoever keeps the documents: the tool's own search, with what matched marked."""

import re
import time
from dataclasses import dataclass

from assistant.models import Document
from assistant.search.query import Hit, all_words, content_words, search

LIMIT = 10
# Private characters, which no text has a use for.
MARKS = ("\ue000", "\ue001")
MARKED = re.compile("\ue000([^\ue000\ue001]*)\ue001")


@dataclass(frozen=True, slots=True)
class Piece:
    text: str
    is_match: bool


@dataclass(frozen=True, slots=True)
class Finding:
    """A hit with its place in the list; `key` is its document's, None where that is gone since."""

    rank: int
    hit: Hit
    key: int | None
    title: list[Piece]
    snippet: list[Piece]
    words: int

    @property
    def matched_words(self) -> int:
        return round(self.hit.matched * self.words)

    @property
    def forms(self) -> list[str]:
        """What matched, as it is written in the title and the snippet."""
        matched = (piece.text.lower() for piece in (*self.title, *self.snippet) if piece.is_match)
        return list(dict.fromkeys(matched))


@dataclass(frozen=True, slots=True)
class Lookup:
    """`words` were looked for; those `left_out` say nothing by themselves, or are too many. `seconds`: it took."""

    words: list[str]
    left_out: list[str]
    findings: list[Finding]
    seconds: float


def look_up(query: str) -> Lookup:
    """Search as the tool does. Raises `ImproperlyConfigured` as `search` does."""
    began = time.perf_counter()
    hits = search(query, LIMIT, MARKS)
    seconds = time.perf_counter() - began
    words = content_words(query)
    sources = [hit.source for hit in hits]
    keys = dict(Document.objects.filter(source__in=sources).values_list("source", "pk"))
    findings = [
        Finding(rank, hit, keys.get(hit.source), pieces(hit.title), pieces(hit.snippet), len(words))
        for rank, hit in enumerate(hits, 1)
    ]
    return Lookup(words, [word for word in all_words(query) if word not in words], findings, seconds)


def pieces(text: str) -> list[Piece]:
    """Cut a text at its marks: what isn't marked and what is take turns."""
    parts = MARKED.split(text)
    return [Piece(part, index % 2 == 1) for index, part in enumerate(parts) if part]
