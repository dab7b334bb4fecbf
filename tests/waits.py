"""Wait for a condition."""

import time
from collections.abc import Callable
from typing import Any

from tests.processes import PATIENCE


def until(condition: Callable[[], Any], seconds: float = PATIENCE, pause: float = 0.01) -> Any:
    """Return the condition's value once it is true; fail after `seconds`."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "the condition didn't become true in time"
        time.sleep(pause)
    return value
