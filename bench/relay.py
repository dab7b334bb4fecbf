"""What relaying costs: deltas per CPU-second of the relay's process, and CPU to begin and end an answer.

All deltas are those of long answers that come as fast as the relay takes them, twenty in a packet. The cost to begin
is in both numbers; an answer of one delta is nearly nothing else.
"""

from collections import defaultdict
from statistics import median

from bench import client
from bench.processes import Process
from bench.relays import ALL, BARE, DIRECT, LIMIT, Relay, side_by_side

STREAMS = (1, 16, 64)
ROUNDS = 3
SHORT = 20
# One stream alone is over too soon to be measured once.
REPEATED = {1: 5, 16: 1, 64: 1}


async def main() -> None:
    with side_by_side(ALL) as (upstream, relays):
        for relay in relays:
            await client.answers(relay.process.url, relay.ask("say 10"), streams=16, deltas=10)
        rates: dict[tuple[str, int], list[float]] = defaultdict(list)
        starts: dict[str, list[float]] = defaultdict(list)
        others: list[float] = []
        for _ in range(ROUNDS):
            for relay in relays:
                starts[relay.name].append(await to_begin(relay))
                for streams in STREAMS:
                    spent = Spent(upstream)
                    rates[relay.name, streams].append(await per_cpu_second(relay, streams))
                    if relay.name == LIMIT and streams == max(STREAMS):
                        others.append(spent.deltas_per_second(relay.deltas * streams))
    show({key: median(values) for key, values in rates.items()}, {name: median(of) for name, of in starts.items()})
    print(f"\nThe upstream writes {median(others):,.0f} deltas a CPU-second while bare asyncio relays them.")


class Spent:
    """The CPU time of a process from here on."""

    def __init__(self, process: Process) -> None:
        self.process, self.before = process, process.cpu_seconds()

    def seconds(self) -> float:
        return self.process.cpu_seconds() - self.before

    def deltas_per_second(self, deltas: int) -> float:
        return deltas / self.seconds()


async def per_cpu_second(relay: Relay, streams: int) -> float:
    spent = Spent(relay.process)
    for _ in range(REPEATED[streams]):
        await client.answers(relay.process.url, relay.ask(f"say {relay.deltas}"), streams=streams, deltas=relay.deltas)
    return spent.deltas_per_second(relay.deltas * streams * REPEATED[streams])


async def to_begin(relay: Relay) -> float:
    """Return the CPU milliseconds of an answer of one delta."""
    spent = Spent(relay.process)
    for _ in range(SHORT):
        await client.answers(relay.process.url, relay.ask("say 1"), streams=1, deltas=1)
    return 1_000 * spent.seconds() / SHORT


def show(rates: dict[tuple[str, int], float], starts: dict[str, float]) -> None:
    print(f"\nDeltas relayed per CPU-second of the relay; median of {ROUNDS} rounds, all in turn\n")
    heads = "".join(f"{f'{streams} streams':>12}" for streams in STREAMS)
    print(f"{'':<26}{heads}{'of bare asyncio':>17}{'of bare view':>14}{'ms to begin':>13}")
    most = max(STREAMS)
    for name in ALL:
        if name == DIRECT:
            continue
        row = "".join(f"{rates[name, streams]:>12,.0f}" for streams in STREAMS)
        ratios = "".join(
            f"{rates[name, most] / rates[peer, most]:>{width}.2f}" for peer, width in {LIMIT: 17, BARE: 14}.items()
        )
        print(f"{name:<26}{row}{ratios}{starts[name]:>13.1f}")
