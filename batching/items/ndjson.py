"""The body of a background batch as NDJSON, an item a line, read as it arrives: it holds one line at a time."""

import hashlib
import time
from collections.abc import Iterator
from typing import Protocol

from batching.errors import IncompleteBody
from batching.items import parse
from batching.items.item import Item
from batching.items.paths import AllowedPaths
from wire.api.parsers import TooLarge

# Bytes that are read at once of a line that is too long.
SKIP = 64 * 1024


class Source(Protocol):
    def readline(self, size: int, /) -> bytes: ...


class Upload:
    """The lines of a body that aren't empty; None stands for a line that is too long.

    `expected` is the number of bytes that the client announced. `hash` identifies the body once it is read.
    """

    def __init__(self, source: Source, *, max_bytes: int, max_line: int, expected: int | None) -> None:
        self.source = source
        self.max_bytes = max_bytes
        self.max_line = max_line
        self.expected = expected
        self.received = 0
        self.digest = hashlib.sha256(b"respond-async\n")
        if expected is not None and expected > max_bytes:
            raise self.too_large()

    @property
    def hash(self) -> str:
        return self.digest.hexdigest()

    def items(self, allowed: AllowedPaths) -> Iterator[Item]:
        """Yield the items, bad ones settled."""
        for position, line in enumerate(self):
            time.sleep(0)  # as in `Acceptance.check`
            item = parse.parse_line(position, line, allowed)
            parse.refuse_dependencies(item)
            yield item

    def __iter__(self) -> Iterator[bytes | None]:
        """Yield the lines. Raises `TooLarge` and `IncompleteBody`, perhaps after many lines."""
        while line := self.read(self.max_line + 1):
            if len(line) > self.max_line and not line.endswith(b"\n"):
                self.skip()
                yield None
            elif stripped := line.strip():
                yield stripped
        if self.expected is not None and self.received < self.expected:
            raise IncompleteBody

    def read(self, size: int) -> bytes:
        part = self.source.readline(size)
        self.received += len(part)
        self.digest.update(part)
        if self.received > self.max_bytes:
            raise self.too_large()
        return part

    def skip(self) -> None:
        """Skip the rest of a line."""
        while (part := self.read(SKIP)) and not part.endswith(b"\n"):
            pass

    def too_large(self) -> TooLarge:
        return TooLarge(f"The body is larger than {self.max_bytes} bytes.")
