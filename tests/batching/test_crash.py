"""What is left of background batches when processes are killed: nothing is lost, nothing ends twice."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests.batching.background import LINES, lines
from tests.batching.conftest import item, until
from tests.batching.test_server import ROOT, listens

pytestmark = [pytest.mark.server, pytest.mark.slow]

ITEMS = 300


class Service:
    """The host project behind daphne, which is killed and started again on the same database."""

    def __init__(self, directory: Path, **env: str) -> None:
        self.database, self.ledger = directory / "db.sqlite3", directory / "ledger"
        settings = {"DJANGO_SETTINGS_MODULE": "tests.host.settings", "DATABASE_URL": f"sqlite:///{self.database}"}
        self.env = {**os.environ, **settings, "LEDGER": str(self.ledger), "BATCH_LEASE": "1", **env}
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

    def seen(self) -> list[str]:
        """Return the keys of the calls that views have seen, as they noted them down."""
        return self.ledger.read_text().split() if self.ledger.exists() else []

    def left(self) -> int:
        found: int = self.rows("SELECT COUNT(*) FROM batching_batchitem WHERE finished_at IS NULL")[0][0]
        return found


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    it = Service(tmp_path, BATCH_RUN_IN_SERVER="true")
    it.start()
    yield it
    it.kill()


def test_a_body_that_is_cut_off_leaves_nothing(service: Service) -> None:
    body = lines([item("/api/echo", id=str(n)) for n in range(2_000)]).encode()
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as sent:
        head = f"POST /api/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: {LINES}\r\nPrefer: respond-async\r\n"
        sent.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[: len(body) // 2])
    batch_id = service.accept([item("/api/echo", id="a")])
    until(lambda: not service.left(), seconds=20)
    assert service.rows("SELECT id FROM batching_batch") == [(batch_id,)]


def test_progress_is_told_live_and_adds_up(service: Service) -> None:
    batch_id = service.accept([item(f"/api/noting?seconds=0.1&n={n}", "POST", id=str(n)) for n in range(30)])
    with closing(HTTPConnection("127.0.0.1", service.port, timeout=30)) as connection:
        connection.request("GET", f"/api/batch/{batch_id}/events")
        answer = connection.getresponse().read().decode()
    told = [json.loads(line[6:]) for line in answer.splitlines() if line.startswith("data: ")]
    assert [one["type"] for one in told] == ["start", *["progress"] * (len(told) - 2), "end"]
    assert len(told) > 3
    for counts in (one["counts"] for one in told):
        assert counts.pop("total") == sum(counts.values())
    finished = [one["counts"]["succeeded"] for one in told]
    assert finished == sorted(finished)
    assert finished[-1] == 30


def test_a_server_that_is_killed_loses_nothing(service: Service) -> None:
    """Compare a ledger kept outside with the rows: each item was seen, and has one final state."""
    service.ask("GET", "/api/batch/x")
    batch_id = service.accept([item(f"/api/noting?seconds=0.01&n={n}", "POST", id=str(n)) for n in range(ITEMS)])
    for progress in (40, 120, 200):
        until(lambda n=progress: len(service.seen()) > n, seconds=60)
        service.kill()
        service.start()
        service.ask("GET", f"/api/batch/{batch_id}")
    until(lambda: not service.left(), seconds=60)
    audit(service, batch_id)


def audit(service: Service, batch_id: str) -> None:
    calls = Counter(service.seen())
    assert set(calls) == {f"{batch_id}:{n}" for n in range(ITEMS)}, "an item was lost"
    rows = service.rows("SELECT state, status, attempts, fence, call FROM batching_batchitem ORDER BY position")
    assert {row[:2] for row in rows} == {("succeeded", 200)}
    assert all(calls[f"{batch_id}:{n}"] <= fence for n, (*_, fence, _) in enumerate(rows)), "an item ran unclaimed"
    assert {row[4] for row in rows} == {None}
    found = service.rows("SELECT status, total, succeeded, failed, cancelled, expired FROM batching_batch")
    assert found == [("completed", ITEMS, ITEMS, 0, 0, 0)], "the counts aren't those of the rows"


def test_a_process_that_sleeps_past_its_lease_is_too_late(tmp_path: Path) -> None:
    service = Service(tmp_path, BATCH_RUN_IN_SERVER="false")
    service.start()
    command = [sys.executable, "-m", "django", "run_batches"]
    workers = []
    try:
        batch_id = service.accept([item(f"/api/noting?seconds=1&n={n}", "POST", id=str(n)) for n in range(2)])
        workers.append(subprocess.Popen(command, cwd=ROOT, env=service.env))
        until(lambda: len(service.seen()) == 2, seconds=30)
        workers[0].send_signal(signal.SIGSTOP)
        workers.append(subprocess.Popen(command, cwd=ROOT, env=service.env))
        until(lambda: not service.left(), seconds=30)
        ended = service.rows("SELECT id, fence, finished_at FROM batching_batchitem")
        workers[0].send_signal(signal.SIGCONT)
        time.sleep(1.5)  # it ends what it had begun, and tries to write it
        assert service.rows("SELECT id, fence, finished_at FROM batching_batchitem") == ended
        assert Counter(service.seen()) == {f"{batch_id}:{n}": 2 for n in range(2)}
        assert service.rows("SELECT succeeded, failed FROM batching_batch") == [(2, 0)]
    finally:
        service.kill()
        for worker in workers:
            worker.kill()
            worker.wait()
