"""The hits of a query and why they match: the tool's own search, with the matches marked."""

import re
import time
from dataclasses import dataclass

from assistant.models import Document
from assistant.search.query import Hit, all_words, content_words, search

MAX_HITS = 10
# Private-use characters, which don't occur in texts.
MARKS = ("\ue000", "\ue001")
MARKED = re.compile("\ue000([^\ue000\ue001]*)\ue001")


@dataclass(frozen=True, slots=True)
class TextSegment:
    text: str
    is_match: bool


@dataclass(frozen=True, slots=True)
class RankedHit:
    """A hit with its place in the list; `key` is its document's, None if that was deleted meanwhile."""

    rank: int
    hit: Hit
    key: int | None
    title: list[TextSegment]
    snippet: list[TextSegment]
    words: int

    @property
    def matched_words(self) -> int:
        return round(self.hit.matched * self.words)

    @property
    def forms(self) -> list[str]:
        """Return the matched forms as the title and the snippet spell them."""
        matched = (segment.text.lower() for segment in (*self.title, *self.snippet) if segment.is_match)
        return list(dict.fromkeys(matched))


@dataclass(frozen=True, slots=True)
class LookupResult:
    """The hits of a query. Of its words, `words` were searched and `ignored` (stop words, excess words) were not."""

    words: list[str]
    ignored: list[str]
    hits: list[RankedHit]
    seconds: float


def run_lookup(query: str) -> LookupResult:
    """Search as the tool does. Raises `ImproperlyConfigured`, as `search` does."""
    began = time.perf_counter()
    found = search(query, MAX_HITS, MARKS)
    seconds = time.perf_counter() - began
    words = content_words(query)
    sources = [hit.source for hit in found]
    keys = dict(Document.objects.filter(source__in=sources).values_list("source", "pk"))
    hits = [
        RankedHit(rank, hit, keys.get(hit.source), split_marks(hit.title), split_marks(hit.snippet), len(words))
        for rank, hit in enumerate(found, 1)
    ]
    return LookupResult(words, [word for word in all_words(query) if word not in words], hits, seconds)


def split_marks(text: str) -> list[TextSegment]:
    """Split a text at its marks; unmarked and marked parts alternate."""
    parts = MARKED.split(text)
    return [TextSegment(part, index % 2 == 1) for index, part in enumerate(parts) if part]
