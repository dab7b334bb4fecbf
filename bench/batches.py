"""What a batch of ten costs, recorded, against ten requests to the same server and to daphne; then large ones."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from bench import background
from bench.processes import Process, started
from bench.relays import authorization, serve, serve_usually, serve_with_uvicorn

ITEMS = 10
ROUNDS = 50
REQUESTS: dict[str, dict[str, Any]] = {
    "DRF view": {"method": "GET", "path": "/api/nothing/drf"},
    "async view": {"method": "GET", "path": "/api/nothing/async"},
    "chat": {"method": "POST", "path": "/api/agent/chat", "body": {"message": "say 20"}},
}


@dataclass(frozen=True)
class Cost:
    """Milliseconds for ten requests: of the server's CPU, and until the last answer is there."""

    cpu: float
    wall: float


@dataclass(frozen=True)
class Row:
    """What one server takes for one kind of request; `batch` is None where it has no batches."""

    server: str
    view: str
    one_by_one: Cost
    at_once: Cost
    batch: Cost | None = None

    def show(self, usual: Cost) -> None:
        """Print it; `usual` is what ten requests take in Django's usual way."""
        costs = [self.one_by_one, self.at_once, *([self.batch] if self.batch else [])]
        shown = "".join(f"{f'{each.cpu:.1f} / {each.wall:.1f}':>16}" for each in costs)
        ratios = (
            f"{self.batch.cpu / self.one_by_one.cpu:>12.2f}{self.batch.cpu / usual.cpu:>12.2f}" if self.batch else ""
        )
        print(f"{self.server:<10}{self.view:<12}{shown}{ratios}")


async def main() -> None:
    print(f"\nTen requests that do little, ms of CPU / wall, mean of {ROUNDS}; a batch's CPU, ten one by one being 1\n")
    columns = f"{'one by one':>16}{'at once':>16}{'a batch':>16}{'of ours':>12}{'of daphne':>12}"
    print(f"{'':<22}{columns}")
    with started(sys.executable, "-m", "bench.upstream", "{port}") as model:
        with serve_usually(model.url) as served:
            usual = [await requests(served, "daphne", view) for view in REQUESTS]
        for row in usual:
            row.show(row.one_by_one)
        for server, start in {"serve": serve, "uvicorn": serve_with_uvicorn}.items():
            with start(model.url, DJANGO_SETTINGS_MODULE="bench.settings") as served:
                for row in usual:
                    (await requests(served, server, row.view, batched=True)).show(row.one_by_one)
    await background.main()


async def requests(served: Process, server: str, view: str, *, batched: bool = False) -> Row:
    """Measure ten requests in each way."""
    request = REQUESTS[view]
    connector = aiohttp.TCPConnector(limit=ITEMS)
    async with aiohttp.ClientSession(served.url, connector=connector, headers=authorization()) as client:

        async def send() -> None:
            async with client.request(request["method"], request["path"], json=request.get("body")) as response:
                assert response.status == 200, await response.text()

        async def one_by_one() -> None:
            for _ in range(ITEMS):
                await send()

        async def at_once() -> None:
            await asyncio.gather(*(send() for _ in range(ITEMS)))

        async def batch() -> None:
            requests = [{"id": str(number), **request} for number in range(ITEMS)]
            async with client.post("/api/batch", json={"requests": requests}) as response:
                assert (await response.json())["counts"]["succeeded"] == ITEMS

        ways = [one_by_one, at_once, *([batch] if batched else [])]
        return Row(server, view, *[await cost(served, way) for way in ways])


async def cost(served: Process, way: Callable[[], Awaitable[None]]) -> Cost:
    for _ in range(5):
        await way()
    cpu, wall = served.cpu_seconds(), time.perf_counter()
    for _ in range(ROUNDS):
        await way()
    return Cost(1_000 * (served.cpu_seconds() - cpu) / ROUNDS, 1_000 * (time.perf_counter() - wall) / ROUNDS)
