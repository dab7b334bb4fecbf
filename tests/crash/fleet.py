"""The processes under test, from outside: forked from the nursery, killed, paused, and forked anew."""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.processes import ROOT


@dataclass(eq=False)
class Process:
    """A child of the nursery; `handle` stands for it, and never for another one that got its number."""

    command: str
    pid: int
    handle: int

    @property
    def is_alive(self) -> bool:
        return not select.select([self.handle], [], [], 0)[0]

    def signal(self, number: int) -> None:
        with suppress(OSError):
            signal.pidfd_send_signal(self.handle, number)


class Fleet:
    """Keeps a process of each command running, with something `taken_out` of it (see `tests.crash.faults`)."""

    def __init__(self, directory: Path, commands: list[str], env: dict[str, str]) -> None:
        command = [sys.executable, "-m", "tests.crash.nursery"]
        self.log = (directory / "log").open("ab")
        self.nursery = subprocess.Popen(
            command, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True
        )
        self.commands = commands
        self.processes: list[Process] = []
        self.forked = 0
        self.taken_out = "nothing"

    def tend(self) -> None:
        """Fork again what has died."""
        for process in [each for each in self.processes if not each.is_alive]:
            os.close(process.handle)
            self.processes.remove(process)
        missing = list(self.commands)
        for process in self.processes:
            missing.remove(process.command)
        for command in missing:
            self.fork(command)

    def fork(self, command: str) -> None:
        assert self.nursery.stdin
        assert self.nursery.stdout
        self.nursery.stdin.write(f"{self.taken_out} {command}\n")
        self.nursery.stdin.flush()
        answer = self.nursery.stdout.readline()
        assert answer, "The nursery has died: see the log."
        with suppress(ProcessLookupError):  # dead already: it is missing, and forked again
            self.processes.append(Process(command, int(answer), os.pidfd_open(int(answer))))
        self.forked += 1

    def found(self, pid: int) -> Process | None:
        """Return the process of that number, which may also be a child of one of ours."""
        with suppress(ProcessLookupError):
            known = (process for process in self.processes if process.pid == pid)
            return next(known, None) or Process("", pid, os.pidfd_open(pid))
        return None

    def wake(self, process: Process) -> None:
        """Let one that was paused go on."""
        process.signal(signal.SIGCONT)
        if not process.command:
            os.close(process.handle)

    def kill(self) -> None:
        for process in self.processes:
            process.signal(signal.SIGKILL)
        while any(process.is_alive for process in self.processes):
            time.sleep(0.01)

    def end(self) -> None:
        self.kill()
        self.nursery.kill()
        self.nursery.communicate()
        self.log.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(port: int, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not listens(port):
        assert time.monotonic() < end, "The server doesn't listen: see the log."
        time.sleep(0.01)
