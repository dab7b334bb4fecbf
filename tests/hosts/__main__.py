"""Install the wheel into new projects in every way below: `make hosts`; `scripts/hosts 5.2 daphne` for some of them."""

import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg

from tests.hosts.journey import travel
from tests.hosts.project import Host, uv
from tests.upstream import Upstream, reply

DJANGOS = {"5.2": "django~=5.2.0", "newest": "django"}
# What an environment has besides: extras of the wheel, and packages.
SERVERS = {server: ("assistant,postgres", [server]) for server in ("gunicorn", "daphne", "uvicorn")}
SERVERS["serve"] = ("assistant,postgres,server", [])
# Without an extra there is `batching` alone.
LIGHT = "runserver"
APPS = [("batching",), ("assistant",), ("assistant", "batching")]


@dataclass(frozen=True)
class Way:
    django: str
    server: str
    rules: str
    database: str

    def __str__(self) -> str:
        return f"Django {self.django}, {self.server}, {self.rules}, {self.database}"


def ways() -> Iterator[Way]:
    for django in DJANGOS:
        yield Way(django, LIGHT, "plain", "sqlite")
        for server in SERVERS:
            yield Way(django, server, "plain", "sqlite")
            yield Way(django, server, "own", "postgresql")
        yield Way(django, "uvicorn", "own", "sqlite")
        yield Way(django, "uvicorn", "plain", "postgresql")


def environment(directory: Path, wheel: Path, way: Way) -> Path:
    """Return the Python of a new environment with the wheel, unless it is there."""
    python = directory / way.django / way.server / "bin" / "python"
    if not python.exists():
        extras, server = SERVERS.get(way.server, ("", []))
        uv("venv", "--quiet", "--python", sys.executable, str(python.parents[1]))
        wanted = [f"django-assistant-backend[{extras}] @ {wheel.resolve().as_uri()}", DJANGOS[way.django], *server]
        uv("pip", "install", "--quiet", "--compile-bytecode", "--python", str(python), *wanted)
    return python


def database(way: Way, number: int) -> dict[str, str]:
    """Return the settings of a new database; nothing for the one of `startproject`."""
    if way.database == "sqlite":
        return {}
    address = urlsplit(os.environ["DATABASE_URL"])
    where = {"user": "postgres", "host": unquote((address.netloc).rpartition("@")[2])}
    name = f"host_{number}"
    with psycopg.connect(dbname="postgres", autocommit=True, **where) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]  # our own words
    return {"ENGINE": "django.db.backends.postgresql", "NAME": name, "USER": where["user"], "HOST": where["host"]}


def go(way: Way, number: int, directory: Path, wheel: Path, model: str) -> None:
    """Make a project, and take it through each choice of apps."""
    host = Host(
        directory / f"host-{number}",
        environment(directory, wheel, way),
        own=way.rules == "own",
        database=database(way, number),
        variables={"OPENAI_BASE_URL": model},
    )
    host.start()
    for apps in APPS if way.server != LIGHT else APPS[:1]:
        began = time.monotonic()
        travel(host, apps, way.server)
        say(f"{way}: {' and '.join(apps)}, {time.monotonic() - began:.1f} s")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(wheel: Path, words: list[str]) -> int:
    failed = []
    chosen = [way for way in ways() if set(words) <= {way.django, way.server, way.rules, way.database}]
    with tempfile.TemporaryDirectory() as directory, Upstream(reply("Hello", " world")).in_thread() as upstream:
        for number, way in enumerate(chosen):
            try:
                go(way, number, Path(directory), wheel, upstream.url)
            except Exception:  # the others are to be told of, too
                traceback.print_exc()
                failed.append(way)
    say("\n".join([f"{len(chosen) - len(failed)} of {len(chosen)} ways", *(f"FAILED: {way}" for way in failed)]))
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
