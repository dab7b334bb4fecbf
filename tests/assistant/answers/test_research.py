"""The researcher on a model that can't call tools: real search, and the real model where its words matter."""

from typing import Any

import pytest
from django.test import AsyncClient

from assistant.answers.research import is_small_talk
from assistant.models import Agent, Document
from tests import streams
from tests.upstream import Upstream, refusing, reply

pytestmark = pytest.mark.usefixtures("db")


@pytest.fixture
def small(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> Upstream:
    """A scripted model that can't call tools, and something to find."""
    monkeypatch.setattr("assistant.providers.openai.OpenAIModel.calls_tools", False)
    put("Zebra", "Zebras are African horses with black-and-white stripes.", url="https://zebra.example/")
    put("Lion", "The lion is a large cat of Africa.")
    return upstream


def put(title: str, text: str, **fields: Any) -> None:
    Document.objects.create(source=title, title=title, text=text, **fields)


async def ask(client: AsyncClient, message: str, **body: Any) -> list[dict[str, Any]]:
    asked = {"message": message, "agent_id": "researcher", **body}
    return await streams.read(await client.post("/api/agent/chat?stream=true", asked, content_type="application/json"))


async def test_it_searches_and_answers_from_what_was_found(async_client: AsyncClient, small: Upstream) -> None:
    small.scripts = [reply('{"query": "zebra"}', usage=(30, 5)), reply("They have stripes.", usage=(50, 6))]
    events = await ask(async_client, "What do zebras look like?")
    assert [event["type"] for event in events[:4]] == ["start", "tool_call", "tool_result", "token"]
    assert (events[1]["name"], events[1]["parameters"]) == ("search", {"query": "zebra"})
    assert events[2]["result"].startswith("1. Zebra - Zebras are African horses")
    assert streams.text(events) == "They have stripes.\n\nSources:\n[1] Zebra https://zebra.example/"
    assert events[-1]["usage"] == {"input_tokens": 80, "output_tokens": 11}
    first, second = (request.body for request in small.requests)
    assert first["response_format"]["json_schema"]["schema"]["required"] == ["query"]
    assert "black-and-white stripes" in second["messages"][-1]["content"]
    assert "tools" not in first
    assert "tools" not in second


async def test_in_the_record_it_is_an_ordinary_tool_call(async_client: AsyncClient, small: Upstream) -> None:
    small.scripts = [reply('{"query": "zebra"}'), reply("Stripes.")]
    message_id = (await ask(async_client, "What do zebras look like?"))[0]["message_id"]
    [call] = (await async_client.get(f"/api/agent/messages/{message_id}")).json()["tool_calls"]
    assert (call["name"], call["parameters"], call["status"]) == ("search", {"query": "zebra"}, "completed")


async def test_weak_hits_are_dropped_and_nothing_found_is_said_by_code(
    async_client: AsyncClient, small: Upstream
) -> None:
    small.script = reply('{"query": "African gloobix 3000"}')
    events = await ask(async_client, "What does the gloobix 3000 cost?")
    assert streams.text(events) == "I found nothing about “African gloobix 3000” in the documents."
    assert [event["type"] for event in events].count("tool_call") == 2
    assert len(small.requests) == 1


async def test_the_callers_own_words_serve_where_the_query_finds_nothing(
    async_client: AsyncClient, small: Upstream
) -> None:
    small.scripts = [reply('{"query": "pyjamas"}'), reply("A cat.")]
    events = await ask(async_client, "the lion")
    assert [event["parameters"]["query"] for event in events if event["type"] == "tool_call"] == ["pyjamas", "the lion"]
    assert "[1] Lion" in streams.text(events)


@pytest.mark.parametrize("written", ["nonsense", "{}", '{"query": " "}', '{"query": 5}', '["zebra"]'])
async def test_a_query_that_went_wrong_is_the_prompt(async_client: AsyncClient, small: Upstream, written: str) -> None:
    small.scripts = [reply(written), reply("Stripes.")]
    events = await ask(async_client, "zebra stripes")
    assert events[1]["parameters"] == {"query": "zebra stripes"}
    assert events[-1]["type"] == "end"


async def test_small_talk_is_left_alone(async_client: AsyncClient, small: Upstream) -> None:
    small.script = reply("Hello!")
    events = await ask(async_client, "Hi, how are you?")
    assert [event["type"] for event in events] == ["start", "token", "end"]


@pytest.mark.parametrize("prompt", ["hello", "Thanks!", "Good morning, how are you?", "ok", "What's your name?", "?"])
def test_this_is_small_talk(prompt: str) -> None:
    assert is_small_talk(prompt)


@pytest.mark.parametrize("prompt", ["hello zebra", "What is Python?", "thanks, and who was Ada Lovelace?", "你好吗"])
def test_this_is_not(prompt: str) -> None:
    assert not is_small_talk(prompt)


async def test_a_prompt_that_speaks_of_the_last_one_is_read_with_it(async_client: AsyncClient, small: Upstream) -> None:
    small.scripts = [reply('{"query": "lion"}'), reply("A cat."), reply('{"query": "lion"}'), reply("In Africa.")]
    where = {"conversation_id": (await ask(async_client, "What is a lion?"))[0]["conversation_id"]}
    await ask(async_client, "Where does it live?", **where)
    assert small.requests[2].body["messages"][-1]["content"] == "What is a lion? Where does it live?"


async def test_a_model_that_fails_while_it_writes_the_query_is_one_error(
    async_client: AsyncClient, small: Upstream
) -> None:
    small.script = refusing(500)
    assert [event["type"] for event in await ask(async_client, "zebra")] == ["start", "error"]


async def test_without_the_search_tool_it_just_answers(
    async_client: AsyncClient, small: Upstream, settings: Any
) -> None:
    settings.ASSISTANT_TOOLS_OFF = ["search"]
    small.script = reply("Stripes.")
    assert [event["type"] for event in await ask(async_client, "zebra")] == ["start", "token", "end"]


async def test_a_capable_model_runs_the_ordinary_loop(async_client: AsyncClient, upstream: Upstream) -> None:
    upstream.script = reply("I know.")
    await ask(async_client, "zebra")
    [offered] = upstream.requests[0].body["tools"]
    assert offered["function"]["name"] == "search"
    agent = await Agent.objects.aget(pk="researcher")
    assert upstream.requests[0].body["messages"][0] == {"role": "system", "content": agent.instructions}
