"""Readers of a log: each event once and in order, whether it is pushed or waited for."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.event_log import EVENTS_AT_ONCE, MOMENT, EventLog, follow
from wire.api.sse import NumberedEvent, Push

PATIENCE = 10


async def read(log: EventLog, push: Push | None, got: list[NumberedEvent | None], cursor: int = 0) -> None:
    async with asyncio.timeout(PATIENCE), aclosing(follow(log, cursor, patience=PATIENCE, push=push)) as events:
        async for event in events:
            got.append(event)


async def begun(log: EventLog, push: Push | None, got: list[Any], cursor: int = 0) -> "asyncio.Task[None]":
    reading = asyncio.create_task(read(log, push, got, cursor))
    await asyncio.sleep(0)
    return reading


@settings(deadline=None)
@given(bursts=st.lists(st.integers(0, 40), max_size=8), answers=st.lists(st.booleans()), cursor=st.integers(0, 60))
async def test_each_event_after_the_cursor_comes_once_and_in_order(
    bursts: list[int], answers: list[bool], cursor: int
) -> None:
    """A log that follows another process's may begin after its reader's cursor does."""
    log, got = EventLog(), []
    left = list(answers)

    def push(*event: Any) -> bool:
        taken = left.pop() if left else True
        if taken:
            got.append(event)
        return taken

    reading = await begun(log, push, got, cursor)
    for burst in bursts:
        for _ in range(burst):
            log.append(str(len(log.payloads) + 1))
        await asyncio.sleep(0)
    log.close("last")
    await reading
    assert got == list(enumerate(log.payloads, start=1))[cursor:]


async def test_what_is_pushed_wakes_nobody_but_the_last_event_does() -> None:
    log, pushed, yielded = EventLog(), list[NumberedEvent](), list[NumberedEvent]()
    reading = await begun(log, lambda *event: not pushed.append(event), yielded)
    log.append("one")
    log.append("two")
    assert pushed == [(1, "one"), (2, "two")]
    log.close("last")
    await reading
    assert yielded == [(3, "last")]


async def test_of_many_at_once_few_are_pushed_before_others_have_their_turn() -> None:
    log, pushed, yielded = EventLog(), list[NumberedEvent](), list[NumberedEvent]()
    reading = await begun(log, lambda *event: not pushed.append(event), yielded)
    for _ in range(1_000):
        log.append("{}")
    assert len(pushed) <= EVENTS_AT_ONCE
    log.close("{}")
    await reading
    assert pushed + yielded == [(number, "{}") for number in range(1, 1_002)]


async def test_of_many_one_after_the_other_all_are_pushed() -> None:
    log, pushed, yielded = EventLog(), list[NumberedEvent](), list[NumberedEvent]()
    reading = await begun(log, lambda *event: not pushed.append(event), yielded)
    for _ in range(3 * EVENTS_AT_ONCE):
        await asyncio.sleep(2 * MOMENT)
        log.append("{}")
    log.close("last")
    await reading
    assert yielded == [(3 * EVENTS_AT_ONCE + 1, "last")]


async def test_a_push_that_fails_ends_its_reader_and_no_other() -> None:
    def fail(number: int, payload: str) -> bool:
        raise ConnectionError("gone")

    log, got = EventLog(), list[NumberedEvent]()
    failing, reading = await begun(log, fail, []), await begun(log, None, got)
    log.append("one")
    log.close("last")
    with pytest.raises(ConnectionError, match="gone"):
        await failing
    await reading
    assert got == [(1, "one"), (2, "last")]


async def test_silence_is_told_and_counts_from_what_was_pushed() -> None:
    loop, log, moments, told = asyncio.get_running_loop(), EventLog(), list[float](), asyncio.Event()

    def push(number: int, payload: str) -> bool:
        moments.append(loop.time())
        return True

    async def read() -> None:
        async for event in follow(log, patience=0.2, push=push):
            if event is None:
                assert loop.time() - moments[-1] > 0.19
                told.set()

    log.append("{}")
    reading = asyncio.create_task(read())
    await asyncio.sleep(0)
    for _ in range(8):
        log.append("{}")
        await asyncio.sleep(0.05)
    async with asyncio.timeout(PATIENCE):
        await told.wait()
        log.close("last")
        await reading
    assert len(moments) == 8
