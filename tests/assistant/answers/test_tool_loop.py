"""Agents that use tools, through HTTP: the loop of a capable model."""

import asyncio
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import AsyncClient

from assistant.errors import ToolError
from assistant.models import Agent
from assistant.tools import toolbox
from assistant.tools.toolbox import tool
from tests import streams
from tests.upstream import Upstream, calling, reply

pytestmark = pytest.mark.usefixtures("db")


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch, db: None) -> dict[str, Any]:
    """Put four tools into the box, and an agent that may use them."""
    monkeypatch.setattr(toolbox, "REGISTRY", dict(toolbox.REGISTRY))
    seen: dict[str, Any] = {"together": 0, "most": 0}

    @tool(max_calls=2, max_result_chars=5)
    async def add(a: int, b: int) -> int:
        """Add two numbers."""
        seen["together"] += 1
        seen["most"] = max(seen["most"], seen["together"])
        await asyncio.sleep(0.02)
        seen["together"] -= 1
        return a + b

    @tool
    def fail() -> str:
        """Fail with a sentence."""
        raise ToolError("The weather is too bad.")

    @tool(timeout=0.05)
    async def sleep() -> None:
        """Take too long."""
        await asyncio.sleep(60)

    @tool(permission="auth.view_user")
    def users() -> int:
        """Count the users."""
        return User.objects.count()

    Agent.objects.create(id="worker", name="Worker", tools=["add", "fail", "sleep", "users", "gone"], max_tool_rounds=2)
    return seen


async def work(client: AsyncClient, headers: dict[str, str] | None = None) -> list[dict[str, Any]]:
    body = {"message": "Do it", "agent_id": "worker"}
    return await streams.read(
        await client.post("/api/agent/chat?stream=true", body, content_type="application/json", headers=headers or {})
    )


def results(events: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [(each["name"], each["result"], each["status"]) for each in events if each["type"] == "tool_result"]


async def test_a_tool_is_called_and_its_result_given_to_the_model(
    async_client: AsyncClient, upstream: Upstream, tools: Any
) -> None:
    upstream.scripts = [calling(("add", {"a": 1, "b": 2}), text="Let me see. "), reply("Three.", usage=(20, 3))]
    events = await work(async_client)
    assert [event["type"] for event in events] == ["start", "token", "tool_call", "tool_result", "token", "end"]
    assert events[2] | {"tool_call_id": "call_0"} == events[2]
    assert (events[2]["name"], events[2]["parameters"]) == ("add", {"a": 1, "b": 2})
    assert results(events) == [("add", "3", "completed")]
    assert events[-1]["usage"] == {"input_tokens": 25, "output_tokens": 5}
    told = upstream.requests[1].body["messages"][-2:]
    assert told[0]["role"] == "assistant"
    assert told[0]["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"a": 1, "b": 2}'}
    assert told[1] == {"role": "tool", "tool_call_id": "call_0", "content": "3"}


async def test_the_record_has_the_call_with_its_result(
    async_client: AsyncClient, upstream: Upstream, tools: Any
) -> None:
    upstream.scripts = [calling(("add", {"a": 1, "b": 2})), reply("Three.")]
    message_id = (await work(async_client))[0]["message_id"]
    message = (await async_client.get(f"/api/agent/messages/{message_id}")).json()
    expected = {"tool_call_id": "call_0", "name": "add", "parameters": {"a": 1, "b": 2}, "result": "3"}
    assert message["tool_calls"] == [expected | {"status": "completed"}]


async def test_calls_of_one_round_run_side_by_side(async_client: AsyncClient, upstream: Upstream, tools: Any) -> None:
    upstream.scripts = [calling(("add", {"a": 1, "b": 2}), ("add", {"a": 3, "b": 4})), reply("Done.")]
    assert results(await work(async_client)) == [("add", "3", "completed"), ("add", "7", "completed")]
    assert tools["most"] == 2


@pytest.mark.parametrize(
    ("name", "parameters", "said"),
    [
        ("fail", {}, "The weather is too bad."),
        ("sleep", {}, "took longer than 0.05 s"),
        ("add", {"a": "1", "b": 2}, "a: Input should be a valid integer"),
        ("add", {"a": 1}, "b: This parameter is required."),
        ("nothing", {}, "There is no tool named nothing."),
        ("search", {"query": "x"}, "There is no tool named search."),
        ("users", {}, "There is no tool named users."),
    ],
)
async def test_a_failing_tool_is_told_to_the_model(
    async_client: AsyncClient, upstream: Upstream, tools: Any, name: str, parameters: dict[str, Any], said: str
) -> None:
    upstream.scripts = [calling((name, parameters)), reply("I see.")]
    events = await work(async_client)
    [(_, result, status)] = results(events)
    assert status == "failed"
    assert said in result
    assert upstream.requests[1].body["messages"][-1]["content"] == result
    assert events[-1]["type"] == "end"


async def test_a_tool_that_needs_a_permission_is_offered_to_who_has_it(
    async_client: AsyncClient, upstream: Upstream, tools: Any, ada: User, as_ada: dict[str, str]
) -> None:
    def offered() -> set[str]:
        return {each["function"]["name"] for each in upstream.requests[-1].body["tools"]}

    await work(async_client)
    assert offered() == {"add", "fail", "sleep"}
    await User.objects.filter(pk=ada.pk).aupdate(is_superuser=True)
    upstream.scripts = [calling(("users", {})), reply("One.")]
    assert results(await work(async_client, as_ada)) == [("users", "1", "completed")]
    assert offered() == {"add", "fail", "sleep", "users"}


async def test_rounds_are_bounded(async_client: AsyncClient, upstream: Upstream, tools: Any) -> None:
    upstream.script = calling(("fail", {}))
    events = await work(async_client)
    assert len(upstream.requests) == 3
    assert "tools" not in upstream.requests[-1].body
    assert events[-1]["type"] == "end"


async def test_calls_of_a_tool_are_bounded(async_client: AsyncClient, upstream: Upstream, tools: Any) -> None:
    upstream.scripts = [calling(*[("add", {"a": 1, "b": 1})] * 3), reply("Two.")]
    assert [status for *_, status in results(await work(async_client))] == ["completed", "completed", "failed"]


async def test_a_model_is_given_as_much_of_a_result_as_the_tool_allows(
    async_client: AsyncClient, upstream: Upstream, tools: Any
) -> None:
    upstream.scripts = [calling(("add", {"a": 1_000_000, "b": 1})), reply("Much.")]
    await work(async_client)
    assert upstream.requests[1].body["messages"][-1]["content"].startswith("10000... ")


async def test_the_answers_tokens_are_bounded_over_all_rounds(
    async_client: AsyncClient, upstream: Upstream, tools: Any
) -> None:
    await Agent.objects.filter(pk="worker").aupdate(max_output_tokens=10)
    upstream.scripts = [calling(("fail", {}), usage=(5, 4)), calling(("fail", {}), usage=(5, 7)), reply("Never.")]
    events = await work(async_client)
    assert [request.body["max_tokens"] for request in upstream.requests] == [10, 6]
    assert events[-1]["finish_reason"] == "length"
