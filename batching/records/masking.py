"""Masks credentials in what is stored, and replaces characters that a database can't hold."""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Any
from urllib.parse import unquote_plus

from wire.api.json import MAX_DEPTH, UNSTORABLE

MASK = "********"
# The words of a name, whether it is written like_this, like-this or likeThis.
WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
SECRET_WORDS = {
    *("authorization", "cookie", "cookies", "credential", "credentials", "passcode", "passphrase", "passwd"),
    *("password", "passwords", "pwd", "secret", "secrets", "token", "jwt", "otp", "pin", "signature"),
    *("apikey", "accesskey", "privatekey", "secretkey", "sessionid", "csrftoken", "csrfmiddlewaretoken"),
    *("accesstoken", "refreshtoken", "authtoken", "cvv", "cvc"),
}
SECRET_PAIRS = {
    ("api", "key"),
    ("access", "key"),
    ("private", "key"),
    ("auth", "key"),
    ("session", "id"),
    ("api", "keys"),
}


@lru_cache(maxsize=4096)
def is_secret(name: str) -> bool:
    """Tell whether a field of this name is a credential. Plurals of token are counts: `input_tokens`."""
    words = [word.lower() for word in WORDS.findall(name)]
    return not SECRET_WORDS.isdisjoint(words) or not SECRET_PAIRS.isdisjoint(pairwise(words))


def mask(value: Any) -> Any:
    """Return a copy that can be stored, with credentials masked at any depth."""
    return copy(value, is_secret)


def sanitize(value: Any) -> Any:
    """Return a copy that can be stored, with credentials as they are."""
    return copy(value, lambda name: False)


def copy(value: Any, hides: Callable[[str], bool], depth: int = 0) -> Any:
    """Return a copy without characters that a database can't hold; fields that `hides` accepts are masked."""
    match value:
        case str():
            return storable(value)
        case dict() | list() if depth > MAX_DEPTH:
            return "..."
        case Mapping():
            return {storable(name): MASK if hides(name) else copy(one, hides, depth + 1) for name, one in value.items()}
        case list():
            return [copy(one, hides, depth + 1) for one in value]
        case _:
            return value


def storable(text: str) -> str:
    return UNSTORABLE.sub("\ufffd", text)


def mask_query(query: str) -> str:
    """Mask the credentials in `a=1&token=...`, the query of an address or a form."""
    return "&".join(mask_pair(pair) for pair in query.split("&"))


def mask_pair(pair: str) -> str:
    name, equals, _ = pair.partition("=")
    return f"{name}={MASK}" if equals and is_secret(unquote_plus(name)) else storable(pair)


def mask_address(address: str) -> str:
    """Mask the credentials in the query of a path or a URL."""
    path, mark, query = address.partition("?")
    return f"{storable(path)}{mark}{mask_query(query)}"
