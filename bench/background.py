"""Background batches: how fast they are worked off, how that grows, and what is left for others meanwhile."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

import aiohttp

from bench import client
from bench.processes import Process, started
from bench.relays import ask_service, authorization, data, production
from tests.processes import CLEAN, ROOT, stop

NOTHING = {"method": "GET", "path": "/api/nothing/drf"}
# 20 tokens, one each 50 ms: a second.
CHAT = {"method": "POST", "path": "/api/agent/chat", "body": {"message": "say 20 slowly"}}
LINES = {"Prefer": "respond-async", "Content-Type": "application/x-ndjson"}
PATIENCE = aiohttp.ClientTimeout(600)

# Items that do nothing, and seconds' worth of chats, for each number of processes and of items at once in each.
ITEMS, SECONDS = 2_000, 10
NOTHINGS, CHATS = ((1, 1), (1, 2), (1, 4), (1, 8), (2, 4)), ((1, 1), (1, 4), (1, 16), (1, 64), (2, 32))
SIZES = (1_000, 10_000, 50_000)
# Requests whose time counts, alone and beside each batch.
ASKED = 60


@dataclass(frozen=True)
class Site:
    """A server, and the environment in which others of its kind see the same rows."""

    server: Process
    env: Mapping[str, str]


@contextmanager
def site(upstream: str, **env: str) -> Iterator[Site]:
    with tempfile.TemporaryDirectory() as directory:
        copy = shutil.copytree(data()[0], Path(directory, "data"))
        own = {"DJANGO_SETTINGS_MODULE": "bench.settings", "BENCH_RUN_IN_SERVER": "false", **env}
        whole = {**production(upstream, str(copy)), **own}
        with started(sys.executable, "manage.py", "serve", **whole) as server:
            yield Site(server, whole)


@contextmanager
def worker(where: Site, at_once: int, report: Path) -> Iterator[Process]:
    """Run a process that works on background batches; `report` has its database's seconds once it has ended."""
    env = {**where.env, "PORT": "0", "BATCH_BACKGROUND_CONCURRENCY": str(at_once), "BENCH_ROWS": str(report)}
    process = subprocess.Popen([sys.executable, "manage.py", "run_batches"], cwd=ROOT, env=CLEAN | env)
    try:
        yield Process("", process.pid)
    finally:
        stop(process)


@contextmanager
def workers(where: Site, count: int, at_once: int) -> Iterator[list[tuple[Process, Path]]]:
    """Run so many of them; each with its report."""
    reports = [Path(where.env["ASSISTANT_DATA_DIR"], f"rows-{number}.json") for number in range(count)]
    with ExitStack() as stack:
        yield [(stack.enter_context(worker(where, at_once, report)), report) for report in reports]


async def warm(caller: aiohttp.ClientSession, processes: Sequence[Process], items: int) -> None:
    """Have each process work on some items, alone: after that it is there."""
    for one in processes:
        for process in processes:
            os.kill(process.pid, signal.SIGCONT if process is one else signal.SIGSTOP)
        await ended(caller, await accepted(caller, NOTHING, items))
    for process in processes:
        os.kill(process.pid, signal.SIGCONT)


@asynccontextmanager
async def session(server: Process) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        server.url, connector=connector, headers=authorization(), timeout=PATIENCE
    ) as opened:
        yield opened


async def accepted(caller: aiohttp.ClientSession, request: Mapping[str, Any], count: int) -> str:
    body = b"".join(json.dumps({"id": str(number), **request}).encode() + b"\n" for number in range(count))
    async with caller.post("/api/batch", data=body, headers=LINES) as response:
        assert response.status == 202, await response.text()
        batch_id: str = (await response.json())["batch_id"]
        return batch_id


async def ended(caller: aiohttp.ClientSession, batch_id: str) -> None:
    """Return once a batch has ended, all of its items well."""
    while True:
        async with caller.get(f"/api/batch/{batch_id}") as response:
            batch = await response.json()
        if batch["finished_at"]:
            assert batch["counts"]["succeeded"] == batch["counts"]["total"], batch
            return
        await asyncio.sleep(0.1)


async def main() -> None:
    with started(sys.executable, "-m", "bench.upstream", "{port}") as model:
        await rates(model.url)
        await growth(model.url)
        await neighbours(model.url)


# How fast.


async def rates(upstream: str) -> None:
    print("\nItems a second of `run_batches`, by processes and items at once in each; the same requests by a client\n")
    print(f"{'':<13}{'processes':>10}{'at once':>9}{'items/s':>10}{'CPU ms/item':>13}", end="")
    print(f"{'rows ms/item':>14}{'client: items/s':>17}{'CPU':>7}")
    with site(upstream) as where:
        for name, request, levels in (("nothing", NOTHING, NOTHINGS), ("chat of 1 s", CHAT, CHATS)):
            for processes, at_once in levels:
                count = ITEMS if request is NOTHING else SECONDS * processes * at_once
                await show_rate(where, name, request, processes, at_once, count)


async def show_rate(
    where: Site, name: str, request: Mapping[str, Any], processes: int, at_once: int, count: int
) -> None:
    async with session(where.server) as caller:
        rate, cpu, rows = await worked_off(where, caller, request, processes, at_once, count)
        direct, spent = await sent(where, caller, request, processes * at_once, count)
    print(f"{name:<13}{processes:>10}{at_once:>9}{rate:>10.1f}{cpu:>13.1f}", end="")
    print(f"{rows:>14.2f}{direct:>17.1f}{spent:>7.1f}", flush=True)


async def worked_off(
    where: Site, caller: aiohttp.ClientSession, request: Mapping[str, Any], count: int, at_once: int, items: int
) -> tuple[float, float, float]:
    """Return items a second, and milliseconds an item of the workers' CPU and of their rows in the database."""
    with workers(where, count, at_once) as reporting:
        processes = [process for process, _ in reporting]
        await warm(caller, processes, 2 * at_once)
        cpu, began = cpu_seconds(processes), time.perf_counter()
        await ended(caller, await accepted(caller, request, items))
        seconds, cpu = time.perf_counter() - began, cpu_seconds(processes) - cpu
    rows = sum(json.loads(report.read_text()) for _, report in reporting)
    return items / seconds, 1_000 * cpu / items, 1_000 * rows / items


def cpu_seconds(processes: Sequence[Process]) -> float:
    return sum(process.cpu_seconds() for process in processes)


async def sent(
    where: Site, caller: aiohttp.ClientSession, request: Mapping[str, Any], at_once: int, count: int
) -> tuple[float, float]:
    """Return items a second, and milliseconds an item of the server's CPU, of the same requests sent by a client."""
    waiting = iter(range(count))

    async def one_after_the_other() -> None:
        for _ in waiting:
            async with caller.request(request["method"], request["path"], json=request.get("body")) as response:
                assert response.status == 200, await response.text()

    cpu, began = where.server.cpu_seconds(), time.perf_counter()
    await asyncio.gather(*(one_after_the_other() for _ in range(at_once)))
    seconds = time.perf_counter() - began
    return count / seconds, 1_000 * (where.server.cpu_seconds() - cpu) / count


# How it grows.


async def growth(upstream: str) -> None:
    print("\nFrom small to large, items that do nothing: seconds, and MB that the process grew by at its peak\n")
    print(f"{'items':>8}{'taken: s':>10}{'MB':>6}{'worked off: s':>15}{'ms/item':>9}{'MB':>6}{'read: s':>10}{'MB':>6}")
    with site(upstream) as where:
        report = Path(where.env["ASSISTANT_DATA_DIR"], "rows.json")
        async with session(where.server) as caller:
            with worker(where, 2, report) as process:
                await ended(caller, await accepted(caller, NOTHING, 500))  # both are warm
                for size in SIZES:
                    await show_growth(where.server, process, caller, size)


async def show_growth(server: Process, process: Process, caller: aiohttp.ClientSession, size: int) -> None:
    # No worker takes an item of a batch before all of it is accepted.
    async with grown(server) as accepting:
        batch_id = await accepted(caller, NOTHING, size)
    async with grown(process) as working:
        await ended(caller, batch_id)
    async with grown(server) as reading:
        assert await read(caller, batch_id) == size
    each = 1_000 * working.seconds / size
    print(f"{size:>8,}{accepting}{working.seconds:>15.1f}{each:>9.2f}{working.megabytes:>6.0f}{reading}", flush=True)


async def read(caller: aiohttp.ClientSession, batch_id: str) -> int:
    """Read all results and return how many there are."""
    async with caller.get(f"/api/batch/{batch_id}/results") as response:
        return sum([chunk.count(b"\n") async for chunk in response.content.iter_any()])


@dataclass
class Growth:
    seconds: float = 0.0
    megabytes: float = 0.0

    def __str__(self) -> str:
        return f"{self.seconds:>10.1f}{self.megabytes:>6.0f}"


@asynccontextmanager
async def grown(process: Process) -> AsyncIterator[Growth]:
    """Measure a block: its seconds, and what a process held at most beyond what it held at the beginning."""
    process.forget_peak()
    before, began, measured = process.resident_bytes(), time.perf_counter(), Growth()
    yield measured
    measured.seconds = time.perf_counter() - began
    measured.megabytes = (process.peak_bytes() - before) / 2**20


# What is left for others.


async def neighbours(upstream: str) -> None:
    print("\nBeside a batch that the server itself works on, ms\n")
    print(f"{'':<26}{'healthz: p50':>14}{'p99':>8}{'first token: p50':>18}{'p99':>8}")
    with site(upstream, BENCH_RUN_IN_SERVER="true") as where:
        async with session(where.server) as caller:
            await show_neighbour(where, caller, "alone")
            for name, request in (("beside items of nothing", NOTHING), ("beside chats", CHAT)):
                batch_id = await accepted(caller, request, 50_000)
                await show_neighbour(where, caller, name)
                async with caller.post(f"/api/batch/{batch_id}/cancel") as response:
                    assert response.status == 200


async def show_neighbour(where: Site, caller: aiohttp.ClientSession, name: str) -> None:
    health, tokens = [], []
    for _ in range(ASKED):
        began = time.perf_counter()
        async with caller.get("/healthz") as response:
            assert response.status == 200
        health.append(time.perf_counter() - began)
        tokens.append(await client.first_token(where.server.url, ask_service("say 20")))
    shown = [1_000 * at(values, percent) for values in (health, tokens) for percent in (50, 99)]
    print(f"{name:<26}{shown[0]:>14.1f}{shown[1]:>8.1f}{shown[2]:>18.1f}{shown[3]:>8.1f}", flush=True)


def at(values: list[float], percent: int) -> float:
    return quantiles(values, n=100, method="inclusive")[percent - 1]
