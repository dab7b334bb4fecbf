"""Processes of a benchmark: started, and asked what they have used. Linux's /proc and clocks."""

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.processes import CLEAN, ROOT, stop

# LiteLLM's proxy takes its time.
PATIENCE = 120


@dataclass(frozen=True)
class Process:
    """A server that listens."""

    url: str
    pid: int

    def cpu_seconds(self) -> float:
        """Return the CPU time so far, in and out of the kernel, of all its threads, by its own CPU clock.

        The clock of process n has the id (~n << 3) | 2: clock_getcpuclockid(3). /proc/n/stat counts in hundredths.
        """
        return time.clock_gettime((~self.pid << 3) | 2)

    def resident_bytes(self) -> int:
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def peak_bytes(self) -> int:
        """Return the most that was resident since `forget_peak`."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return 1_024 * int(status.partition("VmHWM:")[2].split()[0])

    def forget_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def threads(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/task").iterdir()))


@contextmanager
def started(*command: str, **env: str) -> Iterator[Process]:
    """Run a server until the block ends; `{port}` in its command or environment becomes a free port of this machine."""
    port = free_port()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [word.replace("{port}", str(port)) for word in command],
            cwd=ROOT,
            env=CLEAN | {name: value.replace("{port}", str(port)) for name, value in env.items()},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            if not listens(process, port):
                output.seek(0)
                raise RuntimeError(f"{command} doesn't listen:\n{output.read().decode()}")
            yield Process(f"http://127.0.0.1:{port}", process.pid)
        finally:
            stop(process)


def listens(process: subprocess.Popen[bytes], port: int) -> bool:
    """Return whether the process accepts connections before patience or its life ends."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return True
    return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
