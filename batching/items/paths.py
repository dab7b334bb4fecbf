"""The paths that items may call: local, unambiguous, under one of the allowed prefixes."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, unquote

from django.urls import Resolver404, resolve

from batching.errors import CallerError

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
# Characters that a path or a query holds as they are (RFC 3986); all others are percent-encoded.
PLAIN = "/?:@!$&'()*+,;=~%-._"


class BadPath(CallerError):
    """The path is outside the allowed prefixes, or could be read in more than one way."""

    message = "The path isn't allowed."


@dataclass(frozen=True, slots=True)
class Target:
    """An item's path, decoded and without the prefix at which the project is mounted; and its query, encoded."""

    path_info: str
    query: str


class AllowedPaths:
    """The prefixes of the paths that items may call, in a project that is mounted at `script_name`."""

    def __init__(self, prefixes: Iterable[str], script_name: str = "") -> None:
        self.prefixes = tuple(prefixes)
        self.script_name = script_name

    def target(self, path: str) -> Target:
        """Return the target of a path, which may include the project's own prefix. Raises `BadPath`."""
        raw, _, query = path.partition("?")
        path_info = decode(raw)
        check(path, path_info)
        prefix = self.script_name.rstrip("/")
        if prefix and path_info.startswith(f"{prefix}/"):
            path_info = path_info[len(prefix) :]
        if not any(is_under(path_info, one) for one in self.prefixes):
            raise BadPath(f"The path has to be under one of these: {', '.join(self.prefixes)}.")
        return Target(path_info, quote(query, safe=PLAIN))


def decode(raw: str) -> str:
    try:
        return unquote(raw, errors="strict")
    except UnicodeDecodeError:
        raise BadPath("The path isn't UTF-8 once it is decoded.") from None


def check(text: str, path: str) -> None:
    """Refuse a path, given as it came and decoded, that isn't local and absolute."""
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


def changes_route(target: Target, placeholder: Target) -> bool:
    """Tell whether the slashes in a value make a path resolve to another route than `placeholder`, without them.

    Django decodes `%2F` before it resolves, so encoding alone doesn't keep a value within its segment.
    """
    route = route_of(target.path_info)
    return route is not None and route != route_of(placeholder.path_info)


def route_of(path_info: str) -> str | None:
    try:
        return resolve(path_info).route
    except Resolver404:
        return None
