"""What is left of background batches when clients hang up and processes die; `tests.crash` does the killing."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest
from django.db import connections

from tests.batching.background import LINES, lines
from tests.batching.conftest import item, until
from tests.batching.service import Service
from tests.batching.test_server import ROOT

pytestmark = pytest.mark.slow

BACKENDS = ("sqlite", "postgres")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    it = Service(tmp_path, BATCH_RUN_IN_SERVER="true")
    it.start()
    yield it
    it.process.kill()
    it.process.wait()


@pytest.mark.server
def test_a_body_that_is_cut_off_leaves_nothing(service: Service) -> None:
    body = lines([item("/api/echo", id=str(n)) for n in range(2_000)]).encode()
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as sent:
        head = f"POST /api/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: {LINES}\r\nPrefer: respond-async\r\n"
        sent.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[: len(body) // 2])
    batch_id = service.accept([item("/api/echo", id="a")])
    left = "SELECT 1 FROM batching_batchitem WHERE finished_at IS NULL"
    until(lambda: not service.rows(left), seconds=20)
    assert service.rows("SELECT id FROM batching_batch") == [(batch_id,)]


@pytest.mark.server
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


def crash(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `tests.crash`, on a PostgreSQL of its own where these tests run on one."""
    own = ["scripts/with_postgres"] if connections["default"].vendor == "postgresql" else []
    command = [*own, sys.executable, "-m", "tests.crash", "--lease=0.5", f"--backend={BACKENDS[bool(own)]}", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.database
def test_nothing_is_lost_and_nothing_ends_twice_whatever_is_killed() -> None:
    """`make crash` does a thousand of these."""
    done = crash("--cycles=10")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 lost, 0 ended twice, 0 late writes accepted" in done.stdout


@pytest.fixture(scope="module")
def proof() -> str:
    done = crash("--prove")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.server
@pytest.mark.parametrize(
    ("taken_out", "noticed"),
    [
        ("fence", "late write"),
        ("reaper", "Stuck"),
        ("condition", "two final states"),
        ("claim", "claimed while held"),
    ],
)
def test_the_loop_notices_what_is_taken_out(proof: str, taken_out: str, noticed: str) -> None:
    assert f"without the {taken_out}: {noticed}" in proof
