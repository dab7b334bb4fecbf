"""What a batch of ten costs, recorded, against ten requests sent one after the other and ten sent at once."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import aiohttp

from bench.processes import cpu_seconds
from tests.processes import DEVELOPMENT, Served, migrated, running, serving

ITEMS = 10
ROUNDS = 50
REQUESTS: dict[str, dict[str, Any]] = {
    "DRF view": {"method": "GET", "path": "/api/nothing/drf"},
    "async view": {"method": "GET", "path": "/api/nothing/async"},
    "chat": {"method": "POST", "path": "/api/agent/chat", "body": {"message": "Go on"}},
}
SETTINGS = {"DJANGO_SETTINGS_MODULE": "bench.settings", "LOG_LEVEL": "ERROR"}


@dataclass(frozen=True)
class Cost:
    """Milliseconds for ten requests: of the server's CPU, and until the last answer is there."""

    cpu: float
    wall: float


async def main() -> None:
    print(f"\nTen requests that do little, ms of CPU / wall, mean of {ROUNDS}\n")
    print(f"{'server':<10}{'':<12}{'one by one':>16}{'at once':>16}{'a batch':>16}{'batch CPU / one by one':>24}")
    upstream = [sys.executable, "-m", "bench.upstream", "20", "20", "0"]
    for server, start in {"serve": own, "uvicorn": uvicorn}.items():
        with running(upstream, r"on http://\S+:(\d+)") as model, start(OPENAI_BASE_URL=f"{model.url}/v1") as served:
            for view, request in REQUESTS.items():
                await side_by_side(served, server, view, request)


async def side_by_side(served: Served, server: str, view: str, request: dict[str, Any]) -> None:
    async with aiohttp.ClientSession(served.url, connector=aiohttp.TCPConnector(limit=ITEMS)) as client:

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


async def cost(served: Served, way: Callable[[], Awaitable[None]]) -> Cost:
    for _ in range(5):
        await way()
    cpu, wall = cpu_seconds(served), time.perf_counter()
    for _ in range(ROUNDS):
        await way()
    return Cost(1_000 * (cpu_seconds(served) - cpu) / ROUNDS, 1_000 * (time.perf_counter() - wall) / ROUNDS)


def own(**env: str) -> AbstractContextManager[Served]:
    return serving(**SETTINGS, **env)


def uvicorn(**env: str) -> AbstractContextManager[Served]:
    command = [sys.executable, "-m", "uvicorn", "config.asgi:application", "--port=0", "--no-access-log"]
    env = {**DEVELOPMENT, "ASSISTANT_DATA_DIR": str(migrated()), **SETTINGS, **env}
    return running(command, r"running on http://\S+:(\d+)", **env)
