"""What the server gives a client: seconds to read and to write, bytes for a body."""

from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from wire.conf import Count, Seconds


@dataclass(frozen=True, slots=True, config=ConfigDict(strict=True))
class ServerLimits:
    """The settings with their defaults; durations in seconds, sizes in bytes."""

    READ_TIMEOUT: Seconds = 30
    """How long nothing may come of a request, or of the next one on the same connection."""
    WRITE_TIMEOUT: Seconds = 30
    """How long a reader may take nothing of what waits for him."""
    SHUTDOWN_GRACE: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 30
    """How long what is open may go on once the process was told to stop."""
    BODY_MAX_BYTES: Count = 2 * 1024 * 1024
    BATCH_MAX_BYTES: Count = 1024 * 1024
    BATCH_ASYNC_MAX_BYTES: Count = 256 * 1024 * 1024
    """What may be sent to `/api/batch`, where the view reads it in slices."""

    def body(self, path: str) -> int:
        """Return how many bytes the body of a request to `path` may have before it is refused unread."""
        least = max(self.BODY_MAX_BYTES, self.BATCH_MAX_BYTES)
        return max(least, self.BATCH_ASYNC_MAX_BYTES) if path == "/api/batch" else least
