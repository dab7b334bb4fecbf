"""Full-text search of the documents, on SQLite (FTS5) and PostgreSQL.

The database updates the index (migration 0002). A query is plain words and has no syntax.
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
# The database ranks so many hits before their titles are compared.
CANDIDATES = 20
MAX_WORD_CHARS = 64
MAX_QUERY_CHARS = 2_000
# A hit carries a passage, even of a document that holds a book.
MAX_TEXT_CHARS = 4_000
# snippet() takes quadratic time: two minutes for 400,000 characters.
MAX_SNIPPET_SOURCE_CHARS = 8_000

# PostgreSQL's stop words, and those that questions begin with.
STOP_WORD_LIST = """
a about above after again against all am an and any are as at be because been before being below between both but by can
could define describe did do does doing don down during each explain few for from further had has have having he her
here hers herself him himself his how i if in into is it its itself just let me more most my myself no nor not now of
off on once only or other our ours ourselves out over own please s same she should so some such t tell than that the
their theirs them themselves then there these they this those through to too under until up very was we were what when
where which while who whom whose why will with would you your yours yourself yourselves
"""
STOP_WORDS = frozenset(STOP_WORD_LIST.split())

SearchRow = tuple[Any, ...]
Marks = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Hit:
    """A document that matches a query, or a passage of one.

    `snippet` is plain text of about 300 characters, `text` the beginning of the document; of a very long document the
    snippet is its beginning, too. `matched` is the share of the query's words that it has; `score` compares the hits
    of one query.
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
    """Return the documents that have words of the query, best first; none if the query has no words.

    `marks` enclose the matches in titles and snippets (SQLite: of a very long document in the title alone).
    Raises `ImproperlyConfigured` on a database other than SQLite and PostgreSQL.
    """
    words = content_words(query)
    if not words:
        return []
    connection = connections[router.db_for_read(Document)]
    find = ENGINES.get(connection.vendor)
    if find is None:
        raise ImproperlyConfigured("Document search needs SQLite or PostgreSQL.")
    found = [to_hit(row, words) for row in find(connection, words, max(limit, CANDIDATES), marks)]
    return sorted(found, key=lambda hit: hit.score, reverse=True)[:limit]


def content_words(query: str) -> list[str]:
    """Return the words to search, each once; stop words only if there are no others."""
    words = [word for word in all_words(query) if len(word) <= MAX_WORD_CHARS]
    return ([word for word in words if word not in STOP_WORDS] or words)[:MAX_WORDS]


def all_words(query: str) -> list[str]:
    """Return the words of a query, each once."""
    return list(dict.fromkeys(re.findall(r"[^\W_]+", unicodedata.normalize("NFC", query[:MAX_QUERY_CHARS]).lower())))


def to_hit(row: SearchRow, words: Sequence[str]) -> Hit:
    title, url, snippet, text, source, credit, rank, matched = row
    share = matched / len(words)
    boost = 1 + title_relevance(title, words) if matched == len(words) else 1
    score = float(f"{rank * boost:.4g}")  # a rank may be as small as a millionth
    return Hit(title, url, " ".join(snippet.split()), text, source, credit, score, round(share, 4))


def title_relevance(title: str, words: Sequence[str]) -> float:
    """Return the share of a title's words that the query has: for "DNA", 1 for "DNA" and 0.5 for "DNA profiling".

    Neither database ranks by that.
    """
    named = content_words(title)
    return sum(any(share_stem(name, word) for word in words) for name in named) / len(named) if named else 0.0


def share_stem(one: str, other: str) -> bool:
    """Tell whether two words seem to share a stem: vaccine and vaccination, cat and cats."""
    short, long = sorted((one, other), key=len)
    return short[:5] == long[:5] if len(short) >= 5 else long.startswith(short) and len(long) - len(short) <= 2


# One query for each database; its rows have the columns that `to_hit` unpacks.

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

# ts_rank ignores how rare a word is, so each word is weighted by its document frequency; and how many of the words a
# document has, hence the factor count(*). ts_headline drops text that looks like a tag, so < and > are translated
# before and after.
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


def search_sqlite(connection: BaseDatabaseWrapper, words: Sequence[str], limit: int, marks: Marks) -> list[SearchRow]:
    quoted = [f'"{word}"' for word in words]
    parameters = {"words": json.dumps(quoted), "any": " OR ".join(quoted)}
    return fetch_rows(connection, SQLITE, {**parameters, **query_parameters(limit, marks)})


def search_postgresql(
    connection: BaseDatabaseWrapper, words: Sequence[str], limit: int, marks: Marks
) -> list[SearchRow]:
    parameters = {"words": [without_accents(word) for word in words], "any": " or ".join(words)}
    return fetch_rows(connection, POSTGRESQL, {**parameters, **query_parameters(limit, marks)})


def query_parameters(limit: int, marks: Marks) -> dict[str, Any]:
    before, after = marks
    return {
        "limit": limit,
        "before": before,
        "after": after,
        "longest": MAX_SNIPPET_SOURCE_CHARS,
        "most": MAX_TEXT_CHARS,
    }


def without_accents(word: str) -> str:
    """Remove accents as the index does; FTS5 does so by itself."""
    return unicodedata.normalize("NFC", re.sub("[\u0300-\u036f]", "", unicodedata.normalize("NFD", word)))


def fetch_rows(connection: BaseDatabaseWrapper, sql: str, parameters: Mapping[str, Any]) -> list[SearchRow]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        found: list[SearchRow] = cursor.fetchall()
    return found


ENGINES: dict[str, Callable[[BaseDatabaseWrapper, Sequence[str], int, Marks], list[SearchRow]]] = {
    "sqlite": search_sqlite,
    "postgresql": search_postgresql,
}
