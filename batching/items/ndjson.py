"""The body of a background batch, an item a line, read as it comes: no more than one line of it is held."""

import hashlib
import time
from collections.abc import Iterator
from typing import Protocol

from batching.errors import CutOff
from batching.items import parse
from batching.items.item import Item
from batching.items.parse import Rules
from wire.api.rest import TooLarge

# What is read at once of a line that is too long.
SKIP = 64 * 1024


class Source(Protocol):
    def readline(self, size: int, /) -> bytes: ...


class Upload:
    """The lines of a body that aren't empty; None stands for one that is too long.

    `expected` is how many bytes the client announced. Once it is read, `hash` tells its content from any other.
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

    def items(self, rules: Rules) -> Iterator[Item]:
        """Yield the items, those that can't be carried out answered already."""
        for position, line in enumerate(self):
            time.sleep(0)  # as in `Acceptance.check`
            item = parse.read_line(position, line, rules)
            parse.refuse_dependencies(item)
            yield item

    def __iter__(self) -> Iterator[bytes | None]:
        """Raises `TooLarge` and `CutOff`, perhaps after many lines."""
        while line := self.read(self.max_line + 1):
            if len(line) > self.max_line and not line.endswith(b"\n"):
                self.skip()
                yield None
            elif stripped := line.strip():
                yield stripped
        if self.expected is not None and self.received < self.expected:
            raise CutOff

    def read(self, size: int) -> bytes:
        part = self.source.readline(size)
        self.received += len(part)
        self.digest.update(part)
        if self.received > self.max_bytes:
            raise self.too_large()
        return part

    def skip(self) -> None:
        """Pass over the rest of a line."""
        while (part := self.read(SKIP)) and not part.endswith(b"\n"):
            pass

    def too_large(self) -> TooLarge:
        return TooLarge(f"The body is larger than {self.max_bytes} bytes.")
