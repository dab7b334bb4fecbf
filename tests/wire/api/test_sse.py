import asyncio
from contextlib import aclosing

import pytest

from assistant.event_log import EventLog, follow
from wire.api.sse import HEARTBEAT, EventStreamResponse, NumberedEvent, frame, frames, read_cursor


def closed_log(*payloads: str) -> EventLog:
    log = EventLog()
    for payload in payloads[:-1]:
        log.append(payload)
    log.close(payloads[-1])
    return log


def test_a_frame_is_an_id_line_a_data_line_and_an_empty_line() -> None:
    assert frame(7, '{"a": 1}') == b'id: 7\ndata: {"a": 1}\n\n'


async def test_a_reader_gets_what_was_written_before_it_came() -> None:
    assert [event async for event in follow(closed_log("1", "2"), patience=5)] == [(1, "1"), (2, "2")]


@pytest.mark.parametrize("cursor", [0, 1, 2, 3, 99])
async def test_a_reader_with_a_cursor_gets_exactly_the_rest(cursor: int) -> None:
    rest = [event async for event in follow(closed_log("1", "2", "3"), cursor, patience=5)]
    assert rest == [(1, "1"), (2, "2"), (3, "3")][cursor:]


async def test_every_reader_gets_everything_at_its_own_pace() -> None:
    log = EventLog()

    async def read(pause: float) -> list[NumberedEvent | None]:
        events = []
        async for event in follow(log, patience=5):
            events.append(event)
            await asyncio.sleep(pause)
        return events

    readers = [asyncio.create_task(read(pause)) for pause in (0, 0.001, 0.01)]
    for number in range(20):
        log.append(str(number))
        await asyncio.sleep(0.001)
    log.close("end")
    first, *others = await asyncio.gather(*readers)
    assert len(first) == 21
    assert all(other == first for other in others)


async def test_a_quiet_stream_has_comment_lines() -> None:
    log = EventLog()
    async with aclosing(frames(lambda push: follow(log, patience=0.01, push=push))) as parts:
        assert await anext(parts) == HEARTBEAT
        assert await anext(parts) == HEARTBEAT
        log.close("end")
        assert [part async for part in parts][-1] == frame(1, "end")


async def test_a_comment_line_comes_after_so_long_without_an_event_and_not_sooner() -> None:
    log, loop = EventLog(), asyncio.get_running_loop()
    async with aclosing(follow(log, patience=0.2)) as events:
        loop.call_later(0.15, log.append, "1")
        assert await anext(events) == (1, "1")
        since = loop.time()
        assert await anext(events) is None
        assert loop.time() - since > 0.19


async def test_a_reader_that_leaves_is_forgotten() -> None:
    log = EventLog()
    events = follow(log, patience=5)
    waiting = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not log._watchers


@pytest.mark.parametrize("text", [None, "", "-1", "1.5", "x", "٣", "1" * 500])
def test_a_cursor_that_makes_no_sense_is_the_beginning(text: str | None) -> None:
    assert read_cursor(text) == 0


def test_a_response_is_held_back_by_nobody() -> None:
    response = EventStreamResponse(frames(lambda push: follow(EventLog(), patience=5, push=push)))
    assert response["Content-Type"] == "text/event-stream"
    assert response["Cache-Control"] == "no-cache, no-transform"
    assert response["X-Accel-Buffering"] == "no"
    assert response["Content-Encoding"] == "identity"
