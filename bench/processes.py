"""What a process of a benchmark has used."""

import os
from pathlib import Path

from tests.processes import Served


def cpu_seconds(served: Served) -> float:
    """Return the CPU time of a process so far, in and out of the kernel; /proc is Linux's."""
    fields = Path(f"/proc/{served.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
