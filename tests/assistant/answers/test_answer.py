"""However often a reader is cut off, it gets every event once: a property, tested at random points."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from random import Random
from time import monotonic

import pytest

from assistant.answers.answer import Answer, LocalAnswer, StoredAnswer
from assistant.answers.run import Run, RunLimits, registry
from assistant.answers.tool_loop import Step
from assistant.api.verifier import verify
from assistant.cluster.processes import this_process
from assistant.events import Token, ToolCall, ToolResult, Usage
from assistant.models import Conversation, Message
from assistant.models.pool import STORE_POOL
from assistant.providers.base import Completion
from tests.reconnects import Received, seeded
from wire.api.sse import EventSource, Push, frame, frames

CUTS = 10_000


async def steps(random: Random) -> AsyncGenerator[Step]:
    """Say something now and then, call a tool now and then."""
    for number in range(random.randrange(20, 80)):
        if random.random() < 0.1:
            yield ToolCall(f"call_{number}", "add", {"a": number})
            yield ToolResult(f"call_{number}", "add", "2")
        yield Token(random.choice("aé\u2028😀") * random.randrange(1, 8))
        await asyncio.sleep(random.choice([0, 0, 0.001, 0.002]))
    yield Completion("stop", Usage(1, 2))


def new_run(random: Random) -> Run:
    conversation = Conversation.objects.create(agent_id="default")
    message = Message.objects.create(conversation=conversation, agent_id="default", prompt="Hi", process=this_process())
    limits = RunLimits(60, 60, chunk_size=4)
    return Run(message=message, steps=steps(random), limits=limits, began=monotonic(), release=lambda: None)


def read_by(answer: Answer, cursor: int, push: Push) -> EventSource:
    return lambda _: answer.events_after(cursor, push)


async def read_cut(run: Run, random: Random) -> Received:
    """Read an answer through the reading code, cut between events and while waiting for one."""
    received = Received()

    def push(number: int, payload: str) -> bool:
        taken = random.random() < 0.5
        if taken:
            received.take(frame(number, payload))
        return taken

    while not received.has_ended:
        answer = LocalAnswer(run) if registry.get(run.message.pk) else StoredAnswer(run.message)
        async with aclosing(frames(read_by(answer, received.cursor, push))) as parts:
            for _ in range(random.randrange(4)):
                try:
                    received.take(await asyncio.wait_for(anext(parts), random.choice([0, 0.0005, 5])))
                except (TimeoutError, StopAsyncIteration):
                    break
        received.cut()
        await asyncio.sleep(0)
    return received


async def read_whole(run: Run) -> bytes:
    return b"".join([part async for part in frames(partial(LocalAnswer(run).events_after, 0))])


@pytest.mark.usefixtures("db")
async def test_ten_thousand_cuts_lose_nothing_and_repeat_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assistant.answers.coalescing.GAP_SECONDS", 0)
    cuts = 0
    with seeded() as random:
        while cuts < CUTS:
            run = await STORE_POOL.run(lambda: new_run(random))
            await LocalAnswer(run).prepare()
            whole, *pieces = await asyncio.gather(read_whole(run), *(read_cut(run, random) for _ in range(20)))
            verify(whole, chunk_size=4)
            assert all(piece.stream == whole for piece in pieces)
            cuts += sum(piece.cuts for piece in pieces)
