"""What an open stream holds: resident memory and threads of the relay's process."""

import asyncio

from bench import client
from bench.relays import ALL, DIRECT, Relay, side_by_side

STREAMS = 500
# Pools, caches and threads that the first streams make are no stream's own.
WARM = 50


async def main() -> None:
    print(f"\nWhat each of {STREAMS} open, quiet streams adds to the relay's process\n")
    print(f"{'':<26}{'KB a stream':>12}{'more threads':>16}{'MB before':>11}")
    for name in ALL:
        if name != DIRECT:
            with side_by_side([name]) as (_, relays):
                await show(relays[0])


async def show(relay: Relay) -> None:
    process, request = relay.process, relay.ask("say paced")
    async with client.paced(process.url, request) as warm:
        await warm.grow(WARM)
    await asyncio.sleep(1)
    before, threads = process.resident_bytes(), process.threads()
    async with client.paced(process.url, request) as crowd:
        await crowd.grow(STREAMS)
        await asyncio.sleep(1)
        added = (process.resident_bytes() - before) / STREAMS / 1_024
        more = process.threads() - threads
    print(f"{relay.name:<26}{added:>12.0f}{f'{more:+}':>16}{before / 2**20:>11.0f}")
