"""What a batch of ten costs, recorded, against ten requests one after the other and ten at once; then large ones."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from bench import background
from bench.processes import Process, started
from bench.relays import authorization, serve, serve_with_uvicorn

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


async def main() -> None:
    print(f"\nTen requests that do little, ms of CPU / wall, mean of {ROUNDS}\n")
    print(f"{'server':<10}{'':<12}{'one by one':>16}{'at once':>16}{'a batch':>16}{'batch CPU / one by one':>24}")
    with started(sys.executable, "-m", "bench.upstream", "{port}") as model:
        for server, start in {"serve": serve, "uvicorn": serve_with_uvicorn}.items():
            with start(model.url, DJANGO_SETTINGS_MODULE="bench.settings") as served:
                for view, request in REQUESTS.items():
                    await side_by_side(served, server, view, request)
    await background.main()


async def side_by_side(served: Process, server: str, view: str, request: dict[str, Any]) -> None:
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

        costs = [await cost(served, way) for way in (one_by_one, at_once, batch)]
    shown = "".join(f"{f'{each.cpu:.1f} / {each.wall:.1f}':>16}" for each in costs)
    print(f"{server:<10}{view:<12}{shown}{costs[2].cpu / costs[0].cpu:>24.2f}")


async def cost(served: Process, way: Callable[[], Awaitable[None]]) -> Cost:
    for _ in range(5):
        await way()
    cpu, wall = served.cpu_seconds(), time.perf_counter()
    for _ in range(ROUNDS):
        await way()
    return Cost(1_000 * (served.cpu_seconds() - cpu) / ROUNDS, 1_000 * (time.perf_counter() - wall) / ROUNDS)
