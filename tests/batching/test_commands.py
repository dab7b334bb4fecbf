"""The command line: a batch from a file as a user, followed and looked at."""

import io
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client

from batching.background.embedded import EmbeddedWorker
from batching.conf import get_settings
from batching.management.commands import submit_batch
from batching.models import Batch, BatchItem
from tests.batching.background import drain, lines
from tests.batching.conftest import item
from tests.batching.service import Service
from tests.batching.test_server import ROOT

pytestmark = pytest.mark.usefixtures("committed")


@pytest.fixture
def ada(committed: None) -> User:
    return User.objects.create_user("ada", password="pw")


@pytest.fixture
def file(tmp_path: Path) -> Any:
    """Write items to a file, one a line."""

    def written(*items: Any) -> str:
        path = tmp_path / "items.jsonl"
        path.write_text(lines(list(items)))
        return str(path)

    return written


def run(*arguments: str) -> str:
    """Run a command and return what it prints."""
    out = io.StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


def submitted(file: str, *options: str) -> Batch:
    return Batch.objects.get(pk=run("submit_batch", file, "--as=ada", *options).split()[0])


def test_a_file_becomes_a_batch_whose_items_run_as_the_user(ada: User, file: Any) -> None:
    doors = [item(f"/api/{name}", "POST", id=name) for name in ("private", "either", "protected", "whoami")]
    batch = submitted(file(*doors, item("/api/keyed", "POST", id="keyed"), "{"))
    assert (batch.owner, batch.total, batch.status) == (ada, 6, "queued")
    drain()
    rows = BatchItem.objects.filter(batch=batch).order_by("position")
    assert [(row.status, (row.response_body or {}).get("user")) for row in rows[:4]] == [(200, "ada")] * 4
    assert [row.status for row in rows[4:]] == [401, 400]  # as in a session of hers
    client = Client()
    client.force_login(ada)
    assert client.get(f"/api/batch/{batch.pk}").json()["counts"]["succeeded"] == 4


def test_items_find_themselves_at_the_projects_own_host(ada: User, file: Any, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["*", ".assistant.example"]
    settings.SECURE_SSL_REDIRECT = True
    batch = submitted(file(item("/api/echo", id="a")))
    drain()
    seen = BatchItem.objects.get(batch=batch).response_body
    assert (seen["uri"], seen["client"]) == ("https://assistant.example/api/echo", "127.0.0.1")


def test_the_priority_is_the_batchs(ada: User, file: Any) -> None:
    assert submitted(file(item("/api/echo", id="a")), "--priority=low").priority == Batch.Priority.LOW


def test_the_standard_input_is_a_file_too(ada: User, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(lines([item("/api/echo", id="a")]).encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert submitted("-").total == 1


@pytest.mark.parametrize(
    ("options", "limits", "said"),
    [
        (["--as=bob"], {}, "There is no user named 'bob'."),
        (["--as=eve"], {}, "The user 'eve' is deactivated."),
        (["--as=ada"], {"BATCH_ASYNC_MAX_SIZE": 1}, "A background batch may have 1 items."),
        (["--as=ada"], {"BATCH_MAX_QUEUED": 1}, "You may have 1 items waiting in background batches."),
        (["--as=ada"], {"BATCH_ENABLED": False}, "Batches are disabled (BATCH_ENABLED=false)."),
    ],
)
def test_what_is_refused_leaves_nothing_and_is_2(
    ada: User, file: Any, settings: Any, options: list[str], limits: Any, said: str
) -> None:
    User.objects.create_user("eve", is_active=False)
    for name, value in limits.items():
        setattr(settings, name, value)
    with pytest.raises(CommandError) as refused:
        run("submit_batch", file(item("/api/echo", id="a"), item("/api/echo", id="b")), *options)
    assert (str(refused.value), refused.value.returncode) == (said, 2)
    assert not Batch.objects.exists()


def test_a_file_that_is_not_there_is_named(ada: User, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"nothing\.jsonl can't be read: No such file or directory"):
        run("submit_batch", str(tmp_path / "nothing.jsonl"), "--as=ada")


@pytest.fixture
def background() -> Any:
    """Work on background batches beside the test."""
    engine = EmbeddedWorker(get_settings())
    yield engine
    engine.stop(10)


def test_a_batch_is_followed_to_its_end_in_plain_lines(
    ada: User, file: Any, background: EmbeddedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit_batch, "PACE", 0.01)
    said = run("submit_batch", file(item("/api/echo", id="a")), "--as=ada", "--follow").splitlines()
    assert said[0] == Batch.objects.get().pk
    assert said[-1] == "completed, 1 of 1 (100%)"
    assert all("\r" not in line for line in said)


def test_what_failed_is_named_with_how_often_and_is_1(
    ada: User, file: Any, background: EmbeddedWorker, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = [item(f"/api/failing/{status}?{n}", id=f"{status}{n}") for n in range(2) for status in (500, 404)]
    with pytest.raises(SystemExit) as ended:
        call_command(
            "submit_batch", file(item("/api/echo", id="a"), *bad, bad[0] | {"id": "x"}), "--as=ada", "--follow"
        )
    assert ended.value.code == 1
    said = capsys.readouterr().out.splitlines()
    assert said[-3:] == [
        "completed, 6 of 6 (100%), 5 failed",
        "       3 x 500 Internal Server Error",
        "       2 x 404 Not Found",
    ]


def test_the_open_ones_are_listed_and_one_is_told_of_in_full(ada: User, file: Any) -> None:
    ended = submitted(file(item("/api/failing/500", id="a")))
    drain()
    waiting = submitted(file(item("/api/echo", id="a"), "{"))
    (line,) = run("batch_status").splitlines()
    assert line == f"{waiting.pk}  queued  1 of 2 (50%), 1 failed  normal priority, ada's"
    first, items, *_, last = run("batch_status", ended.pk).splitlines()
    assert first == f"{ended.pk}  completed  1 of 1 (100%), 1 failed  normal priority, ada's"
    assert items == "items: 1 total, 0 succeeded, 1 failed, 0 cancelled, 0 expired, 0 running, 0 queued"
    assert last == "       1 x 500 Internal Server Error"


def test_a_batch_that_is_not_there_is_named() -> None:
    with pytest.raises(CommandError, match="There is no background batch batch_x"):
        run("batch_status", "batch_x")


@pytest.mark.server
def test_on_a_terminal_a_bar_is_drawn_and_ctrl_c_leaves_the_batch_going(tmp_path: Path) -> None:
    service = Service(tmp_path)
    django = [sys.executable, "-m", "django"]
    env = {**service.env, "DJANGO_SUPERUSER_PASSWORD": "pw"}
    create = [*django, "createsuperuser", "--no-input", "--username=ada", "--email=a@b.example"]
    subprocess.run(create, cwd=ROOT, env=env, check=True, capture_output=True)
    terminal, end = pty.openpty()
    command = [*django, "submit_batch", "-", "--as=ada", "--follow"]
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=end, stderr=subprocess.PIPE
    ) as followed:
        os.close(end)
        said = interrupted(followed, terminal, json.dumps(item("/api/echo", id="a")))
    batch_id = said[0].split()[0]
    assert followed.returncode == 130
    assert said[1] == f"{batch_id} continues. To see its status: manage.py batch_status {batch_id}"
    assert service.rows("SELECT id, status FROM batching_batch") == [(batch_id, "queued")]


def interrupted(followed: Any, terminal: int, line: str) -> tuple[str, str]:
    """Press Ctrl-C once a bar was drawn twice; returns what was said on the terminal and beside it."""
    shown = b""
    try:
        followed.stdin.write(line.encode())
        followed.stdin.close()
        while shown.count(b"\r[....") < 2:
            shown += os.read(terminal, 1024)
        followed.send_signal(signal.SIGINT)
        said = followed.stderr.read().decode().strip()
        followed.wait(10)
        return shown.decode(), said
    finally:
        os.close(terminal)
        followed.kill()
