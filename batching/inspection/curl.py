"""An item as a `curl` command, to repeat it."""

import json
import shlex
from collections.abc import Iterator

from django.utils.encoding import iri_to_uri

from batching.models import BatchItem

# Characters of an address that curl would expand.
GLOBS = frozenset("[]{}")


def command(item: BatchItem, base: str) -> str | None:
    """Return the item's request as a command that calls `base`, such as `https://example.org`.

    The item comes from `ItemList`, which masks credentials. Returns None for an item that was refused as invalid.
    """
    if was_invalid(item):
        return None
    return " \\\n  ".join(arguments(item, base))


def was_invalid(item: BatchItem) -> bool:
    """Tell whether the item was refused before it ran, or has no valid path."""
    is_bad = item.started_at is None and item.status is not None and item.status < 500 and item.status != 424
    return is_bad or not item.method or not item.path.startswith("/") or item.path.startswith("//")


def arguments(item: BatchItem, base: str) -> Iterator[str]:
    address = base + iri_to_uri(item.path)
    globbed = "--globoff " if GLOBS & set(address) else ""
    yield f"curl {globbed}-X {shlex.quote(item.method)} {shlex.quote(address)}"
    headers = {name.lower(): f"{name}: {value}" for name, value in item.request_headers.items()}
    if item.request_body is not None:
        headers.setdefault("content-type", "Content-Type: application/json")
    for header in headers.values():
        yield f"-H {shlex.quote(header)}"
    if item.request_body is not None:
        yield f"--data-raw {shlex.quote(body_text(item, headers['content-type']))}"


def body_text(item: BatchItem, content_type: str) -> str:
    """Return the body as it was sent: as JSON, or unchanged for another type or a truncated text."""
    kind = content_type.partition(":")[2].partition(";")[0].strip().lower()
    is_json = kind == "application/json" or kind.endswith("+json")
    if isinstance(item.request_body, str) and (item.truncated or not is_json):
        return item.request_body
    return json.dumps(item.request_body, ensure_ascii=False)
