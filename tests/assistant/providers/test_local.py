"""The model on this machine: its name, and the real thing."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from assistant.errors import ContextTooLong, ModelError
from assistant.events import Token
from assistant.providers.assets import SMOLLM2, fetch
from assistant.providers.llama import CONTEXT_TOKENS
from assistant.providers.local import LocalModel
from assistant.providers.registry import get_model
from tests.assistant.providers.collect import asking, collect, text
from tests.processes import CLEAN, PATIENCE, ROOT
from tests.upstream import until

LONG = asking("Write a very long story.", max_tokens=1500)
SHORT = asking(max_tokens=3)
NO_MODEL, NO_GGUF = "neither smollm2 nor the path of a .gguf file", "isn't in GGUF format"


# Names.


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("smollm3", None, NO_MODEL),
        ("m.bin", b"GGUF", NO_MODEL),
        ("m.gguf", None, "can't be read: No such file"),
        ("m.gguf", b"<html>", NO_GGUF),
        ("m.gguf", b"", NO_GGUF),
    ],
)
def test_a_name_that_cannot_be_used_says_why(tmp_path: Path, name: str, content: bytes | None, reason: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ImproperlyConfigured, match=reason):
        get_model(f"local:{tmp_path / name}")


def test_a_missing_package_is_named(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(ImproperlyConfigured, match=r"pip install 'django-assistant-backend\[local\]'"):
        LocalModel("smollm2")


def test_a_file_of_ones_own_calls_tools_and_the_small_model_does_not(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    assert LocalModel(str(tmp_path / "m.gguf")).calls_tools
    assert not LocalModel("smollm2").calls_tools


async def test_missing_weights_say_what_to_do(settings: Any, tmp_path: Path) -> None:
    settings.ASSISTANT_DATA_DIR = tmp_path
    model = LocalModel("smollm2")
    for _ in range(2):
        with pytest.raises(ModelError, match=r"The weights of local:smollm2 are missing: run `manage.py prepare`."):
            await model.start()
    await model.aclose()


# The real thing.

real = pytest.mark.model


@pytest.fixture
def data(settings: Any, tmp_path: Path) -> Path:
    """A data directory of the test's own, so that no other process has the model."""
    weights = fetch(SMOLLM2)
    settings.ASSISTANT_DATA_DIR = tmp_path
    SMOLLM2.path.parent.mkdir()
    SMOLLM2.path.symlink_to(weights.absolute())
    return tmp_path


@pytest.fixture
async def model(data: Path) -> AsyncIterator[LocalModel]:
    local = LocalModel("smollm2")
    yield local
    await local.aclose()


def llama_processes(data: Path) -> list[int]:
    """Return the servers that run for a data directory."""
    found = subprocess.run(["pgrep", "-f", f"llama.py {data}/"], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


PREFIX = """
import asyncio, os, sys
import django
django.setup()
from assistant.providers.base import ModelRequest
from assistant.providers.local import LocalModel

model = LocalModel("smollm2")

async def say(limit):
    return [event async for event in model.stream(ModelRequest([{"role": "user", "content": "Hi"}], max_tokens=limit))]
"""


@contextmanager
def program(data: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run another process of the service until the block ends."""
    env = CLEAN | {"DJANGO_SETTINGS_MODULE": "tests.settings", "DEBUG": "true", "ASSISTANT_DATA_DIR": str(data)}
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


HOLDING = PREFIX + "asyncio.run(model.start())\nprint('held', flush=True)\nsys.stdin.read()\n"


@real
async def test_an_answer_streams_with_usage(model: LocalModel) -> None:
    events = await collect(model, asking("What is Python?", max_tokens=20))
    assert sum(isinstance(event, Token) for event in events) > 5
    assert events[-1].finish_reason == "length"
    assert events[-1].usage.input_tokens > 5
    assert events[-1].usage.output_tokens == 20


@real
async def test_a_schema_binds_the_answer(model: LocalModel) -> None:
    name = {"type": "string", "maxLength": 20}
    schema = {
        "type": "object",
        "properties": {"name": name, "mood": {"enum": ["good", "bad"]}},
        "required": ["name", "mood"],
        "additionalProperties": False,
    }
    request = asking("Tell me a joke.", max_tokens=200, temperature=1.5, schema=schema)
    answer = json.loads(text(await collect(model, request)))
    assert answer.keys() == {"name", "mood"}
    assert answer["mood"] in ("good", "bad")


@real
async def test_more_than_the_window_is_too_long(model: LocalModel) -> None:
    with pytest.raises(ContextTooLong):
        await collect(model, asking("word " * CONTEXT_TOKENS))


@real
async def test_first_calls_at_once_start_one_server(model: LocalModel, data: Path) -> None:
    await asyncio.gather(*(collect(model, SHORT) for _ in range(5)))
    assert len(llama_processes(data)) == 1


@real
async def test_a_closed_call_frees_its_slot(model: LocalModel) -> None:
    for _ in range(4):
        events = model.stream(LONG)
        await anext(events)
        await events.aclose()
    assert text(await asyncio.wait_for(collect(model, SHORT), 10))


@real
async def test_a_closed_model_has_ended_its_server_and_starts_again(model: LocalModel, data: Path) -> None:
    for _ in range(2):
        assert text(await collect(model, SHORT))
        events = model.stream(LONG)
        await anext(events)
        await events.aclose()
        await model.aclose()
        assert llama_processes(data) == []
        assert not any(name.endswith(".json") for name in os.listdir(data))


@real
async def test_a_server_that_died_is_started_again(model: LocalModel, data: Path) -> None:
    await model.start()
    (before,) = llama_processes(data)
    os.kill(before, signal.SIGKILL)
    await until(lambda: llama_processes(data) == [])
    assert text(await collect(model, SHORT))
    (after,) = llama_processes(data)
    assert after != before


@real
async def test_two_processes_share_a_server_until_its_owner_is_killed(model: LocalModel, data: Path) -> None:
    with program(data, "-c", HOLDING) as owner:
        assert line(owner) == "held"
        theirs = llama_processes(data)
        assert text(await collect(model, SHORT))
        assert llama_processes(data) == theirs
        assert len(theirs) == 1
        owner.kill()
        owner.wait(PATIENCE)
        await until(lambda: llama_processes(data) == [])
        assert text(await collect(model, SHORT))
        assert len(llama_processes(data)) == 1


@real
async def test_a_file_that_is_no_model_cannot_be_started(settings: Any, tmp_path: Path) -> None:
    settings.ASSISTANT_DATA_DIR = tmp_path
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + bytes(100))
    model = LocalModel(str(tmp_path / "m.gguf"))
    for _ in range(2):
        with pytest.raises(ModelError, match=r"The local model can't be started."):
            await collect(model)
    await model.aclose()


@real
async def test_a_process_may_exit_while_the_model_speaks(data: Path) -> None:
    exiting = """
async def main():
    events = model.stream(ModelRequest([{"role": "user", "content": "Hi"}], max_tokens=1500))
    await anext(events)
    print("speaks", flush=True)
    sys.exit(0)

asyncio.run(main())
"""
    with program(data, "-c", PREFIX + exiting) as process:
        assert line(process) == "speaks"
        assert process.wait(PATIENCE) == 0
    await until(lambda: llama_processes(data) == [])


@real
async def test_a_forked_child_uses_the_parents_server(data: Path) -> None:
    forking = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
asyncio.run(model.start())
child = os.fork()
if child == 0:
    asyncio.run(say(3))
    sys.exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), len(asyncio.run(say(3))), flush=True)
"""
    with program(data, "-c", PREFIX + forking) as process:
        assert line(process) == "7 4"
        assert process.wait(PATIENCE) == 0


@real
async def test_a_forked_child_does_not_keep_its_dead_parents_claim(model: LocalModel, data: Path) -> None:
    forking = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
asyncio.run(model.start())
if os.fork() == 0:
    sys.stdin.read()
    os._exit(0)
print("held", flush=True)
os.kill(os.getpid(), 9)
"""
    with program(data, "-c", PREFIX + forking) as process:
        assert line(process) == "held"
        process.wait(PATIENCE)
        await until(lambda: llama_processes(data) == [])
        assert text(await collect(model, SHORT))


# manage.py serve_model


@real
async def test_a_second_holder_waits_and_takes_over(data: Path) -> None:
    command = ["-u", "manage.py", "serve_model", "local:smollm2"]
    with program(data, *command) as first:
        assert line(first).startswith(f"Process {first.pid} serves local:smollm2 at http://127.0.0.1:")
        with program(data, *command) as second:
            assert line(second).startswith(f"Process {first.pid} serves local:smollm2")
            first.terminate()
            assert first.wait(PATIENCE) == 0
            assert line(second).startswith(f"Process {second.pid} serves local:smollm2")
            second.send_signal(signal.SIGINT)
            assert second.wait(PATIENCE) == 0
    assert llama_processes(data) == []


@real
async def test_only_a_model_of_this_machine_can_be_held(data: Path) -> None:
    with program(data, "manage.py", "serve_model", "openai:gpt") as process:
        assert process.wait(PATIENCE) == 1
