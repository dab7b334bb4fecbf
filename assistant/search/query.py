"""Full-text search of the documents, on SQLite (FTS5) and PostgreSQL alike.

The database keeps the index in step (migration 0002). A query is plain words: nothing in it is syntax.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router
from django.db.backends.base.base import BaseDatabaseWrapper

from assistant.models import Document

MAX_WORDS = 16
# How many the database ranks before titles are looked at.
CANDIDATES = 20
MAX_WORD_CHARS = 64
MAX_QUERY_CHARS = 2_000
# A hit carries a passage, not a book that somebody has put into one document.
MAX_TEXT_CHARS = 4_000
# snippet() takes time that grows with the square of a document's length: two minutes for 400,000 characters.
MAX_SNIPPET_SOURCE_CHARS = 8_000

# Words that say nothing about what is sought: those that PostgreSQL leaves out, and those that questions begin with.
SAYING_NOTHING = """
a about above after again against all am an and any are as at be because been before being below between both but by can
could define describe did do does doing don down during each explain few for from further had has have having he her
here hers herself him himself his how i if in into is it its itself just let me more most my myself no nor not now of
off on once only or other our ours ourselves out over own please s same she should so some such t tell than that the
their theirs them themselves then there these they this those through to too under until up very was we were what when
where which while who whom whose why will with would you your yours yourself yourselves
"""
STOP_WORDS = frozenset(SAYING_NOTHING.split())

SearchRow = tuple[Any, ...]
Marks = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Hit:
    """A document that was found, or a passage of one.

    `snippet` is plain text of about 300 characters, `text` the beginning of the document (both are, where the document
    is very long). `matched` is the share of the query's words that it has; `score` compares the hits of one query.
    """

    title: str
    url: str
    snippet: str
    text: str
    source: str
    credit: str
    score: float
    matched: float


def search(query: str, limit: int = 5, marks: Marks = ("", "")) -> list[Hit]:
    """Return the documents that have words of the query, best first; none where the query has no words.

    `marks` are put around what matched in titles and snippets (SQLite: of a very long document in the title alone).
    Raises `ImproperlyConfigured` on a database other than SQLite and PostgreSQL.
    """
    words = content_words(query)
    if not words:
        return []
    connection = connections[router.db_for_read(Document)]
    find = ENGINES.get(connection.vendor)
    if find is None:
        raise ImproperlyConfigured("Documents can be searched on SQLite and PostgreSQL only.")
    found = [hit_of(row, words) for row in find(connection, words, max(limit, CANDIDATES), marks)]
    return sorted(found, key=lambda hit: hit.score, reverse=True)[:limit]


def content_words(query: str) -> list[str]:
    """Return the words to look for, each once; stop words only where there is nothing else."""
    words = [word for word in all_words(query) if len(word) <= MAX_WORD_CHARS]
    return ([word for word in words if word not in STOP_WORDS] or words)[:MAX_WORDS]


def all_words(query: str) -> list[str]:
    """Return the words of a query, each once."""
    return list(dict.fromkeys(re.findall(r"[^\W_]+", unicodedata.normalize("NFC", query[:MAX_QUERY_CHARS]).lower())))


def hit_of(row: SearchRow, words: Sequence[str]) -> Hit:
    title, url, snippet, text, source, credit, rank, matched = row
    share = matched / len(words)
    better = 1 + about(title, words) if matched == len(words) else 1
    score = float(f"{rank * better:.4g}")  # a rank may be a millionth
    return Hit(title, url, " ".join(snippet.split()), text, source, credit, score, round(share, 4))


def about(title: str, words: Sequence[str]) -> float:
    """Return the share of a title's words that are sought: "DNA" is about DNA, "DNA profiling" by half.

    Neither engine knows: to them a title that has the word has it, however much else it says.
    """
    named = content_words(title)
    return sum(any(alike(name, word) for word in words) for name in named) / len(named) if named else 0.0


def alike(one: str, other: str) -> bool:
    """Tell whether two words are forms of one: vaccine and vaccination, cat and cats."""
    short, long = sorted((one, other), key=len)
    return short[:5] == long[:5] if len(short) >= 5 else long.startswith(short) and len(long) - len(short) <= 2


# One way for each database; the rows have the columns that `hit_of` names.

SQLITE = """
SELECT highlight(assistant_document_index, 0, %(before)s, %(after)s), document.url,
    CASE WHEN length(document.text) > %(longest)s THEN substr(document.text, 1, 300)
    ELSE snippet(assistant_document_index, 1, %(before)s, %(after)s, '...', 48) END,
    substr(document.text, 1, %(most)s), document.source, document.credit, -found.rank,
    (
        SELECT count(*) FROM json_each(%(words)s) AS word WHERE EXISTS (
            SELECT 1 FROM assistant_document_index AS one
            WHERE one.assistant_document_index MATCH word.value AND one.rowid = found.rowid
        )
    )
FROM assistant_document_index AS found JOIN assistant_document AS document ON document.id = found.rowid
WHERE found.assistant_document_index MATCH %(any)s AND found.rank MATCH 'bm25(8.0, 1.0)'
ORDER BY found.rank LIMIT %(limit)s
"""

# ts_rank doesn't know that a rare word says more than a common one, so a word weighs the less the more documents have
# it; nor that one document with all of the words is worth more than many with one, hence the factor count(*).
# ts_headline leaves out what looks like a tag, so that < and > are other signs while it looks.
POSTGRESQL = """
WITH word AS MATERIALIZED (
    SELECT query, 1 / ln(3 + (
        SELECT count(*) FROM (SELECT FROM assistant_document WHERE search_vector @@ query LIMIT 10000) AS having_it
    )) AS weight
    FROM (SELECT plainto_tsquery('english', unnest(%(words)s::text[])) AS query) AS asked
),
found AS (
    SELECT id, count(*) AS matched,
        count(*) * sum(weight * ts_rank('{0.1, 0.1, 0.3, 1}', search_vector, query, 1)) AS rank
    FROM word JOIN assistant_document ON search_vector @@ query
    GROUP BY id ORDER BY rank DESC, id LIMIT %(limit)s
)
SELECT
    CASE WHEN %(before)s = '' THEN title ELSE translate(
        ts_headline('english', translate(title, '<>', '\ue002\ue003'), sought, marks || ', HighlightAll=true'),
        '\ue002\ue003', '<>'
    ) END,
    url,
    CASE WHEN length(text) > 300
        THEN ts_headline(
            'english', left(text, %(longest)s), sought, marks || ', MaxFragments=1, MaxWords=48, MinWords=40'
        )
        WHEN %(before)s = '' THEN text
        ELSE translate(
            ts_headline('english', translate(text, '<>', '\ue002\ue003'), sought, marks || ', HighlightAll=true'),
            '\ue002\ue003', '<>'
        ) END,
    left(text, %(most)s), source, credit, rank, matched
FROM found JOIN assistant_document USING (id), websearch_to_tsquery('english', %(any)s) AS sought,
    format('StartSel="%%s", StopSel="%%s"', %(before)s::text, %(after)s::text) AS marks
ORDER BY rank DESC, id
"""


def find_on_sqlite(connection: BaseDatabaseWrapper, words: Sequence[str], limit: int, marks: Marks) -> list[SearchRow]:
    quoted = [f'"{word}"' for word in words]
    sought = {"words": json.dumps(quoted), "any": " OR ".join(quoted)}
    return rows(connection, SQLITE, {**sought, **bounds(limit, marks)})


def find_on_postgresql(
    connection: BaseDatabaseWrapper, words: Sequence[str], limit: int, marks: Marks
) -> list[SearchRow]:
    sought = {"words": [without_accents(word) for word in words], "any": " or ".join(words)}
    return rows(connection, POSTGRESQL, {**sought, **bounds(limit, marks)})


def bounds(limit: int, marks: Marks) -> dict[str, Any]:
    before, after = marks
    return {
        "limit": limit,
        "before": before,
        "after": after,
        "longest": MAX_SNIPPET_SOURCE_CHARS,
        "most": MAX_TEXT_CHARS,
    }


def without_accents(word: str) -> str:
    """Take accents off as the index does; FTS5 does so by itself."""
    return unicodedata.normalize("NFC", re.sub("[\u0300-\u036f]", "", unicodedata.normalize("NFD", word)))


def rows(connection: BaseDatabaseWrapper, sql: str, parameters: Mapping[str, Any]) -> list[SearchRow]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        found: list[SearchRow] = cursor.fetchall()
    return found


ENGINES: dict[str, Callable[[BaseDatabaseWrapper, Sequence[str], int, Marks], list[SearchRow]]] = {
    "sqlite": find_on_sqlite,
    "postgresql": find_on_postgresql,
}
