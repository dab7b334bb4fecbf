"""Background batches on Celery's workers, beside a plain task for each item, and what an item costs by slice.

On SQLite; `scripts/with_postgres make bench PART=fleet` takes PostgreSQL.
"""

import asyncio
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from bench.processes import Process, started
from bench.relays import production
from tests.processes import CLEAN, ROOT, manage, stop
from tests.redis_server import RedisServer, redis_server

ITEMS = 3_000
WORKERS = (1, 2)
VIEWS = ("async", "row")


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory, redis_server() as redis:
        env = environment(directory, redis)
        key = prepare(env)
        kind = "PostgreSQL" if "DATABASE_URL" in env else "SQLite"
        print(f"\n{ITEMS} items that do nothing, {kind}; each worker one process, 10 items at once\n")
        print(f"{'':<34}{'workers':>8}{'items/s':>10}{'ms of the workers CPU an item':>32}")
        with started(sys.executable, "manage.py", "serve", **env | {"PORT": "{port}"}) as server:
            for count in WORKERS:
                with working(count, env) as workers:
                    for view in VIEWS:
                        await report(f"a batch, {NAMES[view]}", workers, partial(drained, server, key, view))
                    await report("a plain Celery task an item", workers, partial(plain, env, redis))
        slices(env)


NAMES = {"async": "async view", "row": "view that reads", "wait": "view that waits 0.2 s"}


def environment(directory: str, redis: RedisServer) -> dict[str, str]:
    env = production("http://127.0.0.1:9", directory) | {
        "SECRET_KEY": secrets.token_hex(25),
        "DJANGO_SETTINGS_MODULE": "bench.settings",
        "CELERY_BROKER_URL": f"redis+socket://{redis.directory}/socket",
        "BATCH_RUN_IN_SERVER": "true",
        "BENCH_RUN_IN_SERVER": "false",
        "BATCH_BACKGROUND_CONCURRENCY": "10",
        "BATCH_MAX_QUEUED": "1000000",
        "PORT": "0",
    }
    return env | {name: os.environ[name] for name in ("DATABASE_URL",) if name in os.environ}


def prepare(env: dict[str, str]) -> str:
    """Make the tables, and a caller; return the caller's key."""
    superuser = ("createsuperuser", "--no-input", "--username=bench", "--email=bench@localhost")
    for command in (("migrate", "-v0"), superuser):
        made = manage(*command, **env, DJANGO_SUPERUSER_PASSWORD=secrets.token_hex(8))
        assert made.returncode == 0, made.stderr
    return manage("create_api_key", "bench", **env).stdout.strip()


@contextmanager
def working(count: int, env: dict[str, str]) -> Iterator[list[int]]:
    """Run so many workers until the block ends."""
    command = [sys.executable, "-m", "celery", "-A", "bench.celery", "worker", "--concurrency=1", "--loglevel=ERROR"]
    with ExitStack() as stack:
        mains = []
        for number in range(count):
            own = [*command, f"--hostname={number}@bench", "--without-mingle", "--without-gossip"]
            quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            mains.append(subprocess.Popen(own, cwd=ROOT, env=CLEAN | env, **quiet))
            stack.callback(stop, mains[-1])
        yield [each.pid for each in mains]


def cpu_seconds(workers: list[int]) -> float:
    """Return what both processes of each worker have used: the one that works, and the one that talks to the broker."""
    children = [Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0] for pid in workers]
    return sum(Process("", int(pid)).cpu_seconds() for pid in (*workers, *children))


async def report(name: str, workers: list[int], work: Callable[[], Any]) -> None:
    await work()  # after which the workers are there
    cpu = cpu_seconds(workers)
    seconds = await work()
    cpu = cpu_seconds(workers) - cpu
    print(f"{name:<34}{len(workers):>8}{ITEMS / seconds:>10.0f}{1_000 * cpu / ITEMS:>32.2f}", flush=True)


async def drained(server: Process, key: str, view: str) -> float:
    """Return the seconds from a batch's 202 to its end."""
    lines = "".join(f'{{"id": "{n}", "method": "GET", "path": "/api/nothing/{view}"}}\n' for n in range(ITEMS))
    headers = {"Authorization": f"Bearer {key}", "Prefer": "respond-async", "Content-Type": "application/x-ndjson"}
    async with aiohttp.ClientSession(server.url, headers=headers) as client:
        async with client.post("/api/batch", data=lines) as answer:
            assert answer.status == 202, await answer.text()
            where = answer.headers["Location"]
        began = time.perf_counter()
        async with client.get(f"{where}/events", timeout=aiohttp.ClientTimeout(600)) as answer:
            text = await answer.text()
    assert f'"succeeded": {ITEMS}' in text, text[-500:]
    return time.perf_counter() - began


async def plain(env: dict[str, str], redis: RedisServer) -> float:
    """Return the seconds from the first task done to the last."""
    with redis.client() as client:
        client.set("done", 0)
        send = (sys.executable, "-c", f"from bench.celery import send; send({ITEMS})")
        sender = await asyncio.create_subprocess_exec(*send, cwd=ROOT, env=CLEAN | env)
        while client.get("done") == "0":
            await asyncio.sleep(0.001)
        began = time.perf_counter()
        while int(client.get("done") or 0) < ITEMS:  # type: ignore[arg-type]  # redis speaks of awaitables too
            await asyncio.sleep(0.02)
        await sender.wait()
    return time.perf_counter() - began


def slices(env: dict[str, str]) -> None:
    print("\nAn item by the seconds of a slice, in one process without a broker\n")
    command = [sys.executable, "-m", "bench.slices", str(ITEMS // 3)]
    own = {"CELERY_BROKER_URL": "", "ALLOWED_HOSTS": "testserver"}
    found = subprocess.run(command, cwd=ROOT, env=CLEAN | env | own, capture_output=True, text=True, check=True)
    for line in found.stdout.splitlines():
        one = json.loads(line)
        costs = ", ".join(f"{name} {value:.2f}" for name, value in one.items() if not isinstance(value, str))
        print(f"{NAMES[one['view']]}: {costs}")
