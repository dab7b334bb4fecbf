"""Real processes for tests: the service on a free port of this machine, with a database and data of its own."""

import atexit
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Seconds a process may take to say that it is ready, and to end, on a machine that has ten other things to do.
PATIENCE = 120

# No variable of the developer's own shell or .env changes what a test sees.
CLEAN = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ} | {
    "ENV_FILE": os.devnull,
    "PYTHONUNBUFFERED": "1",
}
DEVELOPMENT = {"DEBUG": "true", "PORT": "0", "ASSISTANT_MODEL": "openai:none", "OPENAI_BASE_URL": "http://127.0.0.1:9"}


@dataclass(frozen=True)
class Served:
    """A server that is ready."""

    url: str
    process: subprocess.Popen[bytes]
    output: Path
    data: str | None = None
    """Its data directory, where it has one."""

    def log(self) -> str:
        return self.output.read_text()


def manage(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `manage.py` to its end in an environment that holds `env` and nothing of the developer's."""
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=CLEAN | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@cache
def migrated() -> Path:
    """Return a data directory whose database has its tables, made once and copied from then on."""
    directory = Path(tempfile.mkdtemp(prefix="assistant-test-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    result = manage("migrate", **DEVELOPMENT, ASSISTANT_DATA_DIR=str(directory))
    assert result.returncode == 0, result.stderr
    return directory


@cache
def prepared() -> Path:
    """Return a data directory as a first `make run` leaves it: the documents are loaded, the weights are a link."""
    from assistant.providers.assets import ENCYCLOPEDIA, SMOLLM2, fetch

    directory = Path(tempfile.mkdtemp(prefix="assistant-test-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    for asset in (SMOLLM2, ENCYCLOPEDIA):
        Path(directory, fetch(asset).parent.name).symlink_to(asset.path.parent)
    result = manage("prepare", DEBUG="true", ASSISTANT_DATA_DIR=str(directory))
    assert result.returncode == 0, result.stderr
    return directory


@contextmanager
def data_directory(template: Callable[[], Path] = migrated) -> Iterator[str]:
    """Give a process a data directory of its own, a copy, until the block ends."""
    with tempfile.TemporaryDirectory() as directory:
        yield str(shutil.copytree(template(), Path(directory, "data"), symlinks=True))


@contextmanager
def running(command: list[str], ready: str, where: Path = ROOT, **env: str) -> Iterator[Served]:
    """Run a server until the block ends; it is ready once it has printed `ready`, which captures its port."""
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory, "output")
        with output.open("wb") as sink:
            process = subprocess.Popen(
                command, cwd=where, env=CLEAN | env, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT
            )
        try:
            url = f"http://127.0.0.1:{wait_for(process, output, ready)}"
            yield Served(url, process, output, env.get("ASSISTANT_DATA_DIR"))
        finally:
            stop(process)


@contextmanager
def serving_with_uvicorn(**env: str) -> Iterator[Served]:
    """Run the service in development under uvicorn, on a database of its own and with `env` on top."""
    command = [sys.executable, "-m", "uvicorn", "config.asgi:application", "--port=0", "--no-access-log"]
    with data_directory() as data:
        env = {**DEVELOPMENT, "ASSISTANT_DATA_DIR": data, **env}
        with running(command, r"running on http://\S+:(\d+)", **env) as it:
            yield it


@contextmanager
def serving(template: Callable[[], Path] = migrated, **env: str) -> Iterator[Served]:
    """Run `manage.py serve` in development, on a copy of `template` and with `env` on top, until the block ends."""
    command = [sys.executable, "manage.py", "serve"]
    with data_directory(template) as data:
        env = {**DEVELOPMENT, "ASSISTANT_DATA_DIR": data, **env}
        with running(command, r"on http://\S+:(\d+)", **env) as it:
            yield it


def wait_for(process: subprocess.Popen[bytes], output: Path, pattern: str) -> str:
    """Return the first group of `pattern` once the process has printed it."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        over = process.poll() is not None
        if found := re.search(pattern, output.read_text()):
            return found[1]
        assert not over, f"the process ended with {process.returncode}:\n{output.read_text()}"
        time.sleep(0.02)
    raise AssertionError(f"the process printed nothing like {pattern}:\n{output.read_text()}")


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
