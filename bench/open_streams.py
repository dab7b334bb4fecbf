"""What an open stream costs its process: memory, threads, connections, and how fast others are answered."""

import asyncio
import statistics
import time

from tests.open_streams import PATIENT, SAYS_LITTLE, Streams, footprint
from tests.processes import Served, serving
from tests.upstream import Upstream

STREAMS = 2_000
PROBES = 200


async def main() -> None:
    print(f"\n{STREAMS:,} open streams on one process\n")
    with (
        Upstream(SAYS_LITTLE).in_thread() as upstream,
        serving(**PATIENT, ASSISTANT_MODEL="openai:bench", OPENAI_BASE_URL=upstream.url) as served,
    ):
        streams = Streams(served)
        try:
            await measure(served, streams)
        finally:
            await streams.close()


async def measure(served: Served, streams: Streams) -> None:
    await streams.open(20)  # warm: imports, pools
    before = footprint(served)
    began = time.perf_counter()
    await streams.open(STREAMS)
    opened = STREAMS / (time.perf_counter() - began)
    after = footprint(served)
    assert await streams.all_open()
    print(f"opened a second            {opened:,.0f}")
    print(f"memory a stream            {(after.memory - before.memory) / STREAMS:.1f} KB")
    print(f"threads                    {before.threads} before, {after.threads} with them")
    print(f"connections to the database {before.database} before, {after.database} with them")
    for name, probe in {"/healthz": streams.healthz, "first token": streams.first_token}.items():
        times = [await probe() for _ in range(PROBES)]
        p99 = statistics.quantiles(times, n=100)[98]
        print(f"{name:<26} {statistics.median(times):.1f} ms (p50), {p99:.1f} ms (p99)")


if __name__ == "__main__":
    asyncio.run(main())
