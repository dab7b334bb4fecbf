"""The host project behind a server of its own, for tests that kill it or talk to it from other processes."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests.batching.background import LINES, lines
from tests.batching.conftest import until
from tests.batching.test_server import ROOT, listens


class Service:
    """The host project behind daphne, on a database of its own; `env` is set on top."""

    def __init__(self, directory: Path, **env: str) -> None:
        self.database = directory / "db.sqlite3"
        settings = {"DJANGO_SETTINGS_MODULE": "tests.host.settings", "DATABASE_URL": f"sqlite:///{self.database}"}
        self.env = {**os.environ, **settings, "LEDGER": str(directory / "ledger"), "BATCH_LEASE": "1", **env}
        subprocess.run([sys.executable, "-m", "django", "migrate", "-v0"], cwd=ROOT, env=self.env, check=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]

    def start(self) -> None:
        command = [sys.executable, "-m", "daphne", "-v0", "--port", str(self.port), "tests.host.asgi:application"]
        self.process = subprocess.Popen(command, cwd=ROOT, env=self.env)
        until(lambda: listens(self.port), seconds=30)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def ask(self, method: str, path: str, body: str | None = None) -> tuple[int, Any]:
        headers = {"Content-Type": LINES, "Prefer": "respond-async"} if body else {}
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def accept(self, items: list[Any]) -> str:
        status, answer = self.ask("POST", "/api/batch", lines(items))
        assert status == 202, answer
        batch_id: str = answer["batch_id"]
        return batch_id

    def rows(self, query: str) -> list[Any]:
        with closing(sqlite3.connect(self.database, timeout=10)) as connection:
            return connection.execute(query).fetchall()
