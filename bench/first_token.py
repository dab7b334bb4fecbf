"""How much later a first token comes through a relay: with nothing else to do, and beside fifty paced streams."""

from collections import defaultdict
from statistics import quantiles

from bench import client
from bench.relays import ALL, DIRECT, Relay, side_by_side

ROUNDS = 5
# Requests in a round, one after the other.
REQUESTS = 20
CROWD = 50


async def main() -> None:
    with side_by_side(ALL) as (upstream, relays):
        times: dict[tuple[str, int], list[float]] = defaultdict(list)
        for relay in relays:
            await one_by_one(relay)
        for crowd in (0, CROWD):
            for _ in range(ROUNDS):
                for relay in relays:
                    times[relay.name, crowd] += await beside(relay, crowd, upstream.url)
    show({key: (1_000 * at(values, 50), 1_000 * at(values, 99)) for key, values in times.items()})


async def beside(relay: Relay, crowd: int, upstream: str) -> list[float]:
    async with client.paced(relay.process.url, relay.ask("say paced")) as streams:
        await streams.grow(crowd)
        await client.pace(upstream, crowd)
        times = await one_by_one(relay)
        await client.pace(upstream, 0)
    return times


async def one_by_one(relay: Relay) -> list[float]:
    return [await client.first_token(relay.process.url, relay.ask("say 20")) for _ in range(REQUESTS)]


def at(values: list[float], percent: int) -> float:
    return quantiles(values, n=100, method="inclusive")[percent - 1]


def show(times: dict[tuple[str, int], tuple[float, float]]) -> None:
    direct = {crowd: times[DIRECT, crowd] for crowd in (0, CROWD)}
    print(f"\nMilliseconds that a relay adds to the first token; {ROUNDS * REQUESTS} requests, all relays in turn\n")
    print(f"{'':<26}{'alone: p50':>14}{'p99':>9}{f'beside {CROWD} paced: p50':>26}{'p99':>9}")
    for name in ALL:
        if name != DIRECT:
            added = [times[name, crowd][which] - direct[crowd][which] for crowd in (0, CROWD) for which in (0, 1)]
            print(f"{name:<26}{added[0]:>14.1f}{added[1]:>9.1f}{added[2]:>26.1f}{added[3]:>9.1f}")
    alone, crowded = direct.values()
    print(f"\nThe upstream itself: {alone[0]:.1f} ms (p99 {alone[1]:.1f}), {crowded[0]:.1f} ms (p99 {crowded[1]:.1f}).")
