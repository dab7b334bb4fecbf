"""The service with a broker: it accepts batches, and `celery -A config worker` carries them out."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from tests.processes import CLEAN, DEVELOPMENT, PATIENCE, ROOT, Served, manage, serving, stop, wait_for
from tests.redis_server import RedisServer, redis_server
from tests.streams import parse
from tests.upstream import Upstream, reply
from tests.waits import until

pytestmark = pytest.mark.server

CHAT = {"method": "POST", "path": "/api/agent/chat", "body": {"message": "What is Python?"}}


@contextmanager
def working(directory: Path, **env: str) -> Iterator[None]:
    """Run a worker until the block ends."""
    command = [sys.executable, "-m", "celery", "-A", "config", "worker", "--concurrency=1", "--loglevel=INFO"]
    output = directory / "worker"
    with output.open("wb") as sink:
        process = subprocess.Popen(
            command, cwd=ROOT, env=CLEAN | env, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT
        )
    try:
        wait_for(process, output, r"celery@\S+ (ready)")
        yield
    finally:
        stop(process)


def broker_of(redis: RedisServer) -> str:
    return f"redis+socket://{redis.directory}/socket"


def test_chats_are_carried_out_by_a_worker_and_not_by_the_server(tmp_path: Path) -> None:
    with redis_server() as redis, Upstream(reply("Python is", " a language.")).in_thread() as model:
        env = {"ASSISTANT_MODEL": "openai:test", "OPENAI_BASE_URL": model.url, "CELERY_BROKER_URL": broker_of(redis)}
        with serving(**env) as service:
            url = accepted(service, 20)
            until(lambda: redis.client().llen("celery") == 10)  # one for each two items: so many a process has at once
            assert not model.requests
            with working(tmp_path, **DEVELOPMENT | env, ASSISTANT_DATA_DIR=str(service.data)):
                last = [event for _, event in parse(requests.get(f"{url}/events", timeout=120).content)][-1]
    assert (last["type"], last["counts"]["succeeded"]) == ("end", 20)


def accepted(service: Served, count: int) -> str:
    """Have a batch accepted; return where it is."""
    lines = "".join(f"{json.dumps({'id': str(n), **CHAT})}\n" for n in range(count))
    headers = {"Prefer": "respond-async", "Content-Type": "application/x-ndjson"}
    answer = requests.post(f"{service.url}/api/batch", data=lines, headers=headers, timeout=PATIENCE)
    assert answer.status_code == 202, answer.text
    return f"{service.url}{answer.headers['Location']}"


def test_a_worker_without_a_broker_says_what_is_missing() -> None:
    command = [sys.executable, "-m", "celery", "-A", "config", "worker"]
    result = subprocess.run(
        command, cwd=ROOT, env=CLEAN | DEVELOPMENT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert result.returncode != 0
    assert "CELERY_BROKER_URL has to be set" in result.stderr


def test_a_celery_application_that_cannot_be_imported_stops_the_start() -> None:
    script = (
        "from django.conf import settings; settings.BATCH_CELERY_APP = 'config.nothing.app';"
        "from django.core.management import call_command; call_command('check')"
    )
    result = manage("shell", "--no-imports", "-c", script, **DEVELOPMENT)
    assert result.returncode != 0
    assert "BATCH_CELERY_APP can't be 'config.nothing.app'" in result.stderr
