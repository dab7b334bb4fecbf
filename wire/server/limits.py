"""The server's limits: seconds to read and to write, bytes of a body."""

from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from wire.conf import BODY_MAX_BYTES, Count, Seconds


@dataclass(frozen=True, slots=True, config=ConfigDict(strict=True))
class ServerLimits:
    """The settings with their defaults; durations in seconds, sizes in bytes."""

    READ_TIMEOUT: Seconds = 30
    """How long a client may send nothing of a request, or between two requests on one connection."""
    WRITE_TIMEOUT: Seconds = 30
    """How long a client may read nothing while bytes wait for it."""
    SHUTDOWN_GRACE: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 30
    """How long open requests may go on once the process was told to stop."""
    BODY_MAX_BYTES: Count = BODY_MAX_BYTES
    """How large the body of a request may be where its view doesn't take more."""
