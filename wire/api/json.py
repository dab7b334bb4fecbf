"""Strict JSON: it refuses text that can't be stored or that parsers understand differently.

RFC 8259 leaves duplicate keys, huge numbers and lone surrogates to each parser. RFC 7493 (I-JSON) forbids them, as this
module does.
"""

import json
import re
from typing import Any, NoReturn

from wire.errors import WireError

MAX_DEPTH = 64
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class NotJSON(WireError):
    """The text isn't JSON, or isn't JSON that every parser understands alike."""

    status = 400
    message = "The body isn't valid JSON."


def loads(data: bytes) -> Any:
    """Parse strict JSON.

    Raises `NotJSON` for text that isn't UTF-8 or JSON, and for NaN, Infinity, 1e999, integers beyond 64 bits, lone
    surrogates, NUL characters, duplicate keys and nesting deeper than 64.
    """
    try:
        value = DECODER.decode(data.decode())
    except UnicodeDecodeError:
        raise NotJSON("The body isn't valid UTF-8.") from None
    except json.JSONDecodeError as error:
        raise NotJSON(f"The body isn't valid JSON: line {error.lineno}, column {error.colno}.") from None
    except RecursionError:
        raise NotJSON(f"The body is nested deeper than {MAX_DEPTH}.") from None
    check_depth(value)
    return value


def check_depth(value: Any) -> None:
    """Check the nesting level by level, so that no depth can exhaust the stack."""
    level = containers([value])
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in containers(outer)]
        if not level:
            return
    raise NotJSON(f"The body is nested deeper than {MAX_DEPTH}.")


def containers(outer: dict[str, Any] | list[Any]) -> list[dict[str, Any] | list[Any]]:
    """Check the strings in `outer` and return the objects and lists in it."""
    inner = outer.values() if isinstance(outer, dict) else outer
    for value in inner:
        if isinstance(value, str):
            check_text(value)
    return [value for value in inner if isinstance(value, dict | list)]


def check_text(text: str) -> None:
    if UNSTORABLE.search(text):
        raise NotJSON("The body has a NUL character or half of a surrogate pair in it.")


def build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise NotJSON("The body has an object with the same key twice.")
    for key in result:
        check_text(key)
    return result


def refuse_constant(name: str) -> NoReturn:
    raise NotJSON(f"The body isn't valid JSON: {name} isn't a number.")


def parse_float(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise NotJSON("The body has a number that is too large.")
    return number


def parse_int(text: str) -> int:
    # Nineteen digits and a sign are the longest that fit. The time of int() grows with the square of the length.
    if len(text) > 20 or not -(2**63) <= (number := int(text)) < 2**63:
        raise NotJSON("The body has an integer beyond 64 bits.")
    return number


DECODER = json.JSONDecoder(
    object_pairs_hook=build_object, parse_constant=refuse_constant, parse_float=parse_float, parse_int=parse_int
)
