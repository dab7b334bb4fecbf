"""The tools that the assistant comes with. They come in by the same door as every app's."""

import ast
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field
from simpleeval import FunctionNotDefined, InvalidExpression, NameNotDefined, SimpleEval

from assistant.errors import CallerError, ToolError
from assistant.search import documents
from assistant.search.query import MAX_QUERY_CHARS, Hit
from assistant.search.query import search as find
from assistant.tools.toolbox import POOL, tool

if TYPE_CHECKING:
    from assistant.tools.fetching import FetchedPage

# Search.


@dataclass(frozen=True, slots=True)
class SearchResults:
    """Hits that read as a numbered list."""

    query: str
    results: list[Hit]

    def __str__(self) -> str:
        if not self.results:
            return f"Nothing was found for “{self.query}”."
        return "\n".join(listed(number, hit) for number, hit in enumerate(self.results, 1))


def listed(number: int, hit: Hit) -> str:
    below = (line for line in (hit.url, hit.credit) if line)
    return "\n   ".join([f"{number}. {hit.title} - {hit.snippet}", *below])


@tool
def search(
    query: Annotated[str, Field(description="What to look for, in a few words.", max_length=MAX_QUERY_CHARS)],
    limit: Annotated[int, Field(description="How many results at most.", ge=1, le=20)] = 5,
) -> SearchResults:
    """Search the documents and return what fits best, with where it comes from."""
    return SearchResults(query, find(query, limit))


# Arithmetic. Each step is bounded, so that no expression of the allowed length takes long.

MAX_EXPRESSION_CHARS = 500
MAX_BITS = 1_024
MAX_FACTORIAL = 150
MAX_DIGITS = 300
# JSON's readers agree on whole numbers up to here; a longer one is given as text (RFC 7493, 2.2).
MAX_JSON_INTEGER = 2**53 - 1
AS_TYPED = str.maketrans(
    {"^": "**", "\N{MULTIPLICATION SIGN}": "*", "\N{DIVISION SIGN}": "/", "\N{MINUS SIGN}": "-", "\N{MIDDLE DOT}": "*"}
)

Number = int | float


def bounded(function: Callable[..., Any]) -> Callable[..., Number]:
    """Let a step of a calculation take and return only real numbers of a bounded size."""

    def step(*numbers: Any) -> Number:
        return checked(function(*map(checked, numbers)))

    return step


def checked(value: Any) -> Number:
    if type(value) not in (int, float):
        raise ValueError("not a number")
    if not math.isfinite(value) or (isinstance(value, int) and value.bit_length() > MAX_BITS):
        raise OverflowError
    number: Number = value
    return number


def power(base: Number, exponent: Number) -> Any:
    """Raise to a power, unless it is clear beforehand that the result is too long."""
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * exponent > 2 * MAX_BITS:
        raise OverflowError
    return base**exponent


def factorial(number: int) -> int:
    if number > MAX_FACTORIAL:
        raise OverflowError
    return math.factorial(number)


def rounded(number: Number, digits: int = 0) -> Number:
    if abs(digits) > MAX_DIGITS:
        raise OverflowError
    return round(number, digits)


# fmt: off
MATH: tuple[Callable[..., Any], ...] = (
    abs, min, max, factorial, math.sqrt, math.cbrt, math.exp, math.log, math.log2, math.log10, math.floor, math.ceil,
    math.gcd, math.lcm, math.sin, math.cos, math.tan, math.asin, math.acos, math.atan, math.atan2, math.sinh, math.cosh,
    math.tanh, math.degrees, math.radians,
)
# fmt: on
FUNCTIONS: dict[str, Callable[..., Any]] = {function.__name__: function for function in MATH} | {
    "ln": math.log,
    "round": rounded,
}
OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: power,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}
NODES = (ast.BinOp, ast.UnaryOp, ast.Call, ast.Name, ast.Constant)


def make_evaluator() -> SimpleEval:
    evaluator = SimpleEval(
        operators={node: bounded(function) for node, function in OPERATORS.items()},
        functions={name: bounded(function) for name, function in FUNCTIONS.items()},
        names={"pi": math.pi, "e": math.e, "tau": math.tau},
    )
    evaluator.nodes = {node: evaluator.nodes[node] for node in NODES}
    return evaluator


# One for all threads: it keeps nothing from one expression to the next but the text for its own error messages.
EVALUATOR = make_evaluator()


@tool
def calculator(
    expression: Annotated[
        str,
        Field(description="Such as (17.5 * 4 - 3) / 2 or sqrt(2) ^ 3.", min_length=1, max_length=MAX_EXPRESSION_CHARS),
    ],
) -> int | float | str:
    """Calculate an arithmetic expression, with + - * / // % ^ and functions such as sqrt, sin, log, round and max."""
    try:
        parsed = ast.parse(expression.translate(AS_TYPED).strip(), mode="eval").body
        return plain(checked(EVALUATOR.eval(expression, previously_parsed=parsed)))
    except (SyntaxError, MemoryError, RecursionError):  # the last two: nested too deeply
        sentence = "This can't be read as arithmetic."
    except ZeroDivisionError:
        sentence = "This divides by zero."
    except OverflowError:
        sentence = "The numbers in this get too large."
    except (NameNotDefined, FunctionNotDefined) as error:
        sentence = f"There is no {getattr(error, 'name', None) or error.func_name} here."
    except InvalidExpression:
        sentence = "This isn't arithmetic."
    except TypeError:
        sentence = "A function in this is given what it doesn't take."
    except ValueError:
        sentence = "This has no real number as its result."
    raise CallerError(sentence, details={"expression": [sentence]})


def plain(value: Number) -> int | float | str:
    """Return a number as a person would write it: 0.1 + 0.2 is 0.3, and 10 / 2 is 5."""
    if isinstance(value, float):
        short = float(f"{value:.15g}")
        return int(short) if short.is_integer() and abs(short) <= MAX_JSON_INTEGER else short
    return value if abs(value) <= MAX_JSON_INTEGER else str(value)


# Time.

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
def zones() -> frozenset[str]:
    return frozenset(available_timezones())


@tool
def current_time(
    zone: Annotated[str, Field(description="An IANA time zone, such as Europe/Berlin.")] = "UTC",
) -> CurrentTime:
    """Tell the current date, weekday and time in a time zone."""
    if zone not in zones():
        sentence = "There is no such time zone; Europe/Berlin and UTC are examples."
        raise CallerError(sentence, details={"zone": [sentence]})
    now = datetime.now(ZoneInfo(zone))
    return CurrentTime(now.isoformat(timespec="seconds"), WEEKDAYS[now.weekday()], zone)


# The web.

MAX_PAGE_CHARS = 50_000


@dataclass(frozen=True, slots=True)
class WebPage:
    """What a page says."""

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
    from assistant.tools.fetching import fetch  # aiohttp takes half a second to import

    if documents.extractor() is None:
        raise ToolError(f"fetch_url needs trafilatura: {documents.EXTRA}.")
    page = await fetch(url)
    return await POOL.run(lambda: read(page))


def read(page: "FetchedPage") -> WebPage:
    if page.content_type == "text/plain":
        reading = documents.Reading("", documents.decoded_html(page.body, page.charset))
    else:
        reading = documents.readable(page.body, page.charset)
    return WebPage(page.url, reading.title, reading.text[:MAX_PAGE_CHARS])
