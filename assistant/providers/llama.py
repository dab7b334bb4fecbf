"""llama.cpp in a process of its own, which ends when the one that started it does.

Inside the service's process it would hold the interpreter's lock for up to 30 s when it is let go, crash an exit while
it generates, and never let a forked child exit. This file is both ends: `LlamaServer`, and the program that it runs,
which imports nothing of the project.
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
# Of each slot: half as many more tokens would take the server over 300 MB, with weights of 100 MB.
CONTEXT_TOKENS = 2560
# A connection has a thread to itself for as long as it is open, idle or not.
CONNECTIONS = 64
STOP_SECONDS = 5


class LlamaError(Exception):
    """llama.cpp didn't start."""


class LlamaServer:
    """A running server on a free port of the loopback interface, which wants `key`. Raises `LlamaError`."""

    def __init__(self, weights: Path) -> None:
        self.key = secrets.token_urlsafe()
        # -P: the folder of this file has modules named as packages are.
        process = subprocess.Popen(  # noqa: S603  # our own program
            [sys.executable, "-P", __file__, str(weights)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._process = process
        self._stdin, self._stdout = cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout)
        self.url = self._greet()

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._let_go()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def forget(self) -> None:
        """In a forked child: close what would keep the server alive after its owner, and never wait for it."""
        self._let_go()
        self._process.returncode = 0

    def _let_go(self) -> None:
        for pipe in (self._stdin, self._stdout):
            with suppress(OSError):
                pipe.close()

    def _greet(self) -> str:
        """Hand over the key, which must not be seen in the list of processes, and wait until the model is loaded."""
        with suppress(BrokenPipeError):
            self._stdin.write(self.key.encode() + b"\n")
            self._stdin.flush()
        said: dict[str, str] = json.loads(self._stdout.readline() or b"{}")
        if "url" not in said:
            self.close()
            raise LlamaError(said.get("error") or f"its process ended with {self._process.returncode}")
        return said["url"]


def main(weights: str) -> None:
    """Serve until the standard input ends. The signals of a terminal or a supervisor are the owner's business."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    key = sys.stdin.readline().strip()
    answer = muted()
    try:
        server = serve(weights, key)
    except Exception as error:  # foreign code; its sentence is for the owner's log
        tell(answer, {"error": f"{type(error).__name__}: {error}"})
    else:
        tell(answer, {"url": server.listening_address})
        sys.stdin.read()
    # An orderly exit would crash in the middle of an answer.
    os._exit(0)


def muted() -> int:
    """Send what llama.cpp prints nowhere, and return the descriptor that still leads to the owner."""
    answer = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return answer


def tell(descriptor: int, words: dict[str, str]) -> None:
    os.write(descriptor, json.dumps(words).encode() + b"\n")


def serve(weights: str, key: str) -> Any:
    from xllamacpp import CommonParams, Server

    params = CommonParams()
    params.model.path = weights
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [key]  # it answers every origin, so pages in a browser could ask it too
    params.n_parallel = SLOTS
    params.n_threads_http = CONNECTIONS
    params.n_ctx = SLOTS * CONTEXT_TOKENS
    params.cache_ram_mib = 0  # its cache of prompts would grow without end
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = max(1, (os.cpu_count() or 1) - 1)
    params.ui = params.endpoint_slots = params.endpoint_props = params.endpoint_metrics = False
    params.verbosity = 0
    # With llama.cpp's own defaults a small model says one sentence again and again until its tokens run out. DRY makes
    # repeating unlikely; it looks back a few sentences only, or nothing could be quoted from the prompt.
    params.sampling.dry_multiplier, params.sampling.dry_penalty_last_n = 0.8, 96
    params.sampling.penalty_repeat, params.sampling.penalty_last_n = 1.05, 64
    params.sampling.temp, params.sampling.top_p = 0.2, 0.9  # what SmolLM2's authors advise
    return Server(params)


if __name__ == "__main__":
    main(sys.argv[1])
