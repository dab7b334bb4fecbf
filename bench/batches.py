"""What a batch of ten costs, recorded, against ten requests to the same server and to daphne; then large ones."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, AsyncExitStack
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import aiohttp

from bench import background
from bench.processes import Process, started
from bench.relays import authorization, serve, serve_usually, serve_with_uvicorn

ITEMS = 10
# The servers take turns: in each round, each does each thing so many times.
ROUNDS = 10
TIMES = 5
REQUESTS: dict[str, dict[str, Any]] = {
    "DRF view": {"method": "GET", "path": "/api/nothing/drf"},
    "async view": {"method": "GET", "path": "/api/nothing/async"},
    "chat": {"method": "POST", "path": "/api/agent/chat", "body": {"message": "say 20"}},
}

USUAL = "daphne"
NOTHING = {"DJANGO_SETTINGS_MODULE": "bench.settings"}
SERVERS: Mapping[str, Callable[[str], AbstractContextManager[Process]]] = {
    USUAL: serve_usually,
    "serve": partial(serve, **NOTHING),
    "uvicorn": partial(serve_with_uvicorn, **NOTHING),
}


@dataclass(frozen=True)
class Cost:
    """Milliseconds for ten requests: of the server's CPU, and until the last answer is there."""

    cpu: float
    wall: float


class Client:
    """Sends ten requests to one server, in each of a few ways."""

    def __init__(self, name: str, served: Process, session: aiohttp.ClientSession) -> None:
        self.name, self.served, self.session = name, served, session
        ways = {"one by one": self.one_by_one, "at once": self.at_once, "a batch": self.batch}
        self.ways = {way: send for way, send in ways.items() if name != USUAL or way != "a batch"}

    async def send(self, request: dict[str, Any]) -> None:
        async with self.session.request(request["method"], request["path"], json=request.get("body")) as response:
            assert response.status == 200, await response.text()

    async def one_by_one(self, request: dict[str, Any]) -> None:
        for _ in range(ITEMS):
            await self.send(request)

    async def at_once(self, request: dict[str, Any]) -> None:
        await asyncio.gather(*(self.send(request) for _ in range(ITEMS)))

    async def batch(self, request: dict[str, Any]) -> None:
        requests = [{"id": str(number), **request} for number in range(ITEMS)]
        async with self.session.post("/api/batch", json={"requests": requests}) as response:
            assert (await response.json())["counts"]["succeeded"] == ITEMS

    async def cost(self, way: Callable[[dict[str, Any]], Awaitable[None]], request: dict[str, Any]) -> Cost:
        cpu, wall = self.served.cpu_seconds(), time.perf_counter()
        for _ in range(TIMES):
            await way(request)
        return Cost(1_000 * (self.served.cpu_seconds() - cpu) / TIMES, 1_000 * (time.perf_counter() - wall) / TIMES)


async def main() -> None:
    print(f"\nTen requests that do little, ms of CPU / wall, median of {ROUNDS} rounds; last, the CPU of a batch")
    print("where that of ten requests one by one is 1\n")
    print(f"{'':<22}{'one by one':>16}{'at once':>16}{'a batch':>16}{'of ours':>12}{'of daphne':>12}")
    async with AsyncExitStack() as stack:
        model = stack.enter_context(started(sys.executable, "-m", "bench.upstream", "{port}"))
        clients = []
        for name, start in SERVERS.items():
            served = stack.enter_context(start(model.url))
            connector = aiohttp.TCPConnector(limit=ITEMS)
            session = aiohttp.ClientSession(served.url, connector=connector, headers=authorization())
            clients.append(Client(name, served, await stack.enter_async_context(session)))
        for view, request in REQUESTS.items():
            show(view, [await measured(clients, request) for _ in range(1 + ROUNDS)][1:])
    await background.main()


Round = dict[tuple[str, str], Cost]


async def measured(clients: list[Client], request: dict[str, Any]) -> Round:
    """Measure each server in each way once."""
    return {
        (client.name, way): await client.cost(send, request) for client in clients for way, send in client.ways.items()
    }


def show(view: str, rounds: list[Round]) -> None:
    """Print a line for each server. A ratio is of one round: a machine isn't as fast in all of them."""
    for server in SERVERS:
        ways = [way for name, way in rounds[0] if name == server]
        shown = "".join(typical([each[server, way] for each in rounds]) for way in ways)
        for other in (server, USUAL) if server != USUAL else ():
            shares = [each[server, "a batch"].cpu / each[other, "one by one"].cpu for each in rounds]
            shown += f"{median(shares):>12.2f}"
        print(f"{server:<10}{view:<12}{shown}", flush=True)


def typical(costs: list[Cost]) -> str:
    return f"{f'{median(each.cpu for each in costs):.1f} / {median(each.wall for each in costs):.1f}':>16}"
