"""What never has to wait gives way to the event loop's other tasks."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from django.test import AsyncClient

from assistant.answers.answer import StoredAnswer
from assistant.event_log import EventLog, follow
from assistant.events import Token
from assistant.models import Message
from assistant.providers.base import Completion
from tests import streams

TOKENS = 20_000


class Tight:
    """A model whose tokens are all there at once."""

    calls_tools = False
    context_tokens = None
    capacity = None

    async def stream(self, request: Any) -> AsyncGenerator[Token | Completion]:
        for _ in range(TOKENS):
            yield Token("word ")
        yield Completion("stop")


class Turns:
    """Counts how often another task of the loop has its turn."""

    def __init__(self) -> None:
        self.count = 0

    async def __aenter__(self) -> "Turns":
        self._task = asyncio.create_task(self._take())
        await asyncio.sleep(0)
        self.count = 0
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._task.cancel()

    async def _take(self) -> None:
        while True:
            self.count += 1
            await asyncio.sleep(0)


async def test_a_model_that_never_waits(db: None, async_client: AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assistant.answers.turns.get_model", lambda name: Tight())
    # It may be through before anybody reads.
    async with Turns() as turns:
        response = await async_client.post("/api/agent/chat?stream=true", {"message": "Hi"}, "application/json")
        events = await streams.read(response)
    assert streams.text(events) == "word " * TOKENS
    assert turns.count > TOKENS / 20


async def test_a_reader_of_a_log_with_many_events() -> None:
    log = EventLog()
    for _ in range(1_999):
        log.append("{}")
    log.close("{}")
    async with Turns() as turns:
        assert [event async for event in follow(log, patience=10)][-1] == (2_000, "{}")
    assert turns.count > 2_000 / 20


async def test_a_reader_of_a_stored_answer() -> None:
    message = Message(status="completed", text="x" * 2_000, events=[1] * 2_000, finish_reason="stop")
    async with Turns() as turns:
        assert len([event async for event in StoredAnswer(message).events_after()]) == 2_002
    assert turns.count > 2_000 / 20
