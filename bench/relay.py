"""What relaying an answer costs: deltas per CPU-second of the relay's process, and the time to the first token.

The service does all it does for a caller: authentication, rows, Run, log. The peer is bare asyncio that decodes each
delta and sends it on, which is what the machine can do at most.
"""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from bench.processes import cpu_seconds
from tests.processes import Served, running, serving

DELTAS = 8_000
# A fast model's server writes what it has: several deltas a packet.
PER_WRITE = 20
STREAMS = (1, 16)
READY = r"on http://\S+:(\d+)"


async def main() -> None:
    print(f"Relaying {DELTAS:,} deltas a stream; deltas per CPU-second of the relay's process\n")
    print(f"{'streams':>8}{'raw asyncio':>14}{'this service':>14}{'ratio':>8}")
    for streams in STREAMS:
        await side_by_side(streams)
    await first_token()


async def side_by_side(streams: int) -> None:
    with peers(DELTAS, PER_WRITE, 0) as (raw, service):
        limit = await per_cpu_second(raw, streams)
        ours = await per_cpu_second(service, streams)
    print(f"{streams:>8}{limit:>14,.0f}{ours:>14,.0f}{ours / limit:>8.2f}")


async def first_token() -> None:
    """Print how much later than from bare asyncio a first token comes."""
    with peers(20, 1, 0.01) as (raw, service):
        limit, ours = [await times_to_first_token(peer) for peer in (raw, service)]
    added = [1_000 * (quantile(ours, at) - quantile(limit, at)) for at in (50, 99)]
    print(f"\nThe first token comes {added[0]:.1f} ms later (p50), {added[1]:.1f} ms (p99)")


@contextmanager
def peers(deltas: int, per_write: int, pause: float) -> Iterator[tuple[Served, Served]]:
    """Run the upstream, the raw relay and the service, each in a process of its own; yield the two relays."""
    command = [sys.executable, "-m", "bench.upstream", str(deltas), str(per_write), str(pause)]
    with running(command, READY) as upstream, running([sys.executable, "-m", "bench.raw", upstream.url], READY) as raw:
        env = {"ASSISTANT_MODEL": "openai:bench", "OPENAI_BASE_URL": f"{upstream.url}/v1", "LOG_LEVEL": "WARNING"}
        with serving(**env) as service:
            yield raw, service


async def per_cpu_second(relay: Served, streams: int) -> float:
    await asyncio.gather(*(read(relay) for _ in range(streams)))  # warm: imports, connections, caches
    before = cpu_seconds(relay)
    await asyncio.gather(*(read(relay) for _ in range(streams)))
    return DELTAS * streams / max(cpu_seconds(relay) - before, 0.01)


async def times_to_first_token(relay: Served, rounds: int = 50) -> list[float]:
    await read(relay)
    return [await read(relay) for _ in range(rounds)]


async def read(relay: Served) -> float:
    """Read one answer to its end; return after how many seconds the first token was there."""
    address = urlsplit(relay.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    body = json.dumps({"message": "Go on", "stream": True}).encode()
    head = "POST /api/agent/chat HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json"
    begin = time.perf_counter()
    writer.write(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    first, seen = 0.0, b""
    while block := await reader.read(65_536):
        if not first and b"word" in block:
            first = time.perf_counter() - begin
        seen = seen[-200:] + block
    writer.close()
    assert b'"type": "end"' in seen, seen
    return first


def quantile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]
