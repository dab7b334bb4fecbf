"""Answers that other processes follow through Redis. A second bus stands for the other process's."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import AsyncClient

from assistant.cluster import followed, leases, sharing
from assistant.cluster import redis as module
from assistant.cluster.processes import this_process
from assistant.cluster.redis import RedisBus
from assistant.cluster.sealing import seal
from assistant.cluster.streams import KEPT_SECONDS, events_key
from assistant.errors import Unreachable
from assistant.event_log import EventLog, follow
from assistant.events import Start, encode
from assistant.models import Conversation, Message
from assistant.models.conversations import INTERRUPTED
from assistant.models.pool import STORE_POOL
from tests.processes import DEVELOPMENT, manage, stop
from tests.redis_server import RedisServer, redis_server
from tests.upstream import PATIENCE, until
from wire.api.sse import NumberedEvent

pytestmark = pytest.mark.usefixtures("db")


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def shared(server: RedisServer, settings: Any) -> RedisServer:
    settings.REDIS_URL = server.url
    return server


class Writer:
    """A running answer as the bus needs it."""

    def __init__(self, message: Message) -> None:
        self.message = message
        self.log = EventLog()
        self.heard: list[str] = []

    def stop(self) -> None:
        self.heard.append("stop")

    def interrupt(self) -> None:
        self.heard.append("interrupt")

    def attend(self, process: str) -> None:
        self.heard.append("attend")

    def leave(self, process: str) -> None:
        self.heard.append("leave")


def running() -> Message:
    conversation = Conversation.objects.create(agent_id="default")
    process = this_process()
    return Message.objects.create(conversation=conversation, agent_id="default", prompt="Hi", process=process)


@pytest.fixture
def message() -> Message:
    return running()


@pytest.fixture
async def hasty(shared: RedisServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RedisBus]:
    """A bus that looks after its readers all the time."""
    monkeypatch.setattr(module, "ATTEND_SECONDS", 0.02)
    async with RedisBus(shared.url) as bus:
        yield bus


@pytest.fixture
async def here(shared: RedisServer) -> AsyncIterator[RedisBus]:
    async with RedisBus(shared.url) as bus:
        yield bus


@pytest.fixture
async def there(shared: RedisServer) -> AsyncIterator[RedisBus]:
    async with RedisBus(shared.url) as bus:
        yield bus


def heard(bus: RedisBus, message: Message) -> list[str]:
    """Return what the readers of a bus have been given so far."""
    followed = bus.followed.live().get(message.pk)
    return followed.log.payloads if followed else []


async def read(bus: RedisBus, message: Message, cursor: int = 0) -> list[NumberedEvent | None]:
    async with bus.following(message) as log, asyncio.timeout(PATIENCE):
        return [event async for event in follow(log, cursor, patience=PATIENCE)]


def start(message: Message) -> str:
    return encode(Start(message.pk, message.conversation_id, message.agent_id))


def token(text: str) -> str:
    return json.dumps({"type": "token", "content": text})


async def test_a_reader_elsewhere_hears_what_was_and_what_comes(
    here: RedisBus, there: RedisBus, message: Message
) -> None:
    writer = Writer(message)
    publishing = asyncio.create_task(here.publish(writer))
    writer.log.append("1")
    early = asyncio.create_task(read(there, message))
    for number in range(2, 50):
        writer.log.append(str(number))
        await asyncio.sleep(0)
    late = asyncio.create_task(read(there, message, cursor=30))
    await asyncio.sleep(0)
    writer.log.close("50")
    whole = [(number, str(number)) for number in range(1, 51)]
    assert await early == whole
    assert await late == whole[30:]
    await publishing


async def test_a_stream_is_kept_for_a_while_after_its_end(
    here: RedisBus, message: Message, shared: RedisServer
) -> None:
    await published(here, message, "1", "2")
    with shared.client() as client:
        assert client.xrange(events_key(message.pk)) == [("1-0", {"event": "1"}), ("2-0", {"last": "2"})]
        assert 0 < client.ttl(events_key(message.pk)) <= KEPT_SECONDS


async def published(bus: RedisBus, message: Message, *payloads: str) -> None:
    """Write a whole stream."""
    writer = Writer(message)
    for payload in payloads[:-1]:
        writer.log.append(payload)
    writer.log.close(payloads[-1])
    await bus.publish(writer)


async def test_a_stream_that_vanished_is_written_again(
    here: RedisBus, there: RedisBus, message: Message, shared: RedisServer
) -> None:
    writer = Writer(message)
    publishing = asyncio.create_task(here.publish(writer))
    reading = asyncio.create_task(read(there, message))
    with shared.client() as client:
        writer.log.append("1")
        writer.log.append("2")
        await until(lambda: client.xlen(events_key(message.pk)) == 2)
        client.flushall()
        writer.log.append("3")
        await until(lambda: client.xlen(events_key(message.pk)) == 3)
    writer.log.close("4")
    await publishing
    assert await reading == await read(there, message) == [(1, "1"), (2, "2"), (3, "3"), (4, "4")]


async def test_a_redis_that_was_gone_is_caught_up_with(
    message: Message, settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.02)
    with redis_server() as server:
        async with RedisBus(server.url) as here, RedisBus(server.url) as there:
            writer = Writer(message)
            publishing = asyncio.create_task(here.publish(writer))
            reading = asyncio.create_task(read(there, message))
            writer.log.append("1")
            await until(lambda: heard(there, message))
            stop(server.process)
            writer.log.append("2")
            await until(lambda: "redis=writing state=failing" in caplog.text)
            with pytest.raises(Unreachable):
                await there.check()
            server.start()
            await until(lambda: "redis=writing state=working" in caplog.text)
            writer.log.close("3")
            await publishing
            assert await reading == [(1, "1"), (2, "2"), (3, "3")]
    assert len([each for each in caplog.messages if each.startswith("redis=writing state=failing")]) == 1


async def test_what_redis_never_heard_comes_from_the_row(hasty: RedisBus, message: Message) -> None:
    async with hasty.following(message) as log, asyncio.timeout(PATIENCE):
        events = follow(log, patience=5)
        writer = Writer(message)
        first = json.dumps({"type": "start", **{"message_id": message.pk}})
        writer.log.append(first)
        publishing = asyncio.create_task(hasty.publish(writer))
        assert await anext(events) == (1, first)
        publishing.cancel()  # the process ended before it could say more
        await Message.objects.aupdate(status="completed", finish_reason="stop", text="One two", events=[3, 4])
        stored = list((await Message.objects.aget()).events_after(1))
        assert len(stored) == 3
        assert [event async for event in events] == stored


async def test_a_reader_does_not_wait_for_ever(
    hasty: RedisBus, message: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followed, "longest_answer", lambda: 0.05)
    [(number, payload)] = await read(hasty, message)
    assert number == 1
    assert (json.loads(payload)["type"], json.loads(payload)["code"]) == ("error", 503)


async def test_the_writer_hears_who_reads_elsewhere(here: RedisBus, there: RedisBus, message: Message) -> None:
    writer = Writer(message)
    publishing = asyncio.create_task(here.publish(writer))
    async with there.following(message), there.following(message):
        await until(lambda: writer.heard)
    await until(lambda: writer.heard[-1] == "leave")
    assert writer.heard == ["attend", "leave"]
    publishing.cancel()


async def test_what_a_dead_process_wrote_is_stored_and_ended(here: RedisBus, there: RedisBus, message: Message) -> None:
    call = {"type": "tool_call", "tool_call_id": "a", "name": "add", "parameters": {}}
    writer = Writer(message)
    publishing = asyncio.create_task(here.publish(writer))
    for payload in (start(message), token("One"), json.dumps(call), token(" two")):
        writer.log.append(payload)
    reading = asyncio.create_task(read(there, message))
    await until(lambda: heard(there, message))
    publishing.cancel()
    await Message.objects.aupdate(lease_expires_at="2000-01-01T00:00Z")
    assert await STORE_POOL.run(leases.sweep) == 1
    ended = await Message.objects.aget()
    assert (ended.status, ended.text, ended.events) == ("interrupted", "One two", [3, json.dumps(call), 4])
    assert await reading == list(ended.events_after(0))
    assert json.loads(list(ended.payloads())[-1])["type"] == "error"


async def test_a_dead_process_that_wrote_nothing_leaves_a_whole_stream(there: RedisBus, message: Message) -> None:
    reading = asyncio.create_task(read(there, message))
    await Message.objects.aupdate(lease_expires_at="2000-01-01T00:00Z")
    await STORE_POOL.run(leases.sweep)
    assert await reading == list((await Message.objects.aget()).events_after(0))
    assert len(await reading) == 2


async def test_a_process_that_was_thought_dead_can_write_no_more(
    here: RedisBus, there: RedisBus, message: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.02)
    writer = Writer(message)
    publishing = asyncio.create_task(here.publish(writer))
    writer.log.append(start(message))
    reading = asyncio.create_task(read(there, message))
    await until(lambda: heard(there, message))
    sealed = await STORE_POOL.run(lambda: seal(message))
    writer.log.append(token("too late"))
    await publishing
    assert writer.heard[-1] == "interrupt"
    assert [payload for _, payload in await reading] == sealed == [start(message), encode(INTERRUPTED)]  # type: ignore[misc]


async def test_an_answer_nobody_can_reach_is_refused_before_its_stream(
    async_client: AsyncClient, message: Message, settings: Any
) -> None:
    settings.REDIS_URL = "unix:///nowhere/redis"
    for response in (
        await async_client.get(f"/api/agent/messages/{message.pk}/stream"),
        await async_client.post(f"/api/agent/messages/{message.pk}/stop"),
    ):
        assert (response.status_code, response["Retry-After"]) == (503, "5")
        assert "nowhere" not in response.content.decode()
    assert (await async_client.get(f"/api/agent/messages/{message.pk}")).json()["status"] == "running"


@pytest.mark.parametrize("url", ["localhost:6379", "http://localhost", "redis://localhost:port/0"])
def test_an_address_that_cannot_be_used_is_named_and_not_repeated(url: str, settings: Any) -> None:
    settings.REDIS_URL = url
    with pytest.raises(ImproperlyConfigured) as caught:
        sharing.check_settings()
    assert str(caught.value) == "REDIS_URL has to be like redis://localhost:6379/0."


def test_the_package_that_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "redis.py").write_text("raise ModuleNotFoundError")
    result = manage("check", **DEVELOPMENT, REDIS_URL="redis://localhost", PYTHONPATH=str(tmp_path))
    assert result.returncode == 1
    assert "pip install 'django-assistant-backend[redis]'" in result.stderr
