"""The server as a real process, with applications of a few lines."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from textwrap import dedent

import pytest
import requests

from tests.processes import PATIENCE, ROOT, Served, running, stop

pytestmark = pytest.mark.server

MAIN = """
import asyncio, logging, sys, time
import daphne.server
from wire.server.server import Server

logging.basicConfig(level="INFO", format="%(name)s %(message)s")

async def answer(send, text="hello", status=200):
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": text.encode()})

APPLICATION

Server(application, host="127.0.0.1", port=int(sys.argv[1]), announce=lambda url: print("ready on", url)).run()
print("stopped")
"""

HELLO = """
async def application(scope, receive, send):
    if scope["type"] != "http":
        raise ValueError(scope["type"])
    await answer(send)
"""

LIFESPAN = """
async def application(scope, receive, send):
    if scope["type"] == "http":
        print("request")
        return await answer(send)
    print((await receive())["type"])
    STARTUP
    await send({"type": "lifespan.startup.complete"})
    print((await receive())["type"])
    SHUTDOWN
    await send({"type": "lifespan.shutdown.complete"})
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return tmp_path / "served.py"


@contextmanager
def served(script: Path, application: str, port: int = 0) -> Iterator[Served]:
    write(script, application)
    with running(command(script, port), r"ready on http://localhost:(\d+)", PYTHONPATH=str(ROOT)) as it:
        yield it


def write(script: Path, application: str) -> None:
    script.write_text(MAIN.replace("APPLICATION", dedent(application)))


def command(script: Path, port: int = 0) -> list[str]:
    return [sys.executable, str(script), str(port)]


def start(script: Path, application: str) -> subprocess.Popen[str]:
    """Start a server that isn't expected to become ready."""
    write(script, application)
    return subprocess.Popen(
        command(script), cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={"PYTHONPATH": "."}
    )


def ended(process: subprocess.Popen[bytes]) -> int:
    return process.wait(PATIENCE)


def port_of(it: Served) -> int:
    return int(it.url.rsplit(":", 1)[1])


def test_a_free_port_is_taken_and_told(script: Path) -> None:
    with served(script, HELLO) as it:
        assert requests.get(it.url, timeout=PATIENCE).text == "hello"


def test_no_server_header_is_sent(script: Path) -> None:
    with served(script, HELLO) as it:
        assert "Server" not in requests.get(it.url, timeout=PATIENCE).headers


def test_a_status_is_sent_with_its_phrase(script: Path) -> None:
    with served(script, HELLO.replace("answer(send)", "answer(send, status=int(scope['path'][1:]))")) as it:
        for status, phrase in ((200, "OK"), (422, "Unprocessable"), (429, "Too Many Requests")):
            assert requests.get(f"{it.url}/{status}", timeout=PATIENCE).reason.startswith(phrase)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly_and_frees_the_port(script: Path, number: int) -> None:
    with served(script, HELLO) as it:
        requests.get(it.url, timeout=PATIENCE)
        it.process.send_signal(number)
        assert ended(it.process) == 0
        assert it.log().endswith("stopped\n")
        assert "Traceback" not in it.log()
        with socket.create_server(("127.0.0.1", port_of(it))):
            pass


def test_it_stops_while_idle_and_unfinished_connections_are_open(script: Path) -> None:
    with served(script, HELLO) as it, socket.socket() as silent, socket.socket() as half, requests.Session() as idle:
        idle.get(it.url, timeout=PATIENCE)
        silent.connect(("127.0.0.1", port_of(it)))
        half.connect(("127.0.0.1", port_of(it)))
        half.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf")
        requests.get(it.url, timeout=PATIENCE)
        it.process.terminate()
        assert ended(it.process) == 0
        assert "Traceback" not in it.log()


def test_a_signal_that_comes_twice_at_once_counts_once(script: Path) -> None:
    with served(script, LIFESPAN.replace("STARTUP", "").replace("SHUTDOWN", "await asyncio.sleep(0.5)")) as it:
        it.process.terminate()
        time.sleep(0.1)  # as make's own copy of the terminal's signal does
        it.process.terminate()
        assert ended(it.process) == 0


def test_a_second_signal_ends_it_at_once(script: Path) -> None:
    with served(script, LIFESPAN.replace("STARTUP", "").replace("SHUTDOWN", "await asyncio.sleep(60)")) as it:
        it.process.send_signal(signal.SIGINT)
        time.sleep(1.2)  # longer than what counts as the same signal
        it.process.send_signal(signal.SIGINT)
        assert ended(it.process) == 128 + signal.SIGINT


def test_a_shutdown_that_hangs_is_given_up(script: Path) -> None:
    with served(script, LIFESPAN.replace("STARTUP", "").replace("SHUTDOWN", "await asyncio.sleep(60)")) as it:
        it.process.terminate()
        assert ended(it.process) == 0
        assert "lifespan=shutdown state=abandoned" in it.log()


def test_a_request_that_hangs_is_given_up(script: Path) -> None:
    application = HELLO.replace("await answer(send)", 'print("hanging"); await asyncio.sleep(60)')
    with served(script, application) as it:
        with suppress(requests.Timeout):
            requests.get(it.url, timeout=0.2)
        it.process.terminate()
        assert ended(it.process) == 0


def test_a_thread_that_hangs_is_given_up(script: Path) -> None:
    application = HELLO.replace("await answer(send)", "await asyncio.to_thread(time.sleep, 120)")
    with served(script, application) as it:
        with suppress(requests.Timeout):
            requests.get(it.url, timeout=0.2)
        it.process.terminate()
        assert ended(it.process) == 0


def test_startup_comes_before_the_port_opens_and_shutdown_after_it_closed(script: Path) -> None:
    closed = "print('closed', __import__('socket').socket().connect_ex(('127.0.0.1', PORT)) != 0)"
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    hook = closed.replace("PORT", str(port))
    with served(script, LIFESPAN.replace("STARTUP", hook).replace("SHUTDOWN", hook), port) as it:
        requests.get(it.url, timeout=PATIENCE)
        it.process.terminate()
        assert ended(it.process) == 0
        lines = [line for line in it.log().splitlines() if not line.startswith("wire.access")]
    assert lines == [
        "lifespan.startup",
        "closed True",
        f"ready on http://localhost:{port}",
        "request",
        "lifespan.shutdown",
        "closed True",
        "stopped",
    ]


def test_a_signal_during_startup_ends_it_cleanly(script: Path) -> None:
    process = start(script, LIFESPAN.replace("STARTUP", "print('starting', flush=True); await asyncio.sleep(60)"))
    try:
        assert process.stdout
        assert any("starting" in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
        assert rest == "stopped\n"
    finally:
        process.kill()
        process.wait()


def test_a_startup_that_fails_keeps_the_port_shut(script: Path) -> None:
    failure = 'return await send({"type": "lifespan.startup.failed", "message": "No weights."})'
    process = start(script, LIFESPAN.replace("STARTUP", failure))
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert output.endswith("StartupFailed: No weights.\n")
    assert "ready on http" not in output


def test_a_port_in_use_is_told_before_the_application_starts(script: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        write(script, LIFESPAN)
        result = subprocess.run(
            command(script, taken.getsockname()[1]),
            cwd=ROOT,
            env={"PYTHONPATH": "."},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    assert result.returncode == 1
    assert "CannotListen: Can't listen on 127.0.0.1 port" in result.stderr
    assert "lifespan" not in result.stdout


def test_a_request_is_logged_without_its_query(script: Path) -> None:
    with served(script, HELLO) as it:
        requests.get(f"{it.url}/a/path?key=secret", timeout=PATIENCE)
        stop(it.process)
        assert "wire.access method=GET path=/a/path status=200 duration=0.0" in it.log()
        assert "secret" not in it.log()


def test_a_path_cannot_forge_a_log_line(script: Path) -> None:
    with served(script, HELLO) as it, socket.create_connection(("127.0.0.1", port_of(it))) as raw:
        raw.sendall(b"GET /\x1b[2Jx\tmethod=FORGED HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        while raw.recv(4096):
            pass
        stop(it.process)
        assert "\x1b" not in it.log()
        assert "\t" not in it.log()


def test_an_application_that_raises_is_logged_and_answered(script: Path) -> None:
    with served(script, HELLO.replace("await answer(send)", "raise KeyError('oops')")) as it:
        assert requests.get(it.url, timeout=PATIENCE).status_code == 500
        assert "KeyError: 'oops'" in it.log()
