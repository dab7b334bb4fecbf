"""A Redis server for one test, behind a socket file that only the test reaches."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from tests.processes import PATIENCE, stop
from tests.programs import require_program


@dataclass
class RedisServer:
    directory: Path

    @property
    def url(self) -> str:
        return f"unix://{self.directory}/socket"

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, decode_responses=True)

    def start(self) -> None:
        command = [
            require_program("redis-server"),
            "--port",
            "0",
            "--unixsocket",
            f"{self.directory}/socket",
            "--save",
            "",
        ]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log)
        end = time.monotonic() + PATIENCE
        while not self.answers():
            assert time.monotonic() < end, (self.directory / "log").read_text()
            time.sleep(0.01)

    def answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    """Run a Redis until the block ends."""
    server = RedisServer(Path(tempfile.mkdtemp(prefix="redis-")))
    try:
        server.start()
        yield server
    finally:
        stop(server.process)
        shutil.rmtree(server.directory)
