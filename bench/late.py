"""Where tokens begin to be late: streams of 20 tokens a second each, more and more of them."""

import asyncio
import os
import time
from dataclasses import dataclass

from bench import client
from bench.machine import stolen
from bench.processes import Process
from bench.relays import BARE, DIRECT, HTTPX, LITELLM, MAKERS, OURS, UVICORN, Relay, making, side_by_side

TOKENS_A_SECOND = 20
STREAMS = (250, 500, 1_000, 2_000)
ME = Process("", os.getpid())
# A token is late from here on.
LATE_SECONDS = 0.05
SECONDS = 4.0
# Between the last number of streams that were on time and the first that weren't, so often halved.
HALVINGS = 3
# A machine that stood still for a moment makes tokens late too.
TRIES = 3


@dataclass(frozen=True)
class Level:
    """What some seconds with so many streams going showed: seconds late, share of a core that each process took.

    `stolen` is the share of a core that other machines on the same host took from this one.
    """

    streams: int
    p50: float
    p99: float
    relay: float
    upstream: float
    client: float
    stolen: float

    @property
    def on_time(self) -> bool:
        return self.p99 < LATE_SECONDS


async def main() -> None:
    print(f"\nLateness of tokens, {TOKENS_A_SECOND} a second in each stream; a core's share of each process\n")
    print(f"{'':<26}{'streams':>9}{'tokens/s':>10}{'p50 ms':>9}{'p99 ms':>9}", end="")
    print(f"{'relay':>8}{'upstream':>10}{'client':>8}{'stolen':>8}")
    for name in (DIRECT, BARE, OURS, UVICORN, HTTPX, LITELLM):
        with side_by_side([name]) as (upstream, relays):
            await search(relays[0], upstream)
    print("The same without an upstream: the process makes the tokens itself\n")
    for name in MAKERS:
        with making(name) as relay:
            await search(relay, relay.process)


async def search(relay: Relay, upstream: Process) -> None:
    """Find the most streams that are on time."""
    good, bad = 0, 0
    async with client.paced(relay.process.url, relay.ask("say paced")) as crowd:
        for streams in STREAMS:
            await crowd.grow(streams)
            if not await on_time(crowd, relay, upstream, streams):
                bad = streams
                break
            good = streams
        for _ in range(HALVINGS if bad else 0):
            middle = (good + bad) // 2
            if await on_time(crowd, relay, upstream, middle):
                good = middle
            else:
                bad = middle
    limit = f"p99 under {LATE_SECONDS * 1_000:.0f} ms"
    print(f"{relay.name:<26}on time ({limit}) up to {good * TOKENS_A_SECOND:,} tokens/s\n")


async def on_time(crowd: client.Crowd, relay: Relay, upstream: Process, streams: int) -> bool:
    """Tell whether tokens are on time, in one of a few tries."""
    for _ in range(TRIES):
        if (await shown(crowd, relay, upstream, streams)).on_time:
            return True
    return False


async def shown(crowd: client.Crowd, relay: Relay, upstream: Process, streams: int) -> Level:
    level = await measured(crowd, relay, upstream, streams)
    print(
        f"{relay.name:<26}{streams:>9,}{streams * TOKENS_A_SECOND:>10,}{level.p50 * 1_000:>9.1f}"
        f"{level.p99 * 1_000:>9.1f}{level.relay:>8.2f}{level.upstream:>10.2f}{level.client:>8.2f}{level.stolen:>8.2f}",
        flush=True,
    )
    return level


async def measured(crowd: client.Crowd, relay: Relay, upstream: Process, streams: int) -> Level:
    await client.pace(upstream.url, streams)
    await asyncio.sleep(1)
    clocks = (relay.process.cpu_seconds, upstream.cpu_seconds, ME.cpu_seconds, stolen)
    before, begun = [seconds() for seconds in clocks], time.perf_counter()
    lateness = sorted(await crowd.lateness(seconds=SECONDS, expected=int(streams * TOKENS_A_SECOND * SECONDS * 0.99)))
    elapsed = time.perf_counter() - begun
    shares = [(seconds() - then) / elapsed for seconds, then in zip(clocks, before, strict=True)]
    await client.pace(upstream.url, 0)
    await asyncio.sleep(1)
    return Level(streams, lateness[len(lateness) // 2], lateness[int(len(lateness) * 0.99)], *shares)
