"""What it costs to be observed: CPU of the service for an answer of twenty deltas, and of one of two thousand."""

import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from statistics import median

from aiohttp import web

from bench import client
from bench.processes import started
from bench.relay import Spent
from bench.relays import ask_service, serve

ROUNDS = 7
# Answers in a round, by their deltas.
ANSWERS = {20: 40, 2_000: 4}
LINES = {"LOG_LEVEL": "INFO"}
METRICS = {"METRICS_TOKEN": "for the benchmarks only"}
TENTH = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"}


async def main() -> None:
    async with collector() as url:
        spans = {"OTEL_EXPORTER_OTLP_ENDPOINT": url}
        ways = {
            "nothing": {},
            "log lines": {**LINES, "LOG_FORMAT": "line"},
            "log as JSON": {**LINES, "LOG_FORMAT": "json"},
            "metrics": METRICS,
            "traces": spans,
            "traces, a tenth sampled": spans | TENTH,
            "all of it": spans | METRICS | LINES,
        }
        show(await measured(ways))


async def measured(ways: dict[str, dict[str, str]]) -> dict[tuple[str, int], float]:
    """Return the CPU milliseconds of an answer, the median of rounds in which all take turns."""
    costs: dict[tuple[str, int], list[float]] = defaultdict(list)
    with ExitStack() as stack:
        upstream = stack.enter_context(started(sys.executable, "-m", "bench.upstream", "{port}"))
        services = {name: stack.enter_context(serve(upstream.url, **env)) for name, env in ways.items()}
        for turn in range(ROUNDS + 1):
            for name, service in services.items():
                for deltas, count in ANSWERS.items():
                    spent = Spent(service)
                    for _ in range(count):
                        await client.answers(service.url, ask_service(f"say {deltas}"), streams=1, deltas=deltas)
                    if turn:  # the first one warms up
                        costs[name, deltas].append(1_000 * spent.seconds() / count)
    return {key: median(values) for key, values in costs.items()}


def show(costs: dict[tuple[str, int], float]) -> None:
    print(f"\nCPU of an answer with what is observed, ms; median of {ROUNDS} rounds, all in turn\n")
    print(f"{'':<26}" + "".join(f"{f'{deltas:,} deltas':>16}" for deltas in ANSWERS))
    for name in dict.fromkeys(name for name, _ in costs):
        print(f"{name:<26}" + "".join(f"{costs[name, deltas]:>16.2f}" for deltas in ANSWERS))


@asynccontextmanager
async def collector() -> AsyncIterator[str]:
    """Take spans and forget them."""

    async def take(request: web.Request) -> web.Response:
        await request.read()
        return web.Response()

    application = web.Application(client_max_size=2**26)
    application.router.add_post("/v1/traces", take)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
