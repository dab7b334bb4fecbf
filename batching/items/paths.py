"""What an item's path may be: on this host, in plain sight, under one of the allowed prefixes."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, unquote

from django.urls import Resolver404, resolve

from batching.errors import CallerError

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
# What a path or a query may hold as it is (RFC 3986); everything else is percent-encoded.
PLAIN = "/?:@!$&'()*+,;=~%-._"


class BadPath(CallerError):
    """The path leads out of what a batch may call, or could be read in more than one way."""

    message = "The path isn't allowed."


@dataclass(frozen=True, slots=True)
class Target:
    """An item's path: decoded, from after the prefix that the project is mounted at; and its query, encoded."""

    path_info: str
    query: str


def read(text: str, *, script_name: str, allowed: Iterable[str]) -> Target:
    """Return where a path leads; the project's own prefix may stand before it or be left out. Raises `BadPath`."""
    raw, _, query = text.partition("?")
    path = decoded(raw)
    check(text, path)
    prefix = script_name.rstrip("/")
    path_info = path[len(prefix) :] if prefix and path.startswith(f"{prefix}/") else path
    if not any(is_under(path_info, one) for one in allowed):
        raise BadPath(f"The path has to be under one of these: {', '.join(allowed)}.")
    return Target(path_info, quote(query, safe=PLAIN))


def decoded(raw: str) -> str:
    try:
        return unquote(raw, errors="strict")
    except UnicodeDecodeError:
        raise BadPath("The path isn't UTF-8 once it is decoded.") from None


def check(text: str, path: str) -> None:
    """Refuse a path (as it was written, and decoded) that isn't local and absolute, whatever its prefix."""
    if not text.startswith("/"):
        raise BadPath("The path has to begin with a slash.")
    if CONTROL.search(text) or CONTROL.search(path):
        raise BadPath("The path has a control character in it.")
    if "\\" in path or "//" in path or "#" in text:
        raise BadPath("The path may not have a backslash, two slashes in a row, or a fragment in it.")
    if not {".", ".."}.isdisjoint(path.split("/")):
        raise BadPath("The path may not have dot segments in it.")


def is_under(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(prefix if prefix.endswith("/") else f"{prefix}/")


def leads_elsewhere(target: Target, harmless: Target) -> bool:
    """Tell whether a value's slashes make a path resolve to another route than it would without them.

    Django decodes `%2F` before it resolves, so encoding alone doesn't keep a value within its place in the path.
    """
    there = route(target.path_info)
    return there is not None and there != route(harmless.path_info)


def route(path_info: str) -> str | None:
    try:
        return resolve(path_info).route
    except Resolver404:
        return None
