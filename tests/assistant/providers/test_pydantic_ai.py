"""Other providers, with pydantic-ai's own test models in their place."""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from pydantic_ai import exceptions
from pydantic_ai import messages as theirs
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.models.test import TestModel as ModelForTests

from assistant import errors
from assistant.events import Token, ToolCall
from assistant.providers.base import Completion, ModelRequest, ToolSpec
from assistant.providers.pydantic_ai import PydanticAIModel
from assistant.providers.registry import get_model
from tests.assistant.providers.collect import asking, collect, collect_until_fault, text

ADD = ToolSpec("add", "Add numbers.", {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})


def model_of(function: Any) -> PydanticAIModel:
    return PydanticAIModel("test", "function", make=lambda: FunctionModel(stream_function=function))


def saying(*pieces: Any) -> PydanticAIModel:
    async def speak(messages: list[theirs.ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        for piece in pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    return model_of(speak)


async def test_an_answer_comes_as_tokens_and_a_completion() -> None:
    model = PydanticAIModel("test", "x", make=lambda: ModelForTests(custom_output_text="Hello world"))
    events = await collect(model)
    assert text(events) == "Hello world"
    assert events[-1].finish_reason == "stop"
    assert events[-1].usage.input_tokens > 0
    assert events[-1].usage.output_tokens > 0


async def test_each_delta_is_a_token() -> None:
    assert (await collect(saying("a", "b", "c")))[:3] == [Token("a"), Token("b"), Token("c")]


async def test_what_cannot_be_stored_is_replaced() -> None:
    assert text(await collect(saying("a\0", "\ud83d", "\ude00"))) == "a\ufffd\U0001f600"


async def test_a_tool_call_comes_after_the_text() -> None:
    calls = {0: DeltaToolCall("add", '{"a"', tool_call_id="x")}, {0: DeltaToolCall(json_args=": 1}")}
    events = await collect(saying("Let me see.", *calls), asking(tools=[ADD]))
    assert events[0] == Token("Let me see.")
    assert events[-2] == ToolCall("x", "add", {"a": 1})
    assert events[-1].finish_reason == "tool_calls"


async def test_the_model_sees_the_tools_and_the_parameters() -> None:
    seen: list[AgentInfo] = []

    async def look(messages: list[theirs.ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        seen.append(info)
        yield "a"

    await collect(model_of(look), asking(tools=[ADD], temperature=0.5, max_tokens=7))
    (tool,) = seen[0].function_tools
    assert (tool.name, tool.description, tool.parameters_json_schema) == ("add", "Add numbers.", ADD.parameters)
    assert seen[0].model_settings == {"temperature": 0.5, "max_tokens": 7}


def kind_and_content(part: Any) -> tuple[str, Any]:
    return part.part_kind, part.args if part.part_kind == "tool-call" else part.content


async def test_the_model_sees_the_whole_conversation() -> None:
    seen: list[theirs.ModelMessage] = []

    async def look(messages: list[theirs.ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        seen.extend(messages)
        yield "a"

    asked = {"id": "x", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    conversation: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Add."},
        {"role": "assistant", "content": None, "tool_calls": [asked]},
        {"role": "tool", "tool_call_id": "x", "content": "1"},
        {"role": "assistant", "content": "One."},
        {"role": "user", "content": "Thanks."},
    ]
    await collect(model_of(look), ModelRequest(conversation))
    assert [[kind_and_content(part) for part in message.parts] for message in seen] == [
        [("system-prompt", "Be brief."), ("user-prompt", "Add.")],
        [("tool-call", '{"a": 1}')],
        [("tool-return", "1")],
        [("text", "One.")],
        [("user-prompt", "Thanks.")],
    ]
    assert [part.tool_name for part in seen[2].parts if isinstance(part, theirs.ToolReturnPart)] == ["add"]


async def test_a_schema_reaches_the_model() -> None:
    seen: list[AgentInfo] = []

    async def look(messages: list[theirs.ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        seen.append(info)
        yield '{"a": 1}'

    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    assert text(await collect(model_of(look), asking(schema=schema))) == '{"a": 1}'
    parameters = seen[0].model_request_parameters
    assert parameters.output_object
    assert parameters.output_object.json_schema["properties"] == schema["properties"]


FAULTS = {
    "no key": (exceptions.ModelHTTPError(401, "m"), errors.ModelRefusedCredentials, False),
    "no such model": (exceptions.ModelHTTPError(404, "m"), errors.ModelNotFound, False),
    "rate limit": (exceptions.ModelHTTPError(429, "m"), errors.ModelBusy, True),
    "internal": (exceptions.ModelHTTPError(500, "m"), errors.ModelError, True),
    "bad request": (exceptions.ModelHTTPError(400, "m", {"error": {"message": "no"}}), errors.ModelError, False),
    "too long": (
        exceptions.ModelHTTPError(400, "m", {"error": {"code": "context_length_exceeded"}}),
        errors.ContextTooLong,
        False,
    ),
    "too long elsewhere": (exceptions.ModelContextWindowExceededError("m", "no"), errors.ContextTooLong, False),
    "too slow": (exceptions.ModelTimeoutError("m", "no"), errors.ModelTimeout, True),
    "unreachable": (exceptions.ModelConnectionError("m", "no", phase="connect"), errors.ModelUnreachable, True),
    "hang-up": (exceptions.ModelConnectionError("m", "no", phase="read"), errors.ModelError, True),
    "odd": (exceptions.UnexpectedModelBehavior("no"), errors.ModelError, False),
    "a bug": (RuntimeError("no"), errors.ModelError, False),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_every_fault_is_one_error(fault: str) -> None:
    raised, error, retryable = FAULTS[fault]
    said, caught = await collect_until_fault(saying("a", raised))
    assert said == [Token("a")]
    assert type(caught) is error
    assert caught.retryable is retryable


async def test_busy_says_what_the_server_said() -> None:
    busy = exceptions.ModelHTTPError(429, "m", retry_after=17)
    _, caught = await collect_until_fault(saying(busy))
    assert caught.retry_after == 17


async def test_bad_arguments_are_an_error() -> None:
    with pytest.raises(errors.ModelError):
        await collect(saying({0: DeltaToolCall("add", "[1]", tool_call_id="x")}), asking(tools=[ADD]))


@pytest.mark.parametrize("said", [[], ["a"]])
async def test_silence_is_a_timeout(settings: Any, said: list[str]) -> None:
    settings.MODEL_FIRST_TOKEN_TIMEOUT = settings.MODEL_IDLE_TIMEOUT = 0.1

    async def speak(messages: list[theirs.ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        for piece in said:
            yield piece
        await asyncio.Event().wait()

    heard, caught = await collect_until_fault(model_of(speak))
    assert type(caught) is errors.ModelTimeout
    assert heard == [Token(piece) for piece in said]


async def test_closing_the_iterator_closes_the_call() -> None:
    closed = asyncio.Event()

    async def speak(messages: list[theirs.ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        try:
            yield "a"
            await asyncio.Event().wait()
        finally:
            closed.set()

    events = model_of(speak).stream(asking())
    assert await anext(events) == Token("a")
    await events.aclose()
    await asyncio.wait_for(closed.wait(), 1)


def test_each_loop_has_a_model_of_its_own() -> None:
    opened = []

    class Counted(ModelForTests):
        async def __aenter__(self) -> Any:
            opened.append("open")
            return await super().__aenter__()

        async def __aexit__(self, *exc_info: Any) -> Any:
            opened.append("close")
            return await super().__aexit__(*exc_info)

    async def twice() -> None:
        await collect(model)
        await collect(model)

    model = PydanticAIModel("test", "x", make=Counted)
    asyncio.run(twice())
    asyncio.run(twice())
    assert opened == ["open", "close"] * 2


async def test_a_closed_model_works_again() -> None:
    model = saying("a")
    for _ in range(2):
        assert isinstance((await collect(model))[-1], Completion)
        await model.aclose()


@pytest.mark.parametrize(("name", "reason"), [("nope:x", "Unknown model"), ("anthropic:x", "anthropic")])
def test_a_model_that_cannot_be_used_says_why(name: str, reason: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"The model {name} can't be used: .*{reason}"):
        get_model(name)


def test_a_missing_package_is_named(monkeypatch: Any) -> None:
    monkeypatch.delitem(sys.modules, "assistant.providers.pydantic_ai")
    monkeypatch.setitem(sys.modules, "pydantic_ai", None)
    with pytest.raises(ImproperlyConfigured, match=r"pip install 'django-assistant-backend\[pydantic-ai\]'"):
        get_model("anthropic:x")
