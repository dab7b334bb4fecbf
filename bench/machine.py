"""What the numbers were measured on, and with."""

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

PACKAGES = ["django", "daphne", "aiohttp", "orjson", "uvicorn", "uvloop", "fastapi", "httpx", "openai", "litellm"]


def described() -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"{os.cpu_count()} cores ({model()}), {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, {versions}"
    )


def model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


class Busyness:
    """How much of the machine other processes take while the benchmarks run, from /proc/stat and their own clocks."""

    def __init__(self) -> None:
        self.begun = used()

    def since(self) -> str:
        busy, total = (now - then for now, then in zip(used(), self.begun, strict=True))
        load = os.getloadavg()[0]
        return f"all processes together kept {busy / max(total, 1):.0%} of the cores busy; load average {load:.1f}"


def stolen() -> float:
    """Return the seconds in which a core had work and other machines on the same host had the core."""
    return int(Path("/proc/stat").read_text().split(maxsplit=9)[8]) / os.sysconf("SC_CLK_TCK")


def used() -> Sequence[int]:
    """Return the ticks that the cores were busy, and all there were."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(fields) - fields[3] - fields[4], sum(fields)
