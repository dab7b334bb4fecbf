"""`make crash`: cycles until one finds something, or until all are done. What was found is kept, and the exit is 1."""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from tests.crash.client import Client
from tests.crash.cycles import PATIENCE, Fault, Loop, Plan, plan, taken_over
from tests.crash.databases import DATABASES
from tests.crash.fleet import Fleet, free_port, wait_for
from tests.crash.ledger import lines
from tests.processes import CLEAN, DEVELOPMENT, ROOT
from tests.redis_server import RedisServer, redis_server

# What works on batches besides the servers.
WORKERS = {"sqlite": [], "postgres": ["run_batches", "run_batches"], "celery": ["celery", "celery"]}
SERVERS = 2
TABLES = ("batching_batch", "batching_batchitem", "crash_transition")


def main() -> int:
    options = parsed()
    directory = Path(tempfile.mkdtemp(prefix="crash-"))
    began = time.monotonic()
    with loop(options, directory) as it:
        found = prove(it) if options.prove else run(it, options)
        report(it, directory, time.monotonic() - began)
        if found:
            keep(it, directory)
    if found:
        say(f"FOUND, with --seed {options.seed}, all of it kept in {directory}:", *found)
        return 1
    shutil.rmtree(directory)
    if not options.prove:
        say("0 lost, 0 ended twice, 0 late writes accepted; all counts add up, each call came with its item's one key.")
    return 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--cycles", type=int, default=1000)
    parser.add_argument("--backend", choices=DATABASES, default="sqlite")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of what happens; not of when")
    parser.add_argument("--prove", action="store_true", help="show instead that what is taken out is missed")
    parser.add_argument("--lease", type=float, default=0.25, help="seconds; on a busy machine it takes more")
    return parser.parse_args()


@contextmanager
def loop(options: argparse.Namespace, directory: Path) -> Iterator[Loop]:
    with redis_server() if options.backend == "celery" else nullcontext() as broker:
        yield from looping(options, directory, broker)


def with_broker(broker: RedisServer) -> dict[str, str]:
    return {"CELERY_BROKER_URL": broker.url.replace("unix", "redis+socket"), "BATCH_SLICE": "1"}


def looping(options: argparse.Namespace, directory: Path, broker: RedisServer | None) -> Iterator[Loop]:
    (directory / "seen").mkdir()
    database, ports = DATABASES[options.backend](directory), [free_port() for _ in range(SERVERS)]
    env = environment(directory, database.url, options.lease) | (with_broker(broker) if broker else {})
    subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=ROOT, env=env, check=True)
    database.watch()
    commands = [*(f"serve --port={port}" for port in ports), *WORKERS[options.backend]]
    fleet = Fleet(directory, commands, env)
    try:
        fleet.tend()
        for port in ports:
            wait_for(port)
        luck = random.Random(options.seed)
        yield Loop(directory, database, fleet, Client(ports), luck=luck, lease=options.lease, broker=broker)
    finally:
        fleet.end()


def environment(directory: Path, url: str, lease: float) -> dict[str, str]:
    return {
        **CLEAN,
        **DEVELOPMENT,
        "DJANGO_SETTINGS_MODULE": "tests.crash.settings",
        "ASSISTANT_DATA_DIR": str(directory),
        "CRASH_DIRECTORY": str(directory),
        "DATABASE_URL": url,
        "LOG_LEVEL": "WARNING",
        "BATCH_LEASE": str(lease),
        "BATCH_MAX_ATTEMPTS": "1000",
    }


def run(it: Loop, options: argparse.Namespace) -> list[str]:
    """Return what the first cycle that found anything has found."""
    began = time.monotonic()
    for number in range(1, options.cycles + 1):
        what = plan(it.luck, it.database.outages | ({"broker": 5} if it.broker else {}))
        if found := noticed(it, number, what):
            return [f"cycle {number}: {what}", *found]
        if number % 50 == 0:
            say(f"{number} cycles, {(time.monotonic() - began) / number:.2f} s each")
    everything = it.ledger(whole=True)
    return [*everything.wrong(), *everything.strays()]


# What has to be noticed, in which cycle, when something is taken out of the processes.
PROOFS = {
    "fence": ("late write", taken_over("after the view")),
    "reaper": ("Stuck", Plan("batch", [Fault("kill", "claimed")])),
    "condition": ("two final states", taken_over("after the view")),
    "claim": ("claimed while held", Plan("batch")),
}
TRIES = 20


def prove(it: Loop) -> list[str]:
    """Return what wasn't noticed."""
    missed = []
    for taken_out, (wanted, what) in PROOFS.items():
        it.fleet.taken_out = taken_out
        it.start_over()
        it.patience = 5 + it.lease if wanted == "Stuck" else PATIENCE
        found = (text for number in range(TRIES) for text in noticed(it, number, what) if text.startswith(wanted))
        said = next(found, None)
        say(f"without the {taken_out}: {said or 'nothing is noticed'}")
        missed += [] if said else [f"not noticed: {taken_out}"]
    it.start_over()
    return missed


def noticed(it: Loop, number: int, what: Plan) -> list[str]:
    try:
        return it.cycle(number, what)
    except Exception as error:  # whatever it is, this is where it is told
        return [f"{type(error).__name__}: {error}", *it.ledger(whole=False).wrong()]


def report(it: Loop, directory: Path, seconds: float) -> None:
    everything = it.ledger(whole=True)
    again = sum(len(calls) - 1 for calls in everything.calls.values())
    refused = len(lines(directory / "refusals"))
    say(
        f"{len(it.client.promises)} batches promised, {len(everything.batches)} there, {len(everything.items)} items",
        f"{len(it.record.calls.all)} calls, {again} of them again; {refused} late writes refused",
        f"{it.client.unheard} answers unheard, {it.fleet.forked} processes, {seconds:.0f} s",
        *(f"{count:6} {what}" for what, count in sorted(it.happened.items())),
    )


def keep(it: Loop, directory: Path) -> None:
    """Write the rows down, which may go with their database."""
    for table in TABLES:
        rows = it.database.rows(f"SELECT * FROM {table}")
        (directory / f"{table}.json").write_text("\n".join(json.dumps(row, default=str) for row in rows))


def say(*texts: str) -> None:
    sys.stdout.write("\n".join([*texts, ""]))
    sys.stdout.flush()


sys.exit(main())
