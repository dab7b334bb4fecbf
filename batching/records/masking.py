"""Masks credentials for other eyes than the caller's, and replaces characters that a database can't hold."""

import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Any
from urllib.parse import unquote_plus

from wire.api.json import MAX_DEPTH, UNSTORABLE

MASK = "********"
# Stands before the number of a character that a database can't hold. In a text, it is escaped as well.
ESCAPE = "\uffff"
ESCAPED = re.compile(f"{ESCAPE}([0-9a-f]{{4}})")
UNSTORABLE_OR_ESCAPE = re.compile(f"{UNSTORABLE.pattern}|{ESCAPE}")
# The words of a name, whether it is written like_this, like-this or likeThis.
WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
SECRET_WORDS = {
    *("authorization", "bearer", "cookie", "cookies", "credential", "credentials", "passcode", "pwd", "secrets"),
    *("jwt", "otp", "pin", "signature", "apikey", "accesskey", "privatekey", "secretkey", "sessionid"),
    *("csrfmiddlewaretoken", "cvv", "cvc"),
}
SECRET_PAIRS = {
    ("api", "key"),
    ("access", "key"),
    ("private", "key"),
    ("auth", "key"),
    ("session", "id"),
    ("api", "keys"),
}
# A part of a word, and the end of one: `newpassword`, `clientsecret`.
SECRET_PART = re.compile(r"password|passwort|passwd|passphrase|kennwort|(secret|token)$")
# Beside these words, a `token` is a part of a model's text: `time_to_first_token`.
MEASURES = {
    *("completion", "count", "first", "input", "last", "limit", "max", "min", "num", "number", "output", "per"),
    *("prompt", "time", "total", "usage"),
}
CREDENTIAL_KINDS = {"access", "api", "auth", "bearer", "csrf", "id", "key", "refresh", "session"}

# The parts of `{"name": "password", "value": "..."}`.
NAMES = ("name", "key", "field", "header", "parameter")
VALUES = ("value", "values", "content", "data")

# Credentials in text. Each expression finds a name and a value, in linear time.
MULTIPART = re.compile(
    r'(?is)(content-disposition:[^\r\n]{0,200}?\bname="?(?P<name>[^";\r\n]{1,100})[^\r\n]{0,500}(?:\r?\n[^\r\n]{1,500}){0,9}\r?\n\r?\n)'
    r"(?P<value>.*?)(?=\r?\n--|\Z)"
)
FIELD = re.compile(
    r"""((?P<quote>["'])(?P<name>[^"'\\\n]{1,100})(?P=quote)\s*:\s*)"""
    r"""(?P<value>"(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?|[\[{][^\]}]*[\]}]?|[^\s,\]}"'\[{]+)""",
    re.DOTALL,
)
ESCAPED_FIELD = re.compile(
    r'((?P<quote>\\{1,15}")(?P<name>[^"\\\n]{1,100})(?P=quote)\s*:\s*(?P=quote))(?P<value>.*?)(?=(?P=quote)|\Z)',
    re.DOTALL,
)
PARAMETER = re.compile(r"""((?:^|(?<=[?&#;\s]))(?P<name>[\w.%+\-\[\]]{1,100})=)(?P<value>[^&\s"'<>]+)""")
LINE = re.compile(
    r"(?im)^([ \t>-]*(?P<name>[\w-]{1,100}):[ \t]+)(?P<value>[^\s\"'\[{]\S*$|(?:basic|bearer|digest|token)[ ]\S.*$)"
)
PATTERNS = (MULTIPART, FIELD, ESCAPED_FIELD, PARAMETER, LINE)
BEARER = re.compile(r"(?i)(\bbearer\s+)(?=[\w.~+/=-]*[0-9])[\w.~+/=-]{8,}")
USER_INFO = re.compile(r"(://[^\s/:@\"]*:)[^\s@\"\\/]+(?=@)")
# Every text with a credential has both: without them, the other expressions aren't tried.
MARKS = re.compile(r"[:=]|(?i:bearer)")
HINTS = re.compile(
    r"(?i)pass|pwd|kennwort|secret|token|auth|bearer|cookie|credential|key|session|jwt|otp|pin|signature|csrf|cv[vc]"
    r"|@|%|\\u"
)
# What follows the `token` of a log-probability.
LOGPROB = re.compile(r'\s*,\s*\\*"(logprob|bytes)\\*"')


@lru_cache(maxsize=4096)
def is_secret(name: str) -> bool:
    """Tell whether a field of this name is a credential. Plurals of token are counts: `input_tokens`."""
    words = [word.lower() for word in WORDS.findall(name)]
    if "token" in words and not MEASURES.isdisjoint(words) and CREDENTIAL_KINDS.isdisjoint(words):
        words.remove("token")
    is_pair = not SECRET_PAIRS.isdisjoint(pairwise(words))
    return is_pair or not SECRET_WORDS.isdisjoint(words) or any(SECRET_PART.search(word) for word in words)


def hides(name: str, value: Any) -> bool:
    """Tell whether a field holds a credential; a number named token is a count."""
    is_number = value is None or isinstance(value, bool | int | float)
    return is_secret(name) and not (is_number and name.lower() == "token")


def mask(value: Any, depth: int = 0) -> Any:
    """Return a copy that can be stored, with credentials masked at any depth and in texts."""
    match value:
        case str():
            return mask_text(value, depth)
        case dict() | list() if depth > MAX_DEPTH:
            return "..."
        case Mapping():
            return mask_fields(value, depth)
        case list():
            return [mask(one, depth + 1) for one in value]
        case _:
            return value


def mask_fields(fields: Mapping[str, Any], depth: int) -> dict[str, Any]:
    named = any(isinstance(name := fields.get(key), str) and is_secret(name) for key in NAMES)
    hidden = VALUES if named else ()
    shown = ("token",) if "logprob" in fields else ()  # a part of a model's text
    return {
        storable(name): MASK if name in hidden or (name not in shown and hides(name, value)) else mask(value, depth + 1)
        for name, value in fields.items()
    }


def mask_text(text: str, depth: int = 0) -> str:
    """Mask the credentials in a text that is JSON, a form or a URL, or contains some."""
    text = storable(unescape(text))
    if not (MARKS.search(text) and HINTS.search(text)):
        return text
    if text.lstrip()[:1] in ("{", "[", '"') and depth <= MAX_DEPTH:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            pass
        else:
            masked = mask(value, depth + 1)
            return text if masked == value else json.dumps(masked, ensure_ascii=False)
    for pattern in PATTERNS:
        text = pattern.sub(mask_match, text)
    return USER_INFO.sub(rf"\1{MASK}", BEARER.sub(rf"\1{MASK}", text))


def mask_match(found: re.Match[str]) -> str:
    """Return a name and a value with the value masked, if it is a credential."""
    name, value = unquote_plus(found["name"]), found["value"]
    is_count = name.lower() == "token" and value.isdigit()
    if not is_secret(name) or is_count or LOGPROB.match(found.string, found.end()):
        return found[0]
    return f'{found[1]}"{MASK}"' if found.re is FIELD else f"{found[1]}{MASK}"


def sanitize(value: Any) -> Any:
    """Return a copy that can be stored, with credentials as they are."""
    return convert(value, storable)


def preserve(value: Any) -> Any:
    """Return a copy that can be stored, and from which `restore` makes the value again."""
    return convert(value, escape)


def restore(value: Any) -> Any:
    """Return a stored value as it was before `preserve`."""
    return convert(value, unescape)


def convert(value: Any, change: Callable[[str], str]) -> Any:
    match value:
        case str():
            return change(value)
        case Mapping():
            return {change(name): convert(one, change) for name, one in value.items()}
        case list():
            return [convert(one, change) for one in value]
        case _:
            return value


def storable(text: str) -> str:
    return UNSTORABLE.sub("\ufffd", text)


def escape(text: str) -> str:
    return UNSTORABLE_OR_ESCAPE.sub(lambda found: f"{ESCAPE}{ord(found[0]):04x}", text)


def unescape(text: str) -> str:
    return ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)


def mask_query(query: str) -> str:
    """Mask the credentials in `a=1&token=...`, the query of an address or a form."""
    return "&".join(mask_pair(pair) for pair in query.split("&"))


def mask_pair(pair: str) -> str:
    name, equals, value = pair.partition("=")
    if equals and is_secret(unquote_plus(name)):
        return f"{name}={MASK}"
    decoded = unquote_plus(value)
    return storable(pair) if mask_text(decoded) == storable(decoded) else f"{name}={MASK}"


def mask_address(address: str) -> str:
    """Mask the credentials in a path or a URL."""
    path, mark, query = address.partition("?")
    return f"{USER_INFO.sub(rf'\1{MASK}', storable(path))}{mark}{mask_query(query)}"


def mask_headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: MASK if is_secret(name) else mask(value) for name, value in headers.items()}


def mask_column(column: str, value: Any, store: str) -> Any:
    """Return the value of an item's column as other eyes than the caller's may see it (BATCH_STORE_BODIES)."""
    match column:
        case "request_body" | "response_body" | "details":
            return None if store == "off" else sanitize(restore(value)) if store == "full" else mask(value)
        case "request_headers" | "response_headers":
            return mask_headers(value)
        case "path":
            return mask_address(value)
        case "error":
            return mask(value)
        case _:
            return value
