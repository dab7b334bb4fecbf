"""Collect the events of a model."""

from contextlib import aclosing
from typing import Any

from assistant.errors import AssistantError
from assistant.events import Token
from assistant.providers.base import Completion, ModelRequest


def asking(content: str = "Hi", **parameters: Any) -> ModelRequest:
    return ModelRequest([{"role": "user", "content": content}], **parameters)


async def collect(model: Any, request: ModelRequest | None = None) -> list[Any]:
    async with aclosing(model.stream(request or asking())) as events:
        return [event async for event in events]


async def collect_until_fault(model: Any) -> tuple[list[Any], AssistantError]:
    """Return what was said before the error, and that."""
    said = []
    try:
        async for event in model.stream(asking()):
            said.append(event)
    except AssistantError as error:
        return said, error
    raise AssertionError("nothing went wrong")


def text(events: list[Any]) -> str:
    assert sum(isinstance(event, Completion) for event in events) == 1
    assert isinstance(events[-1], Completion)
    return "".join(event.content for event in events if isinstance(event, Token))
