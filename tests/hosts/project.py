"""A project of somebody else's: made by `django-admin startproject`, in an environment that has the wheel."""

import json
import shutil
import socket
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.hosts import pages
from tests.packages import link
from tests.processes import CLEAN, ROOT, Served, running

FILES = Path(__file__).parent / "files"
# Run in the project: each command as `manage.py` would, in one process, and then what is asked for.
COMMANDS = """
import json, sys, django
django.setup()
from django.core.management import call_command
for name, arguments in json.loads(sys.argv[1]):
    call_command(name, *arguments)
"""
# Prints what a view answers, on the last line; no table of an app may be there.
ANSWERING = """
from django.db import connection
from django.test import Client
left = [name for name in connection.introspection.table_names() if name.startswith(("assistant_", "batching_"))]
assert not left, left
print("", Client(headers={{"host": "localhost"}}).get("{path}").content.decode(), sep="\\n", end="")
"""


def build(directory: Path) -> Path:
    """Build the wheel, and return it."""
    subprocess.run([ROOT / "scripts/wheel", directory], check=True, stdout=subprocess.DEVNULL)
    return next(directory.glob("*.whl"))


def borrowing(directory: Path, wheel: Path, only: set[str] | None = None) -> Path:
    """Make an environment with the wheel, and all else out of this one, without a network; return its Python.

    With `only` it has these distributions and no others.
    """
    venv.create(directory, symlinks=True)
    python = directory / "bin" / "python"
    site = next(directory.glob("lib/python*/site-packages"))
    if only is None:
        (site / "borrowed.pth").write_text(f"{installed()}\n")
    else:
        link(only, site)
    uv("pip", "install", "--offline", "--no-deps", "--python", str(python), str(wheel))
    return python


def installed() -> str:
    """Return where this environment has its packages."""
    return next(path for path in sys.path if path.endswith("site-packages"))


def uv(*arguments: str) -> None:
    result = subprocess.run([sys.executable, "-m", "uv", *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@dataclass
class Host:
    """A project. `own`: it has users, a prefix, DRF's defaults and transactions of its own.

    `database` is what its default database has instead of `startproject`'s, `variables` its environment besides.
    """

    directory: Path
    python: Path
    own: bool = False
    database: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def prefix(self) -> str:
        return "/service/v1/" if self.own else "/api/"

    @property
    def env(self) -> dict[str, str]:
        return CLEAN | {
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "DATABASE": json.dumps(self.database),
            "DJANGO_SUPERUSER_USERNAME": "ada",
            "DJANGO_SUPERUSER_EMAIL": "ada@example.org",
            "DJANGO_SUPERUSER_PASSWORD": "a long enough one",
            **self.variables,
        }

    def create(self) -> None:
        self.directory.mkdir()
        self.run("-m", "django", "startproject", "project", ".", DJANGO_SETTINGS_MODULE="")

    def start(self) -> None:
        """Make the project, and what it had before: a view, a user, and with `own` its own rules."""
        self.create()
        shutil.copytree(FILES / "common", self.directory, dirs_exist_ok=True)
        self.append("settings.py", (FILES / "settings.txt").read_text())
        self.append("urls.py", (FILES / "urls.txt").read_text())
        if self.own:
            shutil.copytree(FILES / "own", self.directory, dirs_exist_ok=True)
            self.append("settings.py", (FILES / "own_settings.txt").read_text())
            self.run("manage.py", "makemigrations", "accounts")
        self.answer = self.commands(("migrate",), ("createsuperuser", "--noinput"), then=self.answering)

    @property
    def answering(self) -> str:
        """Return the code that prints what a view of the project's own answers."""
        return ANSWERING.format(path=f"{self.prefix}hello")

    def append(self, name: str, text: str) -> None:
        with (self.directory / "project" / name).open("a") as file:
            file.write(f"\n{text}")

    def write(self, name: str, text: str) -> None:
        """Write a file as the documentation shows it; to settings.py and urls.py it is added."""
        if name in ("settings.py", "urls.py"):
            self.append(name, text)
            return
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        for directory in [path.parent, *path.parents]:
            if directory.is_relative_to(self.directory) and directory != self.directory and path.suffix == ".py":
                (directory / "__init__.py").touch()

    @contextmanager
    def with_apps(self, *apps: str, server: str) -> Iterator[None]:
        """Write the documentation's lines into the project's files, and take them out again at the end."""
        before = {path: path.read_text() for path in (self.directory / "project").glob("*.py")}
        for name, text in pages.installing(set(apps)).items():
            text = text.replace('"api/"', f'"{self.prefix.lstrip("/")}"')
            self.append(name, text.replace('"rest_framework", ', "") if self.own else text)
        for name, text in pages.serving(whole=len(apps) > 1) if server == "serve" else ():
            self.append(name, text)
        try:
            yield
        finally:
            for path, text in before.items():
                path.write_text(text)

    def run(self, *command: str, **env: str) -> str:
        """Run Python in the project; return what it printed."""
        return self.ran(*command, **env).stdout

    def ran(self, *command: str, **env: str) -> "subprocess.CompletedProcess[str]":
        result = subprocess.run(
            [str(self.python), *command],
            cwd=self.directory,
            env=self.env | env,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert result.returncode == 0, f"{command}:\n{result.stdout}{result.stderr}"
        return result

    def commands(self, *commands: tuple[str, ...], then: str = "") -> str:
        """Run commands of `manage.py`, and Python after them; return what was printed."""
        given = json.dumps([(name, arguments) for name, *arguments in commands])
        return self.run("-c", COMMANDS + then, given)

    @contextmanager
    def serving(self, server: str) -> Iterator[Served]:
        make, ready = SERVERS[server]
        command = [str(self.python), *make()]
        with running(command, ready, self.directory, **self.env) as served:
            yield served


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


SERVERS: dict[str, tuple[Callable[[], list[str]], str]] = {
    "runserver": (
        lambda: ["manage.py", "runserver", "--noreload", f"127.0.0.1:{free_port()}"],
        r"server at http://\S+:(\d+)",
    ),
    "gunicorn": (
        lambda: ["-m", "gunicorn", "project.wsgi", "--bind=127.0.0.1:0", "--threads=8"],
        r"Listening at: http://\S+:(\d+)",
    ),
    "daphne": (lambda: ["-m", "daphne", "--port=0", "project.asgi:application"], r"Listening on TCP address \S+:(\d+)"),
    "uvicorn": (lambda: ["-m", "uvicorn", "--port=0", "project.asgi:application"], r"running on http://\S+:(\d+)"),
    "serve": (lambda: ["manage.py", "serve", "--port=0"], r"on http://\S+:(\d+)"),
}
# The servers that can't stream.
WSGI = {"runserver", "gunicorn"}
