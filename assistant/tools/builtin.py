"""The built-in tools `search`, `current_time` and `fetch_url`, registered like those of any app."""

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field

from assistant.errors import CallerError, ToolError
from assistant.search import html, readers
from assistant.search.query import MAX_QUERY_CHARS, Hit
from assistant.search.query import search as find
from assistant.tools.toolbox import POOL, tool

if TYPE_CHECKING:
    from assistant.tools.web_page import FetchedPage


@dataclass(frozen=True, slots=True)
class SearchResults:
    """Hits, as text a numbered list."""

    query: str
    results: list[Hit]

    def __str__(self) -> str:
        if not self.results:
            return f"Nothing was found for “{self.query}”."
        return "\n".join(format_hit(number, hit) for number, hit in enumerate(self.results, 1))


def format_hit(number: int, hit: Hit) -> str:
    below = (line for line in (hit.url, hit.credit) if line)
    return "\n   ".join([f"{number}. {hit.title} - {hit.snippet}", *below])


@tool
def search(
    query: Annotated[str, Field(description="What to look for, in a few words.", max_length=MAX_QUERY_CHARS)],
    limit: Annotated[int, Field(description="How many results at most.", ge=1, le=20)] = 5,
) -> SearchResults:
    """Search the documents and return what fits best, with where it comes from."""
    return SearchResults(query, find(query, limit))


# Not strftime's: those change with the locale.
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True, slots=True)
class CurrentTime:
    """A time in a zone; `time` is ISO 8601."""

    time: str
    weekday: str
    zone: str

    def __str__(self) -> str:
        return f"{self.weekday}, {self.time} in {self.zone}"


@cache
def time_zones() -> frozenset[str]:
    return frozenset(available_timezones())


@tool
def current_time(
    zone: Annotated[str, Field(description="An IANA time zone, such as Europe/Berlin.")] = "UTC",
) -> CurrentTime:
    """Tell the current date, weekday and time in a time zone."""
    if zone not in time_zones():
        message = "There is no such time zone; Europe/Berlin and UTC are examples."
        raise CallerError(message, details={"zone": [message]})
    now = datetime.now(ZoneInfo(zone))
    return CurrentTime(now.isoformat(timespec="seconds"), WEEKDAYS[now.weekday()], zone)


MAX_PAGE_CHARS = 50_000


@dataclass(frozen=True, slots=True)
class WebPage:
    """The content of a page."""

    url: str
    title: str
    text: str

    def __str__(self) -> str:
        return f"{self.title or 'Untitled'}\n{self.url}\n\n{self.text}"


@tool(timeout=25, max_calls=5)
async def fetch_url(
    url: Annotated[str, Field(description="An http or https address.", max_length=2_000)],
) -> WebPage:
    """Read a page of the public web and return its main text."""
    from assistant.tools.web_page import fetch  # aiohttp takes half a second to import

    if html.load_extractor() is None:
        raise ToolError(f"fetch_url needs trafilatura: {readers.EXTRA}.")
    page = await fetch(url)
    return await POOL.run(lambda: extract_page(page))


def extract_page(page: "FetchedPage") -> WebPage:
    if page.content_type == "text/plain":
        document = html.ParsedDocument("", html.decode_html(page.body, page.charset))
    else:
        document = html.parse_html(page.body, page.charset)
    return WebPage(page.url, document.title, document.text[:MAX_PAGE_CHARS])
