"""llama.cpp in a child process, which ends with its parent.

Inside the service's process it would hold the GIL for up to 30 s at shutdown, crash an exit during generation, and keep
a forked child from exiting. This file is both ends: `LlamaServer`, and the program that it runs, which imports nothing
of the project.
"""

import json
import os
import secrets
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

SLOTS = 2
# Of each slot: half as many more would take the server over 300 MB, with weights of 100 MB.
CONTEXT_TOKENS = 2560
# Each open connection occupies a thread, idle or not.
CONNECTIONS = 64
STOP_SECONDS = 5


class LlamaError(Exception):
    """llama.cpp didn't start."""


class LlamaServer:
    """A running server on a free loopback port, which requires `key`. Raises `LlamaError`."""

    def __init__(self, weights: Path) -> None:
        self.key = secrets.token_urlsafe()
        # -P: this folder has modules with the names of packages.
        process = subprocess.Popen(  # noqa: S603  # a fixed program
            [sys.executable, "-P", __file__, str(weights)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._process = process
        self._stdin, self._stdout = cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout)
        self.url = self._handshake()

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        """End the process."""
        self._close_pipes()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def detach(self) -> None:
        """In a forked child: close the pipes that would keep the server alive, and never wait for it."""
        self._close_pipes()
        self._process.returncode = 0

    def _close_pipes(self) -> None:
        for pipe in (self._stdin, self._stdout):
            with suppress(OSError):
                pipe.close()

    def _handshake(self) -> str:
        """Send the key, which must not appear in the list of processes, and wait until the model is loaded."""
        with suppress(BrokenPipeError):
            self._stdin.write(self.key.encode() + b"\n")
            self._stdin.flush()
        reply: dict[str, str] = json.loads(self._stdout.readline() or b"{}")
        if "url" not in reply:
            self.close()
            raise LlamaError(reply.get("error") or f"its process ended with {self._process.returncode}")
        return reply["url"]


def main(weights: str) -> None:
    """Serve until standard input ends. The parent handles the signals of a terminal or a supervisor."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    key = sys.stdin.readline().strip()
    answer = mute_stdout()
    try:
        server = serve(weights, key)
    except Exception as error:  # foreign code; its message is for the parent's log
        send(answer, {"error": f"{type(error).__name__}: {error}"})
    else:
        send(answer, {"url": server.listening_address})
        sys.stdin.read()
    # An orderly exit would crash in the middle of an answer.
    os._exit(0)


def mute_stdout() -> int:
    """Discard llama.cpp's output, and return a descriptor that still leads to the parent."""
    answer = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return answer


def send(descriptor: int, content: dict[str, str]) -> None:
    os.write(descriptor, json.dumps(content).encode() + b"\n")


def serve(weights: str, key: str) -> Any:
    from xllamacpp import CommonParams, Server

    params = CommonParams()
    params.model.path = weights
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [key]  # it accepts every origin, so that pages in a browser could call it
    params.n_parallel = SLOTS
    params.n_threads_http = CONNECTIONS
    params.n_ctx = SLOTS * CONTEXT_TOKENS
    params.cache_ram_mib = 0  # its prompt cache would grow without bound
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = max(1, (os.cpu_count() or 1) - 1)
    params.ui = params.endpoint_slots = params.endpoint_props = params.endpoint_metrics = False
    params.verbosity = 0
    # With llama.cpp's defaults a small model repeats one sentence until its tokens run out. DRY prevents that; it looks
    # back a few sentences only, so that the prompt can still be quoted.
    params.sampling.dry_multiplier, params.sampling.dry_penalty_last_n = 0.8, 96
    params.sampling.penalty_repeat, params.sampling.penalty_last_n = 1.05, 64
    params.sampling.temp, params.sampling.top_p = 0.2, 0.9  # the values that SmolLM2's authors recommend
    return Server(params)


if __name__ == "__main__":
    main(sys.argv[1])
