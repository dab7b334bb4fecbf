"""The spans of an answer, from its request to its model's calls."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import AsyncClient

from assistant.models import Agent, Message
from tests import spans, streams
from tests.spans import Spans, attributes
from tests.upstream import Upstream, broken, calling, refusing, reply

pytestmark = pytest.mark.usefixtures("db")

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = f"00-{TRACE}-b7ad6b7169203331-01"
PROMPT, ANSWER = "What is the zanzibar of prompts?", "The quagga of answers."


@pytest.fixture
def kept(settings: Any) -> Iterator[Spans]:
    settings.MIDDLEWARE = [spans.MIDDLEWARE, *settings.MIDDLEWARE]
    with spans.record() as them:
        yield them


async def ask(client: AsyncClient, query: str = "", **headers: str) -> Any:
    body = {"message": PROMPT}
    return await client.post(f"/api/agent/chat{query}", body, content_type="application/json", headers=headers)


async def test_a_turn_has_its_model_calls_and_tools(kept: Spans, async_client: AsyncClient, upstream: Upstream) -> None:
    await Agent.objects.filter(pk="default").aupdate(tools=["calculator"], temperature=0.5)
    upstream.scripts = [calling(("calculator", {"expression": "6 * 7"}), usage=(11, 3)), reply(ANSWER, usage=(5, 2))]
    await streams.read(await ask(async_client, "?stream=true", traceparent=CALLER))
    request = kept.one("POST api/agent/chat")
    assert kept.tree(request) == (
        "POST api/agent/chat",
        ("invoke_agent default", ("chat test",), ("execute_tool calculator",), ("chat test",)),
    )
    assert {span.context.trace_id for span in kept.all} == {int(TRACE, 16)}
    assert request.parent is not None
    assert f"{request.parent.span_id:016x}" == "b7ad6b7169203331"
    assert attributes(request, "http.request.method", "http.route", "http.response.status_code") == [
        *("POST", "api/agent/chat", 200)
    ]
    message = await Message.objects.aget()
    turn = dict(kept.one("invoke_agent default").attributes or {})
    assert turn.pop("assistant.time_to_first_token") == message.time_to_first_token
    assert turn == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": "openai",
        "gen_ai.agent.id": "default",
        "gen_ai.conversation.id": message.conversation_id,
        "gen_ai.request.model": "openai:test",
        "gen_ai.usage.input_tokens": 16,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.response.finish_reasons": ("stop",),
        "assistant.message.id": message.id,
        "assistant.message.status": "completed",
    }
    assert dict(kept.named("chat test")[0].attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "test",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 1024,
        "gen_ai.output.type": "text",
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.response.finish_reasons": ("tool_calls",),
    }
    sent = [received.headers["traceparent"] for received in upstream.requests]
    assert sent == [f"00-{TRACE}-{span.context.span_id:016x}-01" for span in kept.named("chat test")]


@pytest.mark.parametrize(
    ("script", "error"), [(refusing(401), "ModelRefusedCredentials"), (broken(ANSWER), "ModelError")]
)
async def test_what_fails_says_so_without_a_text(
    kept: Spans, async_client: AsyncClient, upstream: Upstream, script: Any, error: str
) -> None:
    upstream.script = script
    assert (await ask(async_client)).status_code == 502
    assert [(span.name, *attributes(span, "error.type"), span.status.status_code.name) for span in kept.all] == [
        ("POST api/agent/chat", "502", "ERROR"),
        ("invoke_agent default", "502", "ERROR"),
        ("chat test", error, "ERROR"),
    ]
    assert not any(span.events or span.status.description for span in kept.all)
    for word in ("zanzibar", "quagga", upstream.url):
        assert word not in kept.text


async def test_a_tool_that_is_called_alone_is_a_span(
    kept: Spans, async_client: AsyncClient, upstream: Upstream
) -> None:
    body = {"parameters": {"expression": "zanzibar("}}
    path = "/api/tools/calculator/execute"
    assert (await async_client.post(path, body, content_type="application/json")).status_code == 400
    request, tool = kept.all
    assert (request.name, *attributes(request, "error.type")) == ("POST api/tools/<str:name>/execute", None)
    assert (tool.name, *attributes(tool, "gen_ai.tool.name", "error.type")) == (
        *("execute_tool calculator", "calculator", "CallerError"),
    )
    assert "zanzibar" not in kept.text


@pytest.mark.parametrize(
    ("said", "handed_on", "count"),
    [(CALLER.removesuffix("01") + "00", f"00-{TRACE}-", 0), ("nonsense", "00-", 3), ("", "00-", 3)],
)
async def test_a_trace_that_is_not_sampled_is_handed_on_and_nonsense_begins_anew(
    kept: Spans, async_client: AsyncClient, upstream: Upstream, said: str, handed_on: str, count: int
) -> None:
    assert (await ask(async_client, traceparent=said, tracestate="quagga=zanzibar")).status_code == 200
    assert len(kept.all) == count
    [received] = upstream.requests
    assert received.headers["traceparent"].startswith(handed_on)
    assert "nonsense" not in received.headers["traceparent"]
    assert "tracestate" not in received.headers
    assert "zanzibar" not in kept.text


async def test_where_tracing_is_off_a_traceparent_goes_nowhere(async_client: AsyncClient, upstream: Upstream) -> None:
    assert (await ask(async_client, traceparent=CALLER)).status_code == 200
    assert "traceparent" not in upstream.requests[0].headers
