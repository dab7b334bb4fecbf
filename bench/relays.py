"""The relays that are measured side by side: the service, its peers, the machine's limit, all before one upstream."""

import json
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from bench.client import post
from bench.processes import Process, started
from tests.processes import manage, migrated

DIRECT = "upstream, no relay"
LIMIT = "bare asyncio"
BARE = "bare Django view, daphne"
OURS = "this service, serve"
UVICORN = "this service, uvicorn"
HTTPX = "FastAPI, httpx"
OWN_SSE = "FastAPI, its own SSE"
SDK = "openai SDK, Django view"
LITELLM = "LiteLLM's proxy"


@dataclass(frozen=True)
class Relay:
    """A process, and how it is asked; `deltas`: so many of one answer take it a fair time."""

    name: str
    process: Process
    ask: Callable[[str], bytes]
    deltas: int


@dataclass(frozen=True)
class Kind:
    """How a relay is started and asked."""

    start: Callable[[str], AbstractContextManager[Process]]
    ask: Callable[[str], bytes]
    deltas: int


@contextmanager
def side_by_side(names: Sequence[str]) -> Iterator[tuple[Process, list[Relay]]]:
    """Run the upstream and the named relays, each in a process of its own, until the block ends."""
    with ExitStack() as stack:
        upstream = stack.enter_context(started(sys.executable, "-m", "bench.upstream", "{port}"))
        relays = []
        for name in names:
            kind = KINDS[name]
            process = upstream if name == DIRECT else stack.enter_context(kind.start(upstream.url))
            relays.append(Relay(name, process, kind.ask, kind.deltas))
        yield upstream, relays


@contextmanager
def making(name: str) -> Iterator[Relay]:
    """Run one of those that make the tokens themselves until the block ends."""
    kind = MAKERS[name]
    with kind.start("http://127.0.0.1:9") as process:
        yield Relay(name, process, kind.ask, kind.deltas)


# The service, as in production: a caller with an API key, rows in SQLite.


@cache
def data() -> tuple[Path, str]:
    """Return a data directory in which a caller has a key, and the key."""
    directory = migrated()
    env = {"DEBUG": "true", "ASSISTANT_DATA_DIR": str(directory), "DJANGO_SUPERUSER_PASSWORD": "bench"}
    made = manage("createsuperuser", "--no-input", "--username=bench", "--email=bench@localhost", **env)
    assert made.returncode == 0, made.stderr
    return directory, manage("create_api_key", "bench", **env).stdout.strip()


def production(upstream: str, directory: str) -> dict[str, str]:
    return {
        "SECRET_KEY": "for the benchmarks only, and long enough for their purpose",
        "ALLOWED_HOSTS": "localhost,127.0.0.1",
        "WEB_CONCURRENCY": "1",
        "NUM_PROXIES": "0",
        "THROTTLE_KEY": "1000000/second",
        "THROTTLE_USER": "1000000/second",
        "PORT": "{port}",
        "LOG_LEVEL": "ERROR",
        "ASSISTANT_DATA_DIR": directory,
        "ASSISTANT_MODEL": "openai:bench",
        "OPENAI_BASE_URL": f"{upstream}/v1",
        "MODEL_IDLE_TIMEOUT": "600",
        "CHAT_CONCURRENCY": "10000",
        "CHAT_CONCURRENCY_PER_CALLER": "10000",
    }


@contextmanager
def service(upstream: str, *command: str, **env: str) -> Iterator[Process]:
    with tempfile.TemporaryDirectory() as directory:
        copy = shutil.copytree(data()[0], Path(directory, "data"))
        with started(*command, **(production(upstream, str(copy)) | env)) as process:
            yield process


def serve(upstream: str, **env: str) -> AbstractContextManager[Process]:
    return service(upstream, sys.executable, "manage.py", "serve", **env)


def serve_with_uvicorn(upstream: str, **env: str) -> AbstractContextManager[Process]:
    return service(upstream, *UVICORN_COMMAND, "config.asgi:application", **env)


def serve_usually(upstream: str, **env: str) -> AbstractContextManager[Process]:
    """Run the same views and keys as Django's documentation has them run: daphne, and Django's own middlewares."""
    usual = {"DJANGO_SETTINGS_MODULE": "bench.usual", **env}
    return service(upstream, *DAPHNE_COMMAND, "bench.peers.django_usual:application", **usual)


def authorization() -> dict[str, str]:
    return {"Authorization": f"Bearer {data()[1]}"}


def ask_service(prompt: str) -> bytes:
    body = json.dumps({"message": prompt}).encode()
    return post("/api/agent/chat?stream=true&on_disconnect=cancel", body, **authorization())


# Its peers.

UVICORN_COMMAND = [sys.executable, "-m", "uvicorn", "--port={port}", "--log-level=error", "--no-access-log"]
DAPHNE_COMMAND = [sys.executable, "-m", "daphne", "--port={port}", "--verbosity=0"]


def peer(*command: str) -> Callable[[str], AbstractContextManager[Process]]:
    return lambda upstream: started(*command, UPSTREAM=upstream)


LITELLM_KEY = f"sk-{secrets.token_hex(32)}"
LITELLM_QUIET = {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}


def litellm(upstream: str) -> AbstractContextManager[Process]:
    options = ["--config=bench/peers/litellm.yaml", "--host=127.0.0.1", "--port={port}", "--telemetry=False"]
    env = {"UPSTREAM_BASE": f"{upstream}/v1", "LITELLM_MASTER_KEY": LITELLM_KEY, **LITELLM_QUIET}
    return started(str(Path(sys.executable).with_name("litellm")), *options, **env)


def ask_plainly(path: str) -> Callable[[str], bytes]:
    return lambda prompt: post(path, json.dumps({"message": prompt}).encode())


def ask_openai(prompt: str) -> bytes:
    body = {"model": "bench", "messages": [{"role": "user", "content": prompt}], "stream": True}
    return post("/v1/chat/completions", json.dumps(body).encode(), Authorization=f"Bearer {LITELLM_KEY}")


chat = ask_plainly("/api/agent/chat")
KINDS: Mapping[str, Kind] = {
    DIRECT: Kind(peer(), ask_openai, 8_000),
    LIMIT: Kind(peer(sys.executable, "-m", "bench.peers.raw", "{port}"), chat, 8_000),
    BARE: Kind(peer(*DAPHNE_COMMAND, "bench.peers.django_aiohttp:application"), chat, 8_000),
    OURS: Kind(serve, ask_service, 8_000),
    UVICORN: Kind(serve_with_uvicorn, ask_service, 8_000),
    HTTPX: Kind(peer(*UVICORN_COMMAND, "bench.peers.fastapi_httpx:application"), chat, 1_000),
    OWN_SSE: Kind(peer(*UVICORN_COMMAND, "bench.peers.fastapi_httpx:application"), ask_plainly("/sse"), 400),
    SDK: Kind(peer(*DAPHNE_COMMAND, "bench.peers.django_openai:application"), chat, 400),
    LITELLM: Kind(litellm, ask_openai, 250),
}
# The same, and streams of tokens that they make themselves.
PACED = {"DJANGO_SETTINGS_MODULE": "bench.settings", "ASSISTANT_MODEL": "paced:bench"}
MAKERS: Mapping[str, Kind] = {
    BARE: Kind(KINDS[BARE].start, ask_plainly("/made"), 0),
    OURS: Kind(partial(serve, **PACED), ask_service, 0),
    UVICORN: Kind(partial(serve_with_uvicorn, **PACED), ask_service, 0),
    HTTPX: Kind(KINDS[HTTPX].start, ask_plainly("/made"), 0),
}
ALL = list(KINDS)
