"""A model behind a URL, with a scripted server at the other end."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from assistant import errors
from assistant.events import Token, ToolCall, Usage
from assistant.providers.base import Completion, ToolSpec
from assistant.providers.openai import OpenAIModel
from assistant.providers.registry import get_model, load
from tests.assistant.providers.collect import asking, collect, collect_until_fault, text
from tests.upstream import (
    DONE,
    Hold,
    Script,
    Upstream,
    broken,
    calling,
    chunk,
    deltas,
    ending,
    event,
    holding,
    refusing,
    reply,
    until,
)

Make = Callable[..., OpenAIModel]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Models of a server, closed with the test."""
    models = []

    def model(upstream: Upstream, name: str = "m", **options: Any) -> OpenAIModel:
        models.append(OpenAIModel(name, **{"base_url": upstream.url, "api_key": "sk-key-of-test", **options}))
        return models[-1]

    yield model
    for each in models:
        await each.aclose()


# An answer.


async def test_an_answer_comes_as_tokens_and_a_completion(make: Make) -> None:
    async with Upstream(reply("Hello", " ", "world", usage=(7, 3))) as upstream:
        *tokens, end = await collect(make(upstream))
        assert "".join(token.content for token in tokens) == "Hello world"
        assert end == Completion("stop", Usage(7, 3))


async def test_a_request_names_the_model_and_carries_the_key(make: Make) -> None:
    async with Upstream() as upstream:
        await collect(make(upstream, "gpt-x"), asking(max_tokens=5))
        (received,) = upstream.requests
        assert received.path == "/v1/chat/completions"
        assert received.headers["authorization"] == "Bearer sk-key-of-test"
        assert (received.body["model"], received.body["max_tokens"]) == ("gpt-x", 5)


async def test_without_a_key_none_is_sent(make: Make) -> None:
    async with Upstream() as upstream:
        await collect(make(upstream, api_key=" "))
        assert "authorization" not in upstream.requests[0].headers


@pytest.mark.parametrize(
    ("base_url", "limit"),
    [
        ("https://api.openai.com/v1", "max_completion_tokens"),
        ("https://eu.api.openai.com/v1/", "max_completion_tokens"),
        ("http://localhost:11434/v1", "max_tokens"),
        ("https://api.openai.com.example.org/v1", "max_tokens"),
    ],
)
def test_openai_itself_has_another_name_for_the_limit(base_url: str, limit: str) -> None:
    assert OpenAIModel("m", base_url=base_url)._limit == limit


async def test_tool_calls_come_after_the_text(make: Make) -> None:
    tools = [ToolSpec("add", "Add.", {"type": "object"})]
    async with Upstream(calling(("add", {"a": 1}), ("now", {}), text="Let me see.")) as upstream:
        events = await collect(make(upstream), asking(tools=tools))
    assert events == [
        Token("Let me see."),
        ToolCall("call_0", "add", {"a": 1}),
        ToolCall("call_1", "now", {}),
        Completion("tool_calls", Usage(5, 2)),
    ]


async def test_a_token_comes_before_the_next_is_there(make: Make) -> None:
    hold = Hold()
    async with Upstream(holding("a", hold=hold, then=["b"])) as upstream:
        events = make(upstream).stream(asking())
        assert await anext(events) == Token("a")
        hold.release()
        assert await anext(events) == Token("b")
        await events.aclose()


async def test_characters_cut_between_blocks_are_whole(make: Make) -> None:
    stream = b"".join([*deltas("gr\u00fc\u00df \U0001f600"), *ending()])
    stream = stream.replace(b"\\u00fc", "\u00fc".encode())
    parts = [stream[place : place + 1] for place in range(len(stream))]
    async with Upstream(Script(parts)) as upstream:
        assert text(await collect(make(upstream))) == "gr\u00fc\u00df \U0001f600"


async def test_settings_make_the_model(settings: Any) -> None:
    async with Upstream() as upstream:
        settings.OPENAI_BASE_URL, settings.OPENAI_API_KEY = upstream.url, "k"
        load.cache_clear()
        model = get_model("openai:some/model:latest")
        assert text(await collect(model)) == "Hello"
        assert upstream.requests[0].body["model"] == "some/model:latest"
        await model.aclose()
    load.cache_clear()


# What goes wrong.

HTML = Script([b"<html>Welcome</html>"], headers={"Content-Type": "text/html"})
SILENT = {"first_token_timeout": 0.5, "idle_timeout": 0.5}


def patience(error: type[Exception]) -> dict[str, float]:
    """Be impatient only with silence: on a busy machine the others would be late."""
    return SILENT if error is errors.ModelTimeout else {}


FAULTS = {
    "too long": (refusing(400, {"error": {"code": "context_length_exceeded"}}), errors.ContextTooLong, 400, False),
    "bad request": (refusing(400), errors.ModelError, 502, False),
    "unprocessable": (refusing(422), errors.ModelError, 502, False),
    "no key": (refusing(401), errors.ModelRefusedCredentials, 502, False),
    "no permission": (refusing(403), errors.ModelRefusedCredentials, 502, False),
    "no such model": (refusing(404), errors.ModelNotFound, 502, False),
    "redirect": (refusing(302, Location="/elsewhere"), errors.ModelError, 502, False),
    "rate limit": (refusing(429), errors.ModelBusy, 503, True),
    "internal": (refusing(500), errors.ModelError, 502, True),
    "loading": (refusing(503), errors.ModelError, 502, True),
    "overloaded": (refusing(503, Retry_After="3"), errors.ModelBusy, 503, True),
    "page": (HTML, errors.ModelError, 502, False),
    "json": (refusing(200, {"choices": []}), errors.ModelError, 502, False),
    "reset at once": (broken(), errors.ModelError, 502, True),
    "reset": (broken("a"), errors.ModelError, 502, True),
    "no end": (Script(deltas("a")), errors.ModelError, 502, True),
    "nothing": (Script([]), errors.ModelError, 502, True),
    "not http": (Script([b"SSH-2.0-OpenSSH_9.2\r\n\r\n"], raw=True), errors.ModelError, 502, False),
    "closed": (Script([], raw=True), errors.ModelUnreachable, 502, True),
    "cut headers": (Script([b"HTTP/1.1 200 OK\r\nContent-Ty"], raw=True), errors.ModelUnreachable, 502, True),
    "garbage": (Script([b"data: garbage\n\n"]), errors.ModelError, 502, False),
    "endless line": (Script([b"data: " + b"x" * 65_536] * 20), errors.ModelError, 502, False),
    "error event": (Script([*deltas("a"), event({"error": {"message": "no"}})]), errors.ModelError, 502, True),
    "limit event": (Script([event({"error": {"code": 429}})]), errors.ModelBusy, 503, True),
    "text error": (Script([event({"error": "no"})]), errors.ModelError, 502, True),
    "bad arguments": (calling(("add", "[1]")), errors.ModelError, 502, False),
    "silence": (holding(), errors.ModelTimeout, 504, True),
    "silence later": (holding("a"), errors.ModelTimeout, 504, True),
    "silence before the headers": (Script([Hold()], raw=True), errors.ModelTimeout, 504, True),
    "comments only": (Script([b": wait\n\n", 0.05] * 100), errors.ModelTimeout, 504, True),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_every_fault_is_one_error(make: Make, fault: str) -> None:
    script, error, status, retryable = FAULTS[fault]
    async with Upstream(script) as upstream:
        with pytest.raises(errors.AssistantError) as caught:
            await collect(make(upstream, **patience(error)))
        assert type(caught.value) is error
        assert (caught.value.status, caught.value.retryable) == (status, retryable)
        assert len(upstream.requests) == 1


@pytest.mark.parametrize("fault", ["reset", "no end", "error event", "silence later"])
async def test_what_was_said_before_a_fault_is_heard(make: Make, fault: str) -> None:
    script, error, _, _ = FAULTS[fault]
    async with Upstream(script) as upstream:
        said, caught = await collect_until_fault(make(upstream, **patience(error)))
    assert said == [Token("a")]
    assert type(caught) is error


async def test_nobody_there_is_unreachable() -> None:
    async with Upstream() as upstream:
        url = upstream.url
    model = OpenAIModel("m", base_url=url)
    with pytest.raises(errors.ModelUnreachable):
        await collect(model)
    await model.aclose()


@pytest.mark.parametrize(
    "options", [{"base_url": "http://"}, {"base_url": "http://[::1"}, {"base_url": "http://a b/"}, {"api_key": "a\nb"}]
)
async def test_what_cannot_be_called_is_unreachable(make: Make, options: dict[str, str]) -> None:
    async with Upstream() as upstream:
        with pytest.raises(errors.ModelUnreachable):
            await collect(make(upstream, **options))


async def test_who_does_not_accept_is_unreachable() -> None:
    model = OpenAIModel("m", base_url="http://192.0.2.1/v1", connect_timeout=0.1)  # reserved for documentation
    with pytest.raises(errors.ModelUnreachable):
        await collect(model)
    await model.aclose()


async def test_busy_says_what_the_server_said(make: Make) -> None:
    async with Upstream(refusing(429, Retry_After="17")) as upstream:
        with pytest.raises(errors.ModelBusy) as caught:
            await collect(make(upstream))
    assert caught.value.retry_after == 17


async def test_the_log_has_the_servers_words_and_the_caller_has_not(make: Make, caplog: Any) -> None:
    body = {"error": {"message": "sk-key-of-test can't say 'my own secret' with temperature"}}
    async with Upstream(refusing(400, body)) as upstream:
        with caplog.at_level(logging.WARNING), pytest.raises(errors.ModelError) as caught:
            await collect(make(upstream), asking("my own secret"))
    assert caught.value.message == errors.ModelError.message
    assert "status=400" in caplog.text
    assert "*** can't say '***' with temperature" in caplog.text
    assert "sk-key" not in caplog.text


async def test_an_error_without_an_end_is_not_waited_for(make: Make) -> None:
    async with Upstream(Script([b"x" * 40_000, Hold()], status=500)) as upstream:
        with pytest.raises(errors.ModelError):
            await asyncio.wait_for(collect(make(upstream)), 2)


# Timing.


async def test_a_slow_first_token_is_waited_for_longer_than_the_next(make: Make) -> None:
    script = Script([chunk({"role": "assistant"}), 0.3, *deltas("a"), *ending()])
    async with Upstream(script) as upstream:
        assert text(await collect(make(upstream, first_token_timeout=5, idle_timeout=0.1))) == "a"


async def test_each_delta_starts_the_silence_anew(make: Make) -> None:
    async with Upstream(reply(*"abcdefgh", pause=0.05)) as upstream:
        assert text(await collect(make(upstream, first_token_timeout=0.3, idle_timeout=0.15))) == "abcdefgh"


async def test_a_slow_reader_is_not_silence_of_the_model(make: Make) -> None:
    async with Upstream(reply("a", "b", pause=0.01)) as upstream:
        said = []
        async for event in make(upstream, first_token_timeout=5, idle_timeout=0.05).stream(asking()):
            said.append(event)
            await asyncio.sleep(0.15)
    assert text(said) == "ab"


async def test_what_goes_wrong_after_the_end_does_not_matter(make: Make) -> None:
    steps = [*deltas("a"), chunk(finish="stop")]
    async with Upstream(Script([*steps, Hold()])) as upstream:
        assert text(await collect(make(upstream, **SILENT))) == "a"
    async with Upstream(Script([*steps, DONE, Hold()])) as upstream:
        assert text(await asyncio.wait_for(collect(make(upstream)), 2)) == "a"


# Going away.


async def closed(upstream: Upstream) -> None:
    await until(lambda: upstream.requests and upstream.requests[0].closed_at, seconds=1)


async def test_closing_the_iterator_closes_the_connection(make: Make) -> None:
    async with Upstream(holding("a")) as upstream:
        events = make(upstream).stream(asking())
        assert await anext(events) == Token("a")
        await events.aclose()
        await closed(upstream)


async def test_a_call_closed_while_the_server_speaks_is_closed(make: Make) -> None:
    async with Upstream(reply(*["word "] * 10_000, pause=0.001)) as upstream:
        events = make(upstream).stream(asking())
        await anext(events)
        await events.aclose()
        await closed(upstream)


@pytest.mark.parametrize("script", [holding(), Script([Hold()], raw=True)], ids=["headers", "nothing"])
async def test_a_call_cancelled_before_the_first_token_is_closed(make: Make, script: Script) -> None:
    async with Upstream(script) as upstream:
        calling = asyncio.create_task(collect(make(upstream)))
        await until(lambda: upstream.requests)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        await closed(upstream)


async def test_an_iterator_that_nobody_began_calls_nobody(make: Make) -> None:
    async with Upstream() as upstream:
        await make(upstream).stream(asking()).aclose()
        assert upstream.connections == 0


# Connections.


async def test_calls_after_each_other_share_a_connection(make: Make) -> None:
    async with Upstream() as upstream:
        model = make(upstream)
        for _ in range(5):
            await collect(model)
        assert upstream.connections == 1


async def test_calls_at_once_never_wait_for_each_other(make: Make) -> None:
    hold = Hold()
    async with Upstream(holding("a", hold=hold)) as upstream:
        model = make(upstream)
        calls = [asyncio.create_task(collect(model)) for _ in range(150)]
        await until(lambda: len(upstream.requests) == 150)
        hold.release()
        assert {text(said) for said in await asyncio.gather(*calls)} == {"a"}


async def test_a_connection_that_died_in_the_pool_is_replaced_once(make: Make) -> None:
    async with Upstream(reply("a"), Script([], raw=True), reply("b")) as upstream:
        model = make(upstream)
        assert text(await collect(model)) == "a"
        assert text(await collect(model)) == "b"
        assert [received.connection for received in upstream.requests] == [1, 1, 2]


async def test_a_new_connection_that_dies_is_not_replaced(make: Make) -> None:
    async with Upstream(Script([], raw=True), reply("b")) as upstream:
        with pytest.raises(errors.ModelUnreachable):
            await collect(make(upstream))
        assert len(upstream.requests) == 1


def test_each_loop_has_connections_of_its_own_and_closes_them() -> None:
    async def call() -> str:
        return text(await collect(model))

    with Upstream().in_thread() as upstream:
        model = OpenAIModel("m", base_url=upstream.url)
        assert [asyncio.run(call()) for _ in range(3)] == ["Hello"] * 3
        assert upstream.connections == 3
        assert model._pools._open == {}


@pytest.mark.filterwarnings("ignore:Unclosed", "ignore:unclosed")
def test_a_loop_that_was_just_closed_is_forgotten() -> None:
    async def call() -> str:
        return text(await collect(model))

    with Upstream().in_thread() as upstream:
        model = OpenAIModel("m", base_url=upstream.url)
        loop = asyncio.new_event_loop()
        loop.run_until_complete(call())
        loop.close()
        asyncio.run(call())
        assert model._pools._open == {}
        gc.collect()


async def test_a_model_that_was_closed_works_again(make: Make) -> None:
    async with Upstream() as upstream:
        model = make(upstream)
        for _ in range(2):
            assert text(await collect(model)) == "Hello"
            await model.aclose()
        assert upstream.connections == 2
