"""Streams, through HTTP: their form, leaving and coming back, stopping, time."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest
from django.test import AsyncClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assistant.answers.run import registry
from assistant.models import Message
from tests import streams
from tests.upstream import Hold, Script, Upstream, broken, holding, refusing, reply, until

pytestmark = pytest.mark.usefixtures("db")


async def start(client: AsyncClient, query: str = "", headers: dict[str, str] | None = None, **body: Any) -> Any:
    where = f"/api/agent/chat?stream=true{query}"
    asked = {"message": "Hi", **body}
    return await client.post(where, asked, content_type="application/json", headers=headers or {})


async def events(client: AsyncClient, query: str = "", **body: Any) -> list[dict[str, Any]]:
    return await streams.read(await start(client, query, **body))


async def rest(client: AsyncClient, message_id: str, after: int) -> list[dict[str, Any]]:
    return await streams.read(await client.get(f"/api/agent/messages/{message_id}/stream?after={after}"), after)


async def test_a_stream_is_start_then_tokens_then_end(async_client: AsyncClient, upstream: Upstream) -> None:
    upstream.script = reply("Quantum", " computing", " is", pause=0.03, usage=(9, 4))
    first, *tokens, last = await events(async_client)
    message = await Message.objects.aget()
    assert first == {
        "type": "start",
        "message_id": message.id,
        "conversation_id": message.conversation_id,
        "agent_id": "default",
    }
    assert tokens == [{"type": "token", "content": text} for text in ("Quantum", " computing", " is")]
    assert last == {
        "type": "end",
        "message_id": message.id,
        "finish_reason": "stop",
        "usage": {"input_tokens": 9, "output_tokens": 4},
        "processing_time": message.processing_time,
    }
    assert message.text == "Quantum computing is"


async def test_start_comes_before_the_model_has_said_anything(async_client: AsyncClient, upstream: Upstream) -> None:
    upstream.script = Script([Hold()])
    async with aclosing(aiter(await start(async_client))) as parts:
        [(number, event)] = streams.parse(await asyncio.wait_for(anext(parts), 5))
    assert (number, event["type"]) == (1, "start")


@pytest.mark.parametrize(
    ("query", "body", "streamed"),
    [
        ("?stream=true", {}, True),
        ("?stream=1", {}, True),
        ("?stream=TRUE", {}, True),
        ("", {"stream": True}, True),
        ("?stream=false", {"stream": True}, False),
        ("?stream=true", {"stream": False}, True),
        ("", {}, False),
    ],
)
async def test_the_query_wins_over_the_body(
    async_client: AsyncClient, upstream: Upstream, query: str, body: dict[str, Any], streamed: bool
) -> None:
    asked = {"message": "Hi", **body}
    response = await async_client.post(f"/api/agent/chat{query}", asked, content_type="application/json")
    assert response.streaming is streamed
    if streamed:
        await streams.read(response)


async def test_what_can_be_refused_is_refused_before_the_stream(async_client: AsyncClient, upstream: Upstream) -> None:
    accept = {"accept": "text/event-stream"}
    for body, status in (({"message": ""}, 400), ({"agent_id": "nobody"}, 404), ({"conversation_id": "x"}, 404)):
        response = await start(async_client, headers=accept, **body)
        assert (response.status_code, response["Content-Type"]) == (status, "application/json")
    wrong = await start(async_client, headers=accept | {"authorization": "Bearer x"})
    assert (wrong.status_code, wrong["Content-Type"]) == (401, "application/json")
    assert upstream.requests == []


async def test_streams_can_be_switched_off(async_client: AsyncClient, upstream: Upstream, settings: Any) -> None:
    settings.STREAM_ENABLED = False
    response = await start(async_client)
    assert response.status_code == 403
    assert "STREAM_ENABLED=false" in response.json()["error"]
    chat = await async_client.post("/api/agent/chat", {"message": "Hi"}, content_type="application/json")
    assert chat.status_code == 200


@pytest.mark.parametrize(
    ("script", "code", "retryable"),
    [
        (refusing(500), 502, True),
        (refusing(401), 502, False),
        (refusing(429, Retry_After="7"), 503, True),
        (broken("Hello"), 502, True),
        (Script([b"data: nonsense\n\n"]), 502, False),
    ],
)
async def test_a_failing_model_ends_a_stream_with_one_error(
    async_client: AsyncClient, upstream: Upstream, script: Script, code: int, retryable: bool
) -> None:
    upstream.script = script
    *_, last = await events(async_client)
    assert (last["type"], last["code"], last["retryable"]) == ("error", code, retryable)
    message = await Message.objects.aget()
    assert message.status == "failed"
    assert await rest(async_client, message.id, after=1) == [
        *({"type": "token", "content": message.text} for _ in range(bool(message.text))),
        last,
    ]


async def test_an_answer_may_not_take_longer_than_the_timeout(
    async_client: AsyncClient, upstream: Upstream, settings: Any
) -> None:
    settings.STREAM_TIMEOUT = 0.2
    upstream.script = holding("Well")
    *_, last = await events(async_client)
    assert (last["type"], last["code"], last["message"]) == ("error", 504, "The answer took longer than 0.2 s.")
    await until(lambda: upstream.requests[0].closed_at)
    message = await Message.objects.aget()
    assert (message.status, message.text) == ("failed", "Well")


characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0") | st.sampled_from("\u2028\u2029\r\n")


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.text(characters, min_size=1, max_size=30), min_size=1, max_size=8), st.sampled_from([1, 2, 7, 100]))
async def test_the_text_is_the_same_however_it_comes(
    async_client: AsyncClient, upstream: Upstream, pieces: list[str], chunk_size: int
) -> None:
    from django.test import override_settings

    upstream.script = reply(*pieces)
    with override_settings(STREAM_CHUNK_SIZE=chunk_size):
        streamed = await events(async_client)
    assert streams.text(streamed) == "".join(pieces)
    assert all(1 <= len(event["content"]) <= chunk_size for event in streamed if event["type"] == "token")
    message = await Message.objects.aget(pk=streamed[0]["message_id"])
    assert message.text == "".join(pieces)
    again = await rest(async_client, message.id, after=0)
    assert again == streamed


async def test_a_client_that_comes_back_gets_exactly_the_rest(async_client: AsyncClient, upstream: Upstream) -> None:
    whole = await events(async_client)
    message_id = whole[0]["message_id"]
    for after in range(len(whole)):
        assert await rest(async_client, message_id, after) == whole[after:]
    header = {"last-event-id": "1"}
    response = await async_client.get(f"/api/agent/messages/{message_id}/stream", headers=header)
    assert await streams.read(response, after=1) == whole[1:]


async def test_a_client_comes_back_to_a_live_answer(async_client: AsyncClient, upstream: Upstream) -> None:
    hold = Hold()
    upstream.script = holding("One", hold=hold, then=[" two"])
    async with aclosing(aiter(await start(async_client))) as parts:
        seen = streams.parse(await anext(parts) + await anext(parts))
    assert [number for number, _ in seen] == [1, 2]
    message_id = seen[0][1]["message_id"]
    live = (await async_client.get(f"/api/agent/messages/{message_id}")).json()
    assert (live["status"], live["response"]) == ("running", "One")
    back = asyncio.create_task(rest(async_client, message_id, after=2))
    hold.release()
    assert streams.text(await back) == " two"
    assert (await Message.objects.aget()).status == "completed"


async def test_two_readers_hear_the_same(async_client: AsyncClient, upstream: Upstream) -> None:
    hold = Hold()
    upstream.script = holding("One", hold=hold, then=[" two"])
    first = await start(async_client)
    message_id = registry.running()[0].message.id
    second = asyncio.create_task(rest(async_client, message_id, after=0))
    hold.release()
    assert await streams.read(first) == await second


async def leave(client: AsyncClient, query: str) -> str:
    """Read an answer's first event, leave, and return the message's id."""
    async with aclosing(aiter(await start(client, query))) as parts:
        [(_, event)] = streams.parse(await anext(parts))
    message_id: str = event["message_id"]
    return message_id


async def test_an_answer_without_a_reader_ends_after_the_grace(
    async_client: AsyncClient, upstream: Upstream, settings: Any
) -> None:
    settings.STREAM_DISCONNECT_GRACE = 0.2
    upstream.script = holding("One")
    message_id = await leave(async_client, "")
    await until(lambda: upstream.requests)
    assert upstream.requests[0].closed_at is None
    await until(lambda: upstream.requests[0].closed_at)
    await until(lambda: not registry.running())
    message = await Message.objects.aget(pk=message_id)
    assert (message.status, message.text, message.finish_reason) == ("cancelled", "One", "cancelled")
    *_, last = await rest(async_client, message_id, after=0)
    assert (last["type"], last["finish_reason"]) == ("end", "cancelled")


async def test_an_answer_may_end_with_its_reader(async_client: AsyncClient, upstream: Upstream) -> None:
    upstream.script = holding("One")
    await leave(async_client, "&on_disconnect=cancel")
    await until(lambda: not registry.running(), seconds=1)
    assert (await Message.objects.aget()).status == "cancelled"


async def test_an_answer_may_go_on_without_a_reader(
    async_client: AsyncClient, upstream: Upstream, settings: Any
) -> None:
    settings.STREAM_DISCONNECT_GRACE = 0
    hold = Hold()
    upstream.script = holding("One", hold=hold, then=[" two"])
    await leave(async_client, "&on_disconnect=continue")
    hold.release()
    await until(lambda: not registry.running())
    message = await Message.objects.aget()
    assert (message.status, message.text) == ("completed", "One two")


async def test_a_response_that_nobody_reads_does_not_run_for_ever(
    async_client: AsyncClient, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assistant.answers.run.FIRST_READER_SECONDS", 0.1)
    upstream.script = holding("One")
    response = await start(async_client, "&on_disconnect=cancel")
    await until(lambda: not registry.running())
    assert (await Message.objects.aget()).status == "cancelled"
    response.close()


async def test_stop_ends_an_answer_and_twice_is_once(async_client: AsyncClient, upstream: Upstream) -> None:
    upstream.script = holding("One")
    reading = asyncio.create_task(events(async_client))
    await until(lambda: upstream.requests)
    await until(lambda: registry.running()[0].transcript.text == "One")
    where = f"/api/agent/messages/{registry.running()[0].message.id}/stop"
    first, second = await asyncio.gather(async_client.post(where), async_client.post(where))
    third = await async_client.post(where)
    assert first.json() == second.json() == third.json()
    assert (first.json()["status"], first.json()["response"]) == ("cancelled", "One")
    assert (await reading)[-1]["finish_reason"] == "cancelled"
    await until(lambda: upstream.requests[0].closed_at, seconds=1)


async def test_stop_before_the_first_token_closes_the_models_call(
    async_client: AsyncClient, upstream: Upstream
) -> None:
    upstream.script = Script([Hold()])
    reading = asyncio.create_task(events(async_client))
    await until(lambda: upstream.requests)
    await async_client.post(f"/api/agent/messages/{registry.running()[0].message.id}/stop")
    await until(lambda: upstream.requests[0].closed_at, seconds=1)
    assert [event["type"] for event in await reading] == ["start", "end"]


async def test_stop_changes_nothing_about_an_answer_that_has_ended(
    async_client: AsyncClient, upstream: Upstream
) -> None:
    whole = await events(async_client)
    stopped = (await async_client.post(f"/api/agent/messages/{whole[0]['message_id']}/stop")).json()
    assert (stopped["status"], stopped["finish_reason"]) == ("completed", "stop")


async def test_the_service_that_stops_says_so_and_keeps_what_was_said(
    async_client: AsyncClient, upstream: Upstream
) -> None:
    upstream.script = holding("One")
    reading = asyncio.create_task(events(async_client))
    await until(lambda: registry.running() and registry.running()[0].transcript.text)
    await registry.interrupt_all()
    *_, last = await reading
    assert (last["type"], last["code"], last["retryable"]) == ("error", 503, True)
    message = await Message.objects.aget()
    assert (message.status, message.text) == ("interrupted", "One")


async def test_an_answer_of_another_process_cannot_be_streamed_or_stopped_here(
    async_client: AsyncClient, upstream: Upstream
) -> None:
    message_id = (await events(async_client))[0]["message_id"]
    await Message.objects.aupdate(status="running")
    assert (await async_client.get(f"/api/agent/messages/{message_id}/stream")).status_code == 409
    assert (await async_client.post(f"/api/agent/messages/{message_id}/stop")).status_code == 409


async def test_a_key_replays_a_stream(async_client: AsyncClient, upstream: Upstream) -> None:
    key = {"idempotency-key": "k"}
    first = await streams.read(await start(async_client, headers=key))
    assert await streams.read(await start(async_client, headers=key)) == first
    assert len(upstream.requests) == 1


async def test_a_quiet_stream_is_kept_alive(
    async_client: AsyncClient, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assistant.answers.answer.HEARTBEAT_SECONDS", 0.01)
    upstream.script = Script([Hold()])
    async with aclosing(aiter(await start(async_client))) as parts:
        assert [await anext(parts) for _ in range(3)][1:] == [b": keep-alive\n\n"] * 2


async def test_half_a_surrogate_pair_and_a_nul_are_replaced(async_client: AsyncClient, upstream: Upstream) -> None:
    upstream.script = reply("a\ud83d", "\ude00b\ud800", "c\0d")
    assert streams.text(await events(async_client)) == "a\U0001f600b\ufffdc\ufffdd"
