"""What a client, an application or an operator may do to a stream, and what the server makes of it."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.processes import PATIENCE, Served
from tests.wire.server.serving import SERVERS, connected, memory, own, until

pytestmark = pytest.mark.server

ENDINGS = ["raises", "is-cancelled", "returns"]

APPLICATION = """
floods = {}

async def watch(receive, flood):
    while (await receive())["type"] != "http.disconnect":
        pass
    flood["left"] = True

async def stream(receive, send, name):
    flood = floods[name] = {"sent": 0, "left": False, "ended": False}
    watching = asyncio.create_task(watch(receive, flood))
    await start(send)
    while not flood["left"] and flood["sent"] < 200_000_000:
        await part(send, b"x" * 10_000)
        flood["sent"] += 10_000

async def deaf(send, name):
    flood = floods[name] = {"ended": False}
    await start(send)
    try:
        while True:
            await part(send, b"x")
    finally:
        flood["ended"] = True

async def echo(scope, receive, send):
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message["body"]), message["more_body"]
    await answer(send, f"{scope['root_path']}{scope['path']} {size}")

async def fail(send, ending, moment):
    if moment != "before":
        await start(send)
    if moment == "during":
        await part(send, b"first")
    if ending == "raises":
        raise KeyError("oops")
    if ending == "is-cancelled":
        asyncio.current_task().cancel()
        await asyncio.sleep(1)

async def application(scope, receive, send):
    if scope["type"] != "http":
        raise ValueError(scope["type"])
    match scope["path"].split("/")[1:]:
        case ["flood", name]:
            await stream(receive, send, name)
        case ["deaf", name]:
            await deaf(send, name)
        case ["state", name]:
            await answer(send, json.dumps(floods.get(name)))
        case ["fail", ending, moment]:
            await fail(send, ending, moment)
        case ["large"]:
            await answer(send, "x" * 20_000_000)
        case _:
            await echo(scope, receive, send)
"""


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with own(tmp_path_factory.mktemp("serve"), APPLICATION, WRITE_TIMEOUT=1, READ_TIMEOUT=1) as it:
        yield it


@pytest.fixture(scope="module", params=SERVERS)
def either(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """This project's server, and uvicorn."""
    with SERVERS[request.param](tmp_path_factory.mktemp("either"), APPLICATION) as it:
        yield it


def state(it: Served, name: str) -> Any:
    return requests.get(f"{it.url}/state/{name}", timeout=PATIENCE).json()


def settled(it: Served, name: str) -> int:
    """Return how much was sent once nothing more is."""
    last = [-1, 0]

    def stands() -> bool:
        last.append(state(it, name)["sent"])
        time.sleep(0.1)
        return last[-1] == last[-2] == last[-3] > 0

    until(stands)
    return last[-1]


def test_a_stalled_reader_costs_little(either: Served) -> None:
    with connected(either, receive_buffer=65_536) as peer:
        requests.get(either.url, timeout=PATIENCE)
        before = memory(either)
        peer.ask("/flood/stalled")
        peer.read_until(b"x")
        assert settled(either, "stalled") < 20_000_000  # of 200: the rest waits in the application
        assert memory(either) - before < 2_000


def test_a_reader_that_takes_nothing_is_dropped(serve: Served) -> None:
    with connected(serve, receive_buffer=65_536) as peer:
        peer.ask("/flood/dropped")
        peer.read_until(b"x")
        until(lambda: state(serve, "dropped")["left"])
        rest, was_reset = peer.read_rest()
        assert was_reset or not rest.endswith(b"0\r\n\r\n")
        until(lambda: logged(serve, "/flood/dropped").endswith("outcome=stalled"))


def test_a_slow_reader_is_not_dropped(serve: Served) -> None:
    with connected(serve, receive_buffer=65_536) as peer:
        peer.ask("/flood/slow")
        for _ in range(20):
            assert peer.socket.recv(200_000)
            time.sleep(0.1)
        assert not state(serve, "slow")["left"]


def test_a_whole_answer_that_nobody_takes_is_dropped_too(serve: Served) -> None:
    with connected(serve, receive_buffer=65_536) as peer:
        peer.ask("/large")
        peer.read_until(b"x")
        until(lambda: not established(serve, peer.socket.getsockname()[1]))


def established(it: Served, client_port: int) -> bool:
    """Tell whether the server still holds a connection; Linux tells in /proc."""
    local = f":{int(it.url.rsplit(':', 1)[1]):04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, here, there, how, *_ = line.split()
        if here.endswith(local) and there.endswith(f":{client_port:04X}") and how == "01":
            return True
    return False


def logged(it: Served, path: str) -> str:
    """Return the line that the log has of a request."""
    return next((line for line in it.log().splitlines() if f" path={path} " in line), "")


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_application_that_ends_too_early_never_looks_whole(either: Served, ending: str) -> None:
    requests.get(either.url, timeout=PATIENCE)
    for _ in range(2):  # the second shows that the first has ended nothing but itself
        with connected(either) as peer:
            peer.ask(f"/fail/{ending}/during")
            began = time.monotonic()
            seen = peer.read_until(b"first")
            rest, _ = peer.read_rest()
            assert time.monotonic() - began < 5
            assert b"0\r\n\r\n" not in seen + rest
    assert requests.get(either.url, timeout=PATIENCE).text == "/ 0"


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_http_1_0_client_sees_a_reset(serve: Served, ending: str) -> None:
    with connected(serve) as peer:
        peer.send(f"GET /fail/{ending}/during HTTP/1.0\r\n\r\n".encode())
        assert peer.read_rest()[1]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("moment", ["before", "after-the-start"])
def test_before_anything_was_sent_a_failure_is_a_500(serve: Served, ending: str, moment: str) -> None:
    began = time.monotonic()
    response = requests.get(f"{serve.url}/fail/{ending}/{moment}", timeout=PATIENCE)
    assert time.monotonic() - began < 5
    assert response.status_code == 500
    assert response.json() == {"error": "Something went wrong in the service.", "code": 500}
    assert response.headers["X-Request-ID"]


def test_a_client_that_leaves_is_told_to_the_application_and_logged(serve: Served) -> None:
    with connected(serve) as peer:
        peer.ask("/flood/left")
        peer.read_until(b"x")
    until(lambda: state(serve, "left")["left"])
    until(lambda: logged(serve, "/flood/left").endswith("outcome=left"))


def test_an_application_that_failed_is_logged(serve: Served) -> None:
    with connected(serve) as peer:
        peer.ask("/fail/raises/during?logged")
        peer.read_rest()
    until(lambda: logged(serve, "/fail/raises/during").endswith("outcome=failed"))


def test_an_application_that_goes_on_for_a_client_that_left_is_ended(serve: Served) -> None:
    with connected(serve) as peer:
        peer.ask("/deaf/one")
        peer.read_until(b"x")
    until(lambda: state(serve, "one")["ended"])


# What comes in.

LIMIT = 2 * 1024 * 1024
TOO_LARGE = {"error": "The body is too large.", "code": 413}


def body_of(answer: bytes) -> Any:
    return json.loads(answer.partition(b"\r\n\r\n")[2])


def spool_files(it: Served) -> list[str]:
    return [name for link in Path(f"/proc/{it.process.pid}/fd").iterdir() if "/tmp" in (name := str(link.readlink()))]  # noqa: S108


def push(peer: Any, piece: bytes, total: int = 300_000_000) -> int:
    """Send as much as is taken; return how much that was."""
    sent = 0
    try:
        while sent < total:
            sent += peer.socket.send(piece)
    except (ConnectionError, TimeoutError):
        pass
    return sent


@pytest.mark.parametrize("size", [0, 1, LIMIT])
def test_a_body_up_to_the_limit_reaches_the_application(serve: Served, size: int) -> None:
    assert requests.post(serve.url, data=b"x" * size, timeout=PATIENCE).text == f"/ {size}"
    assert requests.post(serve.url, data=iter([b"x" * size]), timeout=PATIENCE).text == f"/ {size}"


@pytest.mark.parametrize("expect", [{}, {"Expect": "100-continue"}])
def test_a_body_that_says_it_is_too_large_is_refused_before_it_comes(serve: Served, expect: dict[str, str]) -> None:
    with connected(serve) as peer:
        began = time.monotonic()
        peer.ask(method="POST", Content_Length="300000000", **expect)
        seen, _ = peer.read_rest()
        assert time.monotonic() - began < 5
    assert seen.startswith(b"HTTP/1.1 413 ")
    assert b"Connection: close" in seen
    assert body_of(seen) == TOO_LARGE


def test_little_is_taken_of_a_body_that_is_too_large(serve: Served) -> None:
    before = memory(serve)
    with connected(serve) as peer:
        peer.ask(method="POST", Content_Length="300000000")
        began = time.monotonic()
        assert push(peer, b"x" * 65_536) < 20_000_000
        assert time.monotonic() - began < 10
        assert memory(serve) - before < 2_000


def test_a_chunked_body_is_refused_as_soon_as_it_is_too_large(serve: Served) -> None:
    before = len(spool_files(serve))
    with connected(serve) as peer:
        peer.ask(method="POST", Transfer_Encoding="chunked")
        piece = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
        for _ in range(LIMIT // 65_536):
            peer.send(piece)
        assert len(spool_files(serve)) <= before + 1
        peer.send(b"1\r\nx\r\n0\r\n\r\n")
        seen, _ = peer.read_rest()
        assert seen.startswith(b"HTTP/1.1 413 ")
        assert body_of(seen) == TOO_LARGE
    with connected(serve) as peer:
        peer.ask(method="POST", Transfer_Encoding="chunked")
        assert push(peer, piece) < 20_000_000
    assert requests.get(serve.url, timeout=PATIENCE).text == "/ 0"


def test_nothing_is_spooled_to_disk_of_what_is_refused(serve: Served) -> None:
    before = len(spool_files(serve))
    with connected(serve) as peer:
        peer.ask(method="POST", Content_Length="300000000")
        push(peer, b"x" * 65_536, total=1_000_000)
        assert len(spool_files(serve)) <= before


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5",
        b"GET / HT",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nabc",
    ],
)
def test_a_request_that_stops_coming_is_given_up(serve: Served, head: bytes) -> None:
    with connected(serve) as peer:
        peer.send(head)
        seen, _ = peer.read_rest()
        assert seen.startswith(b"HTTP/1.1 408 ") or not seen
        if b"\r\n" in head:
            assert body_of(seen)["code"] == 408


def test_an_idle_connection_is_closed(serve: Served) -> None:
    with connected(serve) as peer:
        peer.ask()
        peer.read_until(b"/ 0")
        assert peer.read_rest() == (b"", False)


@pytest.mark.parametrize("header", ["Daphne-Root-Path", "daphne-root-path"])
@pytest.mark.parametrize("upgrade", [{}, {"Upgrade": "websocket", "Connection": "Upgrade"}])
def test_no_client_moves_the_root_of_the_paths(serve: Served, header: str, upgrade: dict[str, str]) -> None:
    response = requests.get(f"{serve.url}/admin", headers={header: "/admin", **upgrade}, timeout=PATIENCE)
    assert response.status_code == 400
    assert response.json() == {"error": "The request can't be understood.", "code": 400}


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 501 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 17_000 + b"\r\n\r\n",
        b"GET /" + b"y" * 17_000 + b" HTTP/1.1\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_a_head_that_is_too_large_or_makes_no_sense_is_a_400(serve: Served, head: bytes) -> None:
    with connected(serve) as peer:
        peer.send(head)
        seen, _ = peer.read_rest()
    assert seen.count(b"HTTP/1.1") == 1
    assert seen.startswith(b"HTTP/1.1 400 ")
    assert body_of(seen)["code"] == 400
    until(lambda: "status=400" in serve.log() and "outcome=refused" in serve.log())
