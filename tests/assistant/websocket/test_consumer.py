"""Chat over a WebSocket: its frames, what it shares with server-sent events, who may connect, and how it ends."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import User
from django.test import AsyncClient, Client

from assistant.answers.run import registry
from assistant.api.verifier import Verifier
from assistant.models import APIKey, Message
from assistant.routing import websocket_urlpatterns
from tests import streams
from tests.upstream import PATIENCE, Hold, Script, Upstream, broken, holding, reply, until

pytestmark = pytest.mark.usefixtures("db")

ORIGIN = "http://testserver"


class Socket(WebsocketCommunicator):
    """A client without a network between; `frames` is what it was sent and hasn't read."""

    def __init__(self, **headers: str) -> None:
        pairs = {"host": "testserver", **headers}
        super().__init__(
            URLRouter(websocket_urlpatterns),
            "/ws/agent/chat",
            headers=[(name.replace("_", "-").encode(), value.encode()) for name, value in pairs.items()],
        )
        self.scope["client"] = ["127.0.0.1", 4711]
        self.scope["extensions"] = {"websocket.http.response": {}}

    async def handshake(self) -> dict[str, Any]:
        """Return what the server answers: an acceptance, or the start of a response."""
        await self.send_input({"type": "websocket.connect"})
        answer: dict[str, Any] = await self.receive_output(PATIENCE)
        return answer

    async def say(self, **frame: Any) -> None:
        await self.send_to(text_data=json.dumps(frame))

    async def hear(self) -> dict[str, Any]:
        frame: dict[str, Any] = json.loads(await self.receive_from(PATIENCE))
        return frame

    async def ask(self, **frame: Any) -> dict[str, Any]:
        await self.say(**frame)
        return await self.hear()

    async def rest(self, after: int = 0) -> list[dict[str, Any]]:
        """Return the events of the one answer that this connection reads."""
        events, verifier = [], Verifier(after=after)
        while not verifier.ended:
            frame = await self.hear()
            assert frame["type"] == "event", frame
            verifier.see(frame["id"], frame["event"])
            events.append(frame["event"])
        return events

    async def closed(self) -> int:
        """Return the code with which the server closes."""
        output = await self.receive_output(PATIENCE)
        assert output["type"] == "websocket.close", output
        return int(output["code"])


@asynccontextmanager
async def connected(**headers: str) -> AsyncIterator[Socket]:
    socket = Socket(**headers)
    assert (await socket.handshake())["type"] == "websocket.accept"
    try:
        yield socket
    finally:
        await socket.disconnect()
    assert not socket.future.cancelled(), "the connection ended only because its server ended it"


@pytest.fixture
async def socket(upstream: Upstream) -> AsyncIterator[Socket]:
    """A connection, of the caller that development lets in."""
    async with connected() as it:
        yield it


async def over_http(client: AsyncClient, message_id: str, after: int = 0) -> list[dict[str, Any]]:
    return await streams.read(await client.get(f"/api/agent/messages/{message_id}/stream?after={after}"), after)


# Answers.


async def test_an_answer_is_what_server_sent_events_say(
    socket: Socket, upstream: Upstream, async_client: AsyncClient
) -> None:
    upstream.script = reply("Quantum", " computing", pause=0.03)
    await socket.say(type="chat", message="Hi", agent_id="default")
    events = await socket.rest()
    assert [event["type"] for event in events] == ["start", "token", "token", "end"]
    assert events == await over_http(async_client, events[0]["message_id"])
    assert upstream.requests[0].body["messages"][-1] == {"role": "user", "content": "Hi"}


async def test_a_frame_names_its_message_and_the_callers_mark(socket: Socket) -> None:
    frame = await socket.ask(type="chat", message="Hi", ref="é 1")
    message = await Message.objects.aget()
    assert frame == {
        "type": "event",
        "id": 1,
        "message_id": message.id,
        "ref": "é 1",
        "event": {
            "type": "start",
            "message_id": message.id,
            "conversation_id": message.conversation_id,
            "agent_id": "default",
        },
    }
    assert "ref" in await socket.hear()


async def test_answers_come_side_by_side(socket: Socket, upstream: Upstream) -> None:
    first, second = Hold(), Hold()
    upstream.scripts = [holding("A", hold=first, then=["a"]), holding("B", hold=second, then=["b"])]
    order: list[str] = []

    async def until_heard(ref: str, content: str) -> None:
        while order[-1:] != [f"{ref}{content}"]:
            frame = await socket.hear()
            order.append(f"{frame['ref']}{frame['event'].get('content', frame['event']['type'])}")

    await socket.say(type="chat", message="Hi", ref="1")
    await until_heard("1", "A")
    await socket.say(type="chat", message="Hi", ref="2")
    await until_heard("2", "B")
    second.release()
    await until_heard("2", "end")
    first.release()
    await until_heard("1", "end")
    assert order == ["1start", "1A", "2start", "2B", "2b", "2end", "1a", "1end"]


async def test_a_conversation_goes_on(socket: Socket, upstream: Upstream) -> None:
    await socket.say(type="chat", message="One")
    start, *_ = await socket.rest()
    await socket.say(type="chat", message="Two", conversation_id=start["conversation_id"])
    await socket.rest()
    asked = [message["content"] for message in upstream.requests[1].body["messages"]]
    assert asked[-3:] == ["One", "Hello", "Two"]


async def test_a_failing_model_ends_an_answer_with_one_error(socket: Socket, upstream: Upstream) -> None:
    upstream.script = broken("Hello")
    await socket.say(type="chat", message="Hi")
    *_, last = await socket.rest()
    assert (last["type"], last["code"], last["retryable"]) == ("error", 502, True)


async def test_a_key_replays_an_answer(socket: Socket, upstream: Upstream) -> None:
    asked = {"type": "chat", "message": "Hi", "idempotency_key": "k"}
    await socket.say(**asked)
    events = await socket.rest()
    await socket.say(**asked)
    assert await socket.rest() == events
    assert len(upstream.requests) == 1
    refused = await socket.ask(**asked | {"message": "Something else"})
    assert (refused["type"], refused["code"]) == ("refused", 422)


async def test_a_long_answer_gives_way_to_others(socket: Socket, upstream: Upstream, settings: Any) -> None:
    settings.STREAM_CHUNK_SIZE = 1
    upstream.script = reply("x" * 1000)
    await socket.say(type="chat", message="Hi")
    start, *_ = await socket.rest()
    assert (await socket.ask(type="resume", message_id=start["message_id"]))["id"] == 1
    assert socket.output_queue.qsize() < 100
    assert len(await socket.rest(after=1)) == 1001


async def test_what_a_handshake_says_of_one_call_holds_for_none(upstream: Upstream) -> None:
    own = {"idempotency_key": "k", "last_event_id": "2", "content_type": "text/plain", "content_length": "1"}
    async with connected(**own) as socket:
        for _ in range(2):
            await socket.say(type="chat", message="Hi")
            events = await socket.rest()
        assert await Message.objects.acount() == 2
        await socket.say(type="resume", message_id=events[0]["message_id"])
        assert await socket.rest() == events


# Coming back, stopping, leaving.


async def test_an_answer_that_http_began_goes_on_here_and_back(
    socket: Socket, upstream: Upstream, async_client: AsyncClient
) -> None:
    hold = Hold()
    upstream.script = holding("One", hold=hold, then=[" two"])
    whole = asyncio.create_task(
        streams.read(await async_client.post("/api/agent/chat?stream=true", {"message": "Hi"}, "application/json"))
    )
    message_id = registry.running()[0].message.id
    await socket.say(type="resume", message_id=message_id, after=1)
    frame = await socket.hear()
    assert (frame["id"], frame["event"]) == (2, {"type": "token", "content": "One"})
    back = asyncio.create_task(over_http(async_client, message_id, after=2))
    hold.release()
    assert await socket.rest(after=2) == await back == (await whole)[2:]


async def test_a_finished_answer_is_resumed_from_any_event(socket: Socket) -> None:
    await socket.say(type="chat", message="Hi")
    events = await socket.rest()
    for after in range(len(events)):
        await socket.say(type="resume", message_id=events[0]["message_id"], after=after)
        assert await socket.rest(after) == events[after:]


async def test_stop_ends_an_answer_and_twice_is_once(socket: Socket, upstream: Upstream) -> None:
    upstream.script = holding("One")
    start = await socket.ask(type="chat", message="Hi")
    assert (await socket.hear())["event"]["content"] == "One"
    stop = {"type": "stop", "message_id": start["message_id"], "ref": "s"}
    await socket.say(**stop)
    ends = [await socket.hear(), await socket.hear()]
    stopped = {"type": "stopped", "message_id": start["message_id"], "status": "cancelled", "ref": "s"}
    assert stopped in ends
    ends.remove(stopped)
    assert ends[0]["event"]["finish_reason"] == "cancelled"
    assert await socket.ask(**stop) == stopped
    await until(lambda: upstream.requests[0].closed_at, seconds=1)


async def test_stop_before_the_first_token_closes_the_models_call(socket: Socket, upstream: Upstream) -> None:
    upstream.script = Script([Hold()])
    start = await socket.ask(type="chat", message="Hi")
    await until(lambda: upstream.requests)
    await socket.say(type="stop", message_id=start["message_id"])
    await until(lambda: upstream.requests[0].closed_at, seconds=1)


async def test_an_answer_waits_for_its_reader_and_then_ends(upstream: Upstream, settings: Any) -> None:
    settings.STREAM_DISCONNECT_GRACE = 0.2
    upstream.script = holding("One")
    async with connected() as socket:
        await socket.ask(type="chat", message="Hi")
        await socket.hear()
    assert registry.running()
    await until(lambda: not registry.running())
    message = await Message.objects.aget()
    assert (message.status, message.text) == ("cancelled", "One")


async def test_an_answer_may_end_with_its_connection_or_outlive_it(upstream: Upstream, settings: Any) -> None:
    settings.STREAM_DISCONNECT_GRACE = 60
    hold = Hold()
    upstream.scripts = [holding("One"), holding("One", hold=hold, then=[" two"])]
    async with connected() as socket:
        start = await socket.ask(type="chat", message="Hi", on_disconnect="cancel")
    await until(lambda: not registry.running(), seconds=1)
    assert (await Message.objects.aget(pk=start["message_id"])).status == "cancelled"
    async with connected() as socket:
        start = await socket.ask(type="chat", message="Hi", on_disconnect="continue")
    hold.release()
    await until(lambda: not registry.running())
    assert (await Message.objects.aget(pk=start["message_id"])).text == "One two"


# What is refused.

DEEP = "[" * 65 + "]" * 65


# A frame's text, the status with which it is refused, and the field that is to blame.
NONSENSE: list[tuple[str, int, str | None]] = [
    ("", 400, None),
    ("nonsense", 400, None),
    ('{"type": "chat", "message": NaN}', 400, None),
    ('{"type": "chat", "message": "a", "message": "b"}', 400, None),
    ('{"type": "chat", "message": "\\ud800"}', 400, None),
    ('{"type": "chat", "message": "\\u0000"}', 400, None),
    ('{"type": "chat", "message": ' + DEEP + "}", 400, None),
    ("[" * 100_000, 400, None),
    ('["chat"]', 400, "type"),
    ('"chat"', 400, "type"),
    ("{}", 400, "type"),
    ('{"type": null}', 400, "type"),
    ('{"type": ["chat"]}', 400, "type"),
    ('{"type": "shout", "message": "Hi"}', 400, "type"),
    ('{"type": "chat"}', 400, "message"),
    ('{"type": "chat", "message": 5}', 400, "message"),
    ('{"type": "chat", "message": " "}', 400, "message"),
    ('{"type": "chat", "message": "Hi", "stream": true}', 400, "stream"),
    ('{"type": "chat", "message": "Hi", "mesage": ""}', 400, "mesage"),
    ('{"type": "chat", "message": "Hi", "ref": 1}', 400, "ref"),
    ('{"type": "chat", "message": "Hi", "on_disconnect": "hang"}', 400, "on_disconnect"),
    ('{"type": "chat", "message": "Hi", "on_disconnect": 1}', 400, "on_disconnect"),
    ('{"type": "chat", "message": "Hi", "idempotency_key": "\\n"}', 400, "Idempotency-Key"),
    ('{"type": "chat", "message": "Hi", "idempotency_key": "\\u20ac"}', 400, "Idempotency-Key"),
    ('{"type": "chat", "message": "Hi", "idempotency_key": 1}', 400, "idempotency_key"),
    ('{"type": "chat", "message": "Hi", "agent_id": "nobody"}', 404, None),
    ('{"type": "chat", "message": "Hi", "conversation_id": "conv_x"}', 404, None),
    ('{"type": "resume"}', 400, "message_id"),
    ('{"type": "resume", "message_id": "msg_x"}', 404, None),
    ('{"type": "resume", "message_id": "a/../b?c#d"}', 404, None),
    ('{"type": "resume", "message_id": "msg_x", "after": "1"}', 400, "after"),
    ('{"type": "resume", "message_id": "msg_x", "after": -1}', 400, "after"),
    ('{"type": "resume", "message_id": "msg_x", "after": true}', 400, "after"),
    ('{"type": "resume", "message_id": "msg_x", "after": 10000000000}', 400, "after"),
    ('{"type": "stop", "message_id": 5}', 400, "message_id"),
    ('{"type": "stop", "message_id": "msg_x"}', 404, None),
]


async def test_a_frame_that_makes_no_sense_is_refused_and_changes_nothing(socket: Socket, upstream: Upstream) -> None:
    for text, code, field in NONSENSE:
        await socket.send_input({"type": "websocket.receive", "text": text})
        refused = await socket.hear()
        assert (refused["type"], refused["code"]) == ("refused", code), text
        assert refused["error"].endswith("."), text
        assert list(refused.get("details", [])) == [field] * bool(field), text
    assert not await Message.objects.aexists()
    assert upstream.requests == []
    assert (await socket.ask(type="chat", message="Hi"))["event"]["type"] == "start"


async def test_nothing_is_left_of_an_answer_that_has_ended(socket: Socket) -> None:
    await socket.say(type="chat", message="Hi")
    events = await socket.rest()
    asked = {"type": "resume", "message_id": events[0]["message_id"], "after": len(events), "ref": "r"}
    refused = await socket.ask(**asked)
    assert (refused["code"], list(refused["details"]), refused["ref"]) == (400, ["after"], "r")


async def test_a_refusal_has_the_callers_mark(socket: Socket) -> None:
    assert (await socket.ask(type="shout", ref="r"))["ref"] == "r"
    assert (await socket.ask(type="stop", message_id="msg_x", ref="r"))["ref"] == "r"


async def test_streams_can_be_switched_off(socket: Socket, settings: Any) -> None:
    settings.STREAM_ENABLED = False
    refused = await socket.ask(type="chat", message="Hi")
    assert refused["code"] == 403
    assert "STREAM_ENABLED=false" in refused["error"]


async def test_a_connection_reads_an_answer_once(socket: Socket, upstream: Upstream) -> None:
    upstream.script = holding()
    asked = {"type": "chat", "message": "Hi", "idempotency_key": "k"}
    start = await socket.ask(**asked)
    for again in (asked, {"type": "resume", "message_id": start["message_id"]}):
        refused = await socket.ask(**again)
        assert (refused["code"], refused["error"]) == (409, "This connection reads this answer already.")


async def test_a_connection_reads_so_many_answers_and_no_more(
    socket: Socket, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assistant.websocket.protocol.MAX_ANSWERS", 2)
    upstream.script = holding()
    first, _ = [await socket.ask(type="chat", message="Hi") for _ in range(2)]
    for frame in ({"type": "chat", "message": "Hi"}, {"type": "resume", "message_id": "msg_x"}):
        refused = await socket.ask(**frame)
        assert (refused["type"], refused["code"], refused["retry_after"]) == ("refused", 429, 1)
    await socket.say(type="stop", message_id=first["message_id"])
    assert {(await socket.hear())["type"] for _ in range(2)} == {"event", "stopped"}
    assert (await socket.ask(type="chat", message="Hi"))["event"]["type"] == "start"


async def test_the_views_throttles_hold(socket: Socket, monkeypatch: pytest.MonkeyPatch) -> None:
    from rest_framework.throttling import AnonRateThrottle

    class OnceADay(AnonRateThrottle):
        rate = "1/day"

    monkeypatch.setattr("assistant.api.chat.ChatView.throttle_classes", [OnceADay])
    assert (await socket.ask(type="chat", message="Hi"))["type"] == "event"
    await socket.rest(after=1)
    refused = await socket.ask(type="chat", message="Hi")
    assert (refused["code"], refused["retry_after"] > 80_000) == (429, True)


# Who may connect, and what they see.


@pytest.fixture
def production(settings: Any) -> None:
    settings.DEBUG = False
    settings.ALLOWED_HOSTS = ["testserver"]


async def test_nobody_connects_without_credentials_in_production(production: None, upstream: Upstream) -> None:
    socket = Socket()
    start = await socket.handshake()
    body = await socket.receive_output(PATIENCE)
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 401)
    assert dict(start["headers"])[b"WWW-Authenticate"] == b"Bearer"
    assert json.loads(body["body"])["code"] == 401


async def test_a_server_that_cannot_answer_a_handshake_says_403(production: None, upstream: Upstream) -> None:
    socket = Socket()
    del socket.scope["extensions"]
    assert (await socket.handshake())["type"] == "websocket.close"


async def test_a_key_connects_until_it_is_revoked(production: None, upstream: Upstream, as_ada: dict[str, str]) -> None:
    async with connected(**as_ada) as socket:
        await socket.say(type="chat", message="Hi")
        await socket.rest()
        assert await Message.objects.filter(conversation__owner__username="ada").acount() == 1
        await sync_to_async((await APIKey.objects.aget()).revoke)()
        assert (await socket.ask(type="chat", message="Hi"))["code"] == 401


async def session_of(user: User) -> tuple[Client, str]:
    """Return a browser that has logged in, and its cookie."""
    client = Client()
    await sync_to_async(client.force_login)(user)
    return client, f"sessionid={client.cookies['sessionid'].value}"


async def test_a_session_connects_until_it_ends(production: None, upstream: Upstream, ada: User) -> None:
    client, cookie = await session_of(ada)
    async with connected(cookie=cookie, origin=ORIGIN) as socket:
        await socket.say(type="chat", message="Hi")
        await socket.rest()
        await sync_to_async(client.logout)()
        assert (await socket.ask(type="chat", message="Hi"))["code"] == 401


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (ORIGIN, None),
        ("http://trusted.example", None),
        ("http://testserver:8000", 403),
        ("https://testserver", 403),
        ("http://testserver.evil.example", 403),
        ("http://evil.example", 403),
        ("null", 403),
        ("", 403),
        ("http://[", 403),
    ],
)
async def test_a_page_of_another_site_cannot_connect(
    production: None, upstream: Upstream, ada: User, settings: Any, origin: str, status: int | None
) -> None:
    settings.CSRF_TRUSTED_ORIGINS = ["http://trusted.example"]
    _, cookie = await session_of(ada)
    socket = Socket(cookie=cookie, origin=origin)
    assert (await socket.handshake()).get("status") == status
    await socket.disconnect() if status is None else await socket.wait()


async def test_what_is_somebody_elses_is_not_there(
    production: None, upstream: Upstream, as_ada: dict[str, str], as_bob: dict[str, str]
) -> None:
    upstream.script = holding("Secret")
    async with connected(**as_ada) as mine, connected(**as_bob) as theirs:
        message_id = (await mine.ask(type="chat", message="Hi"))["message_id"]
        for kind in ("resume", "stop"):
            refused = await theirs.ask(type=kind, message_id=message_id)
            assert (refused["type"], refused["code"]) == ("refused", 404)
        assert registry.get(message_id)


# How it ends.


async def test_bytes_are_not_taken(socket: Socket) -> None:
    await socket.send_to(bytes_data=b'{"type": "chat", "message": "Hi"}')
    assert await socket.closed() == 1003


async def test_a_frame_over_the_limit_is_not_taken(socket: Socket, settings: Any) -> None:
    settings.BODY_MAX_BYTES = 100
    await socket.send_to(text_data="é" * 51)
    assert await socket.closed() == 1009


async def test_what_goes_wrong_is_logged_and_not_told(socket: Socket, settings: Any, caplog: Any) -> None:
    settings.BODY_MAX_BYTES = "nonsense"
    await socket.say(type="chat", message="Hi")
    assert await socket.closed() == 1011
    assert "socket=failed" in caplog.text
