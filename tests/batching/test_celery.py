"""Background batches on Celery's workers: real ones, with a real Redis between."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connections

from batching.background import celery
from batching.models import Batch, BatchItem, Webhook
from tests.batching.background import accept, accepted, lines, states
from tests.batching.conftest import item, until, wsgi
from tests.batching.test_server import ROOT
from tests.batching.test_webhooks import SECRET, Receiver, send
from tests.host.celery import app
from tests.processes import stop
from tests.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.slow

# Seconds for a worker to start, to look, to take up what a dead one held.
PATIENCE = 60

CELERY_APP = "tests.host.celery.app"


class Worker:
    """A process of `celery worker` with one of its own that works, and a ledger of the calls that its views saw."""

    def __init__(self, directory: Path, broker: str, **env: str) -> None:
        self.ledger, self.output = directory / "ledger", directory / "output"
        directory.mkdir()
        self.ledger.touch()
        command = [sys.executable, "-m", "celery", "-A", "tests.host", "worker", "--concurrency=1", "--loglevel=INFO"]
        own = {"CELERY_BROKER_URL": broker, "BATCH_CELERY_APP": CELERY_APP, "BATCH_SLICE": "2"}
        own |= {"DATABASE_URL": database(), "LEDGER": str(self.ledger)}
        own |= {"HOST_DEBUG": "true", "BATCH_WEBHOOK_SECRET": SECRET, "BATCH_WEBHOOK_HOSTS": "127.0.0.1"}
        with self.output.open("wb") as sink:
            self.process = subprocess.Popen(
                [*command, "--without-mingle", "--without-gossip", f"--hostname={directory.name}@localhost"],
                cwd=ROOT,
                env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.host.settings", **own, **env},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def log(self) -> str:
        return self.output.read_text()

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.log()
        return " ready." in self.log()

    def seen(self) -> list[str]:
        return self.ledger.read_text().split()

    def child(self) -> int:
        """Return the process that works; the other one talks to the broker."""
        main = self.process.pid
        return int(Path(f"/proc/{main}/task/{main}/children").read_text().partition(" ")[0] or 0)

    def signal(self, number: int) -> None:
        """Send both a signal at once."""
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.process.wait()


def database() -> str:
    name = connections["default"].settings_dict["NAME"]
    if connections["default"].vendor == "sqlite":
        return f"sqlite:///{name}"
    return f"{os.environ['DATABASE_URL'].rpartition('/')[0]}/{name}"


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        app.conf.broker_url = broker_of(server)
        yield server
        app.pool.force_close_all()


def broker_of(server: RedisServer) -> str:
    return f"redis+socket://{server.directory}/socket"


@contextmanager
def working(directory: Path, redis: RedisServer, **env: str) -> Iterator[Worker]:
    """Run a worker until the block ends, unless it has ended before."""
    worker = Worker(directory, broker_of(redis), **env)
    try:
        until(worker.is_ready, PATIENCE)
        yield worker
    finally:
        if worker.process.poll() is None:
            worker.kill()


@pytest.fixture(scope="module")
def pair(django_db_setup: None, redis: RedisServer, tmp_path_factory: Any) -> Iterator[list[Worker]]:
    directory = tmp_path_factory.mktemp("workers")
    with working(directory / "first", redis) as first, working(directory / "second", redis) as second:
        yield [first, second]


@pytest.fixture
def workers(committed: None, pair: list[Worker], settings: Any) -> list[Worker]:
    """Two workers, called by whoever accepts a batch."""
    settings.BATCH_CELERY_APP = CELERY_APP
    for worker in pair:
        worker.ledger.write_text("")
    return pair


@pytest.fixture
def third(workers: list[Worker], redis: RedisServer, tmp_path: Path) -> Iterator[Worker]:
    """One more, to be ended. It counts as dead soon."""
    with working(tmp_path / "third", redis, BATCH_LEASE="2") as worker:
        yield worker


@contextmanager
def paused(workers: list[Worker]) -> Iterator[None]:
    """Have workers neither look nor work until the block ends."""
    for worker in workers:
        worker.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for worker in workers:
            worker.signal(signal.SIGCONT)


def sent(redis: RedisServer) -> int:
    """Return how many messages the broker has been given."""
    statistics: Any = redis.client().info("commandstats")
    return int(statistics.get("cmdstat_lpush", {}).get("calls", 0))


def noting(count: int, seconds: float = 0.05) -> list[Any]:
    return [item(f"/api/noting?seconds={seconds}&n={n}", "POST", id=str(n)) for n in range(count)]


def keys(batch: Batch, count: int) -> set[str]:
    return {f"{batch.pk}:{n}" for n in range(count)}


def over(batch: Batch) -> None:
    """Wait until a batch is over."""

    def is_over() -> bool:
        batch.refresh_from_db()
        return batch.finished_at is not None

    until(is_over, PATIENCE)


def position(key: str) -> int:
    return int(key.rpartition(":")[2])


def test_workers_share_a_batch_and_messages_that_come_twice_change_nothing(workers: list[Worker]) -> None:
    first, second = workers
    batch = accepted(accept(wsgi, noting(80)))
    celery.wake(20)
    over(batch)
    assert (batch.status, batch.succeeded) == ("completed", 80)
    assert Counter(first.seen() + second.seen()) == dict.fromkeys(keys(batch, 80), 1)
    assert min(len(first.seen()), len(second.seen())) >= 20


def test_what_killed_processes_held_is_done_by_others(workers: list[Worker], third: Worker) -> None:
    batch = accepted(accept(wsgi, noting(200)))
    until(lambda: len(third.seen()) > 5, PATIENCE)
    os.kill(killed := third.child(), signal.SIGKILL)
    until(lambda: third.child() not in (0, killed), PATIENCE)
    third.kill()
    over(batch)
    calls = Counter(key for worker in (*workers, third) for key in worker.seen())
    assert set(calls) == keys(batch, 200)
    rows = BatchItem.objects.order_by("position").values_list("state", "fence")
    assert {state for state, _ in rows} == {"succeeded"}
    assert all(calls[f"{batch.pk}:{n}"] <= fence for n, (_, fence) in enumerate(rows)), "an item ran unclaimed"
    assert max(fence for _, fence in rows) > 1, "nothing was held by those that were killed"
    assert (batch.status, batch.succeeded, batch.failed) == ("completed", 200, 0)


def test_a_batch_is_accepted_without_the_broker_and_found_later(workers: list[Worker], redis: RedisServer) -> None:
    with paused(workers):  # one that looks at this moment would find it
        stop(redis.process)
        batch = accepted(accept(wsgi, noting(4)))
        assert states(batch) == ["queued"] * 4
    redis.start()
    over(batch)
    assert batch.succeeded == 4


def test_an_item_that_is_to_be_tried_later_is_tried_later(workers: list[Worker]) -> None:
    batch = accepted(accept(wsgi, [item("/api/failing-once", id="a")]))
    over(batch)
    assert batch.succeeded == 1
    assert BatchItem.objects.get().attempts > 1


def test_a_worker_that_is_told_to_stop_ends_its_items(workers: list[Worker], third: Worker) -> None:
    batch = accepted(accept(wsgi, noting(6, seconds=1.5)))
    until(third.seen, PATIENCE)
    third.process.send_signal(signal.SIGTERM)
    assert third.process.wait(PATIENCE) == 0
    mine = BatchItem.objects.filter(position__in=[position(key) for key in third.seen()])
    assert {(each.state, each.fence) for each in mine} == {("succeeded", 1)}
    over(batch)


def test_a_worker_that_is_to_stop_at_once_gives_back_its_items(workers: list[Worker], third: Worker) -> None:
    batch = accepted(accept(wsgi, noting(6, seconds=5)))
    until(third.seen, PATIENCE)
    third.process.send_signal(signal.SIGQUIT)
    third.process.wait(PATIENCE)
    over(batch)
    mine = BatchItem.objects.filter(position__in=[position(key) for key in third.seen()])
    assert {(each.state, each.fence, each.attempts) for each in mine} == {("succeeded", 2, 1)}


def test_callers_share_the_workers(workers: list[Worker]) -> None:
    large = accepted(accept(wsgi, noting(150)))
    until(workers[0].seen, PATIENCE)
    Batch.objects.filter(pk=large.pk).update(caller="user:7")
    small = accepted(accept(wsgi, noting(6)))
    over(small)
    large.refresh_from_db()
    assert large.left > 0
    over(large)


def test_a_batch_from_the_command_line_calls_the_workers(
    workers: list[Worker], redis: RedisServer, tmp_path: Path
) -> None:
    User.objects.create_user("ada")
    file = tmp_path / "items.jsonl"
    file.write_text(lines(noting(5)))
    with paused(workers):
        before = sent(redis)
        call_command("submit_batch", str(file), "--as=ada", stdout=StringIO())
        until(lambda: sent(redis) == before + 3, PATIENCE)  # one for each two items
    over(batch := Batch.objects.get())
    assert batch.succeeded == 5


def test_a_slice_tells_of_the_end_of_its_batch(workers: list[Worker], settings: Any) -> None:
    settings.DEBUG, settings.BATCH_WEBHOOK_SECRET, settings.BATCH_WEBHOOK_HOSTS = True, SECRET, ["127.0.0.1"]
    with closing(Receiver()) as receiver:
        batch = accepted(send(receiver.url))
        until(lambda: receiver.received, PATIENCE)
        assert receiver.message()["data"]["batch_id"] == batch.pk
        until(lambda: Webhook.objects.get().state == "delivered", PATIENCE)
