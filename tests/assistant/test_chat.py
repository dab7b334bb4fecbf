"""Chat without a stream, through HTTP."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from django.test import AsyncClient, Client
from django.utils import timezone

from assistant.answers.run import registry
from assistant.models import Agent, Conversation, Message
from tests.upstream import Hold, Script, Upstream, broken, holding, refusing, reply, until

pytestmark = pytest.mark.usefixtures("db")


async def chat(client: AsyncClient, query: str = "", headers: dict[str, str] | None = None, **body: Any) -> Any:
    asked = {"message": "Hi", **body}
    return await client.post(f"/api/agent/chat{query}", asked, content_type="application/json", headers=headers or {})


def given(upstream: Upstream, number: int = -1) -> list[tuple[str, str]]:
    """Return what the model was told in a call, as (role, content) pairs."""
    return [(message["role"], message["content"]) for message in upstream.requests[number].body["messages"]]


async def test_an_answer_has_the_contracts_shape(async_client: AsyncClient, upstream: Upstream) -> None:
    upstream.script = reply("Hello", " ", "world", usage=(7, 3))
    response = await chat(async_client)
    body = response.json()
    assert response.status_code == 200
    assert body.pop("message_id").startswith("msg_")
    assert body.pop("conversation_id").startswith("conv_")
    assert body.pop("processing_time") > 0
    assert body == {
        "agent_id": "default",
        "response": "Hello world",
        "finish_reason": "stop",
        "tool_calls": [],
        "usage": {"input_tokens": 7, "output_tokens": 3},
    }


async def test_what_was_said_is_there_to_read(async_client: AsyncClient, upstream: Upstream) -> None:
    answer = (await chat(async_client, message="What is it?")).json()
    message = (await async_client.get(f"/api/agent/messages/{answer['message_id']}")).json()
    assert message == message | answer
    assert (message["status"], message["message"], message["error"]) == ("completed", "What is it?", None)
    assert 0 < message["time_to_first_token"] <= message["processing_time"]
    conversation = (await async_client.get(f"/api/conversations/{answer['conversation_id']}")).json()
    assert conversation["title"] == "What is it?"
    assert conversation["messages"] == [message]


async def test_earlier_turns_are_context(async_client: AsyncClient, upstream: Upstream) -> None:
    await Agent.objects.filter(pk="default").aupdate(instructions="Be kind.")
    upstream.scripts = [reply("One"), reply("Two"), reply("Three")]
    first = (await chat(async_client, message="a")).json()
    await chat(async_client, message="b", conversation_id=first["conversation_id"])
    await chat(async_client, message="c", conversation_id=first["conversation_id"])
    assert given(upstream) == [
        ("system", "Be kind."),
        *(("user", "a"), ("assistant", "One"), ("user", "b"), ("assistant", "Two")),
        ("user", "c"),
    ]


async def test_two_conversations_know_nothing_of_each_other(async_client: AsyncClient, upstream: Upstream) -> None:
    await chat(async_client, message="a secret")
    await chat(async_client, message="b")
    assert "a secret" not in str(given(upstream))


async def test_a_conversation_keeps_its_agent(async_client: AsyncClient, upstream: Upstream) -> None:
    await Agent.objects.acreate(id="pirate", name="Pirate", instructions="Arr.")
    first = (await chat(async_client, agent_id="pirate")).json()
    second = (await chat(async_client, conversation_id=first["conversation_id"])).json()
    other = (await chat(async_client, conversation_id=first["conversation_id"], agent_id="default")).json()
    assert (second["agent_id"], other["agent_id"]) == ("pirate", "default")


async def test_the_agents_settings_reach_the_model(async_client: AsyncClient, upstream: Upstream) -> None:
    await Agent.objects.acreate(
        id="cool", name="Cool", model="openai:other", temperature=0.25, max_output_tokens=17, instructions=""
    )
    await chat(async_client, agent_id="cool")
    sent = upstream.requests[-1].body
    assert (sent["model"], sent["temperature"], sent["max_tokens"]) == ("other", 0.25, 17)
    assert given(upstream) == [("user", "Hi")]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"message": 1}, "message"),
        ({"message": None}, "message"),
        ({"message": ""}, "message"),
        ({"message": " \n"}, "message"),
        ({"message": "x" * 32_001}, "message"),
        ({"agent_id": 5}, "agent_id"),
        ({"conversation_id": []}, "conversation_id"),
        ({"stream": "true"}, "stream"),
        ({"mesage": "Hi"}, "mesage"),
    ],
)
def test_a_bad_field_is_named(client: Client, body: dict[str, Any], field: str) -> None:
    response = client.post("/api/agent/chat", {"message": "Hi", **body}, content_type="application/json")
    assert response.status_code == 400
    assert list(response.json()["details"]) == [field]
    assert not Message.objects.exists()


@pytest.mark.parametrize("body", ["[]", "1", '"message"', "null"])
def test_a_body_that_is_no_object_is_refused(client: Client, body: str) -> None:
    assert client.generic("POST", "/api/agent/chat", body, "application/json").status_code == 400


def test_the_longest_message_is_taken(client: Client, settings: Any) -> None:
    with Upstream().in_thread() as upstream:
        settings.ASSISTANT_MODEL, settings.OPENAI_BASE_URL = "openai:longest", upstream.url
        response = client.post("/api/agent/chat", {"message": "x" * 32_000}, content_type="application/json")
    assert response.status_code == 200


@pytest.mark.parametrize("query", ["?stream=maybe", "?on_disconnect=never"])
def test_a_bad_query_is_refused(client: Client, query: str) -> None:
    response = client.post(f"/api/agent/chat{query}", {"message": "Hi"}, content_type="application/json")
    assert response.status_code == 400


@pytest.mark.parametrize("body", [{"agent_id": "nobody"}, {"agent_id": ""}, {"conversation_id": "conv_x"}])
def test_what_is_unknown_is_404(client: Client, body: dict[str, Any]) -> None:
    response = client.post("/api/agent/chat", {"message": "Hi", **body}, content_type="application/json")
    assert response.status_code in (400, 404)
    assert not Conversation.objects.exists()


@pytest.mark.parametrize("agent", [{"is_enabled": False}, {"is_public": False}])
def test_an_agent_that_the_caller_may_not_use_is_404(client: Client, agent: dict[str, Any]) -> None:
    Agent.objects.create(id="hidden", name="Hidden", **agent)
    body = {"message": "Hi", "agent_id": "hidden"}
    assert client.post("/api/agent/chat", body, content_type="application/json").status_code == 404


def test_an_agent_whose_model_is_not_set_up_is_503(client: Client) -> None:
    Agent.objects.create(id="odd", name="Odd", model="nonsense")
    response = client.post("/api/agent/chat", {"message": "Hi", "agent_id": "odd"}, content_type="application/json")
    assert (response.status_code, response.json()["error"]) == (503, "This agent's model isn't set up.")
    assert not Message.objects.exists()


@pytest.mark.parametrize(
    ("script", "status"),
    [
        (refusing(500, {"error": {"message": "secret"}}), 502),
        (refusing(401, {"error": {"message": "secret"}}), 502),
        (refusing(429, {"error": {"message": "secret"}}, Retry_After="7"), 503),
        (refusing(400, {"error": {"code": "context_length_exceeded", "message": "secret"}}), 400),
        (broken("Hel"), 502),
        (Script([b"<html>secret</html>"], headers={"Content-Type": "text/html"}), 502),
    ],
)
async def test_a_failing_model_is_one_clear_error(
    async_client: AsyncClient, upstream: Upstream, script: Script, status: int
) -> None:
    upstream.script = script
    response = await chat(async_client)
    assert response.status_code == status
    assert set(response.json()) == {"error", "code"}
    assert "secret" not in response.content.decode()
    assert response.get("Retry-After") == ("7" if status == 503 else None)
    message = await Message.objects.aget()
    assert (message.status, message.error["code"]) == ("failed", status)
    assert message.text == ("Hel" if script.steps and len(script.steps) > 1 else "")


async def test_a_conversation_goes_on_after_a_failure(async_client: AsyncClient, upstream: Upstream) -> None:
    upstream.scripts = [reply("One"), refusing(500), reply("Three")]
    first = (await chat(async_client, message="a")).json()
    assert (await chat(async_client, message="b", conversation_id=first["conversation_id"])).status_code == 502
    assert (await chat(async_client, message="c", conversation_id=first["conversation_id"])).status_code == 200
    assert [content for _, content in given(upstream)[1:]] == ["a", "One", "c"]


async def test_two_messages_at_once_in_a_conversation_are_one_too_many(
    async_client: AsyncClient, upstream: Upstream
) -> None:
    hold = Hold()
    upstream.scripts = [reply("One"), holding("Two", hold=hold), reply("Three")]
    where = {"conversation_id": (await chat(async_client)).json()["conversation_id"]}
    second = asyncio.create_task(chat(async_client, **where))
    await until(lambda: len(upstream.requests) == 2)
    assert (await chat(async_client, **where)).status_code == 409
    hold.release()
    assert (await second).status_code == 200
    assert (await chat(async_client, **where)).status_code == 200
    assert await Message.objects.acount() == 3


async def test_an_answer_whose_process_died_does_not_block_its_conversation(
    async_client: AsyncClient, upstream: Upstream
) -> None:
    where = {"conversation_id": (await chat(async_client)).json()["conversation_id"]}
    long_ago = timezone.now() - timedelta(hours=1)
    await Message.objects.aupdate(status="running", lease_expires_at=long_ago)
    assert (await chat(async_client, **where)).status_code == 200
    oldest = await Message.objects.order_by("created_at").afirst()
    assert oldest
    assert oldest.status == "interrupted"
    read = (await async_client.get(f"/api/agent/messages/{oldest.id}")).json()
    assert read["error"]["code"] == 503


KEY = {"idempotency-key": "k-1"}


async def test_a_key_replays_the_answer(async_client: AsyncClient, upstream: Upstream) -> None:
    first = await chat(async_client, headers=KEY)
    again = await chat(async_client, headers=KEY)
    assert first.json() == again.json()
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("status", ["interrupted", "running"])
async def test_a_key_whose_answer_was_interrupted_is_answered_anew(
    async_client: AsyncClient, upstream: Upstream, status: str
) -> None:
    upstream.scripts = [reply("Half"), reply("Whole")]
    first = (await chat(async_client, headers=KEY)).json()
    long_ago = timezone.now() - timedelta(hours=1)
    await Message.objects.aupdate(status=status, lease_expires_at=long_ago)
    assert (await chat(async_client, headers=KEY, message="another")).status_code == 422
    again = (await chat(async_client, headers=KEY)).json()
    assert (again["response"], again["message_id"] != first["message_id"]) == ("Whole", True)
    assert (await chat(async_client, headers=KEY)).json() == again


async def test_a_key_joins_the_answer_that_is_being_written(async_client: AsyncClient, upstream: Upstream) -> None:
    hold = Hold()
    upstream.script = holding("One", hold=hold, then=[" two"])
    calls = [asyncio.create_task(chat(async_client, headers=KEY)) for _ in range(4)]
    await until(lambda: upstream.requests)
    hold.release()
    answers = [(await call).json() for call in calls]
    assert answers[0]["response"] == "One two"
    assert all(answer == answers[0] for answer in answers)
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("other", [{"message": "Other"}, {"agent_id": "default"}])
async def test_a_key_with_another_body_is_422(
    async_client: AsyncClient, upstream: Upstream, other: dict[str, str]
) -> None:
    await chat(async_client, headers=KEY)
    assert (await chat(async_client, headers=KEY, **other)).status_code == 422
    assert len(upstream.requests) == 1


async def test_a_key_replays_a_failure_too(async_client: AsyncClient, upstream: Upstream) -> None:
    upstream.script = refusing(500)
    assert (await chat(async_client, headers=KEY)).status_code == 502
    assert (await chat(async_client, headers=KEY)).status_code == 502
    assert len(upstream.requests) == 1


async def test_a_key_belongs_to_its_caller_and_to_a_day(
    async_client: AsyncClient, upstream: Upstream, as_ada: dict[str, str]
) -> None:
    await chat(async_client, headers=KEY)
    await chat(async_client, headers=KEY | as_ada, message="Other")
    assert len(upstream.requests) == 2
    await Message.objects.aupdate(created_at=timezone.now() - timedelta(days=1, seconds=1))
    assert (await chat(async_client, headers=KEY, message="Another")).status_code == 200


@pytest.mark.parametrize("key", ["", "x" * 256, "é"])
def test_a_key_that_makes_no_sense_is_refused(client: Client, key: str) -> None:
    headers = {"idempotency-key": key}
    response = client.post("/api/agent/chat", {"message": "Hi"}, content_type="application/json", headers=headers)
    assert (response.status_code, list(response.json()["details"])) == (400, ["Idempotency-Key"])


async def test_a_client_that_leaves_ends_the_answer_after_the_grace(
    async_client: AsyncClient, upstream: Upstream, settings: Any
) -> None:
    settings.STREAM_DISCONNECT_GRACE = 0.05
    upstream.script = holding("One")
    call = asyncio.create_task(chat(async_client))
    await until(lambda: upstream.requests)
    call.cancel()
    await until(lambda: upstream.requests[0].closed_at)
    await until(lambda: not registry.running())
    message = await Message.objects.aget()
    assert (message.status, message.text) == ("cancelled", "One")


async def test_a_model_with_all_its_places_taken_is_503(
    async_client: AsyncClient, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assistant.providers.openai.OpenAIModel.capacity", 1)
    upstream.script = holding("One")
    call = asyncio.create_task(chat(async_client, "?on_disconnect=cancel"))
    await until(lambda: upstream.requests)
    response = await chat(async_client)
    assert (response.status_code, 1 <= int(response["Retry-After"]) <= 5) == (503, True)
    assert await Message.objects.acount() == 1
    call.cancel()
    await until(lambda: not registry.running())
    upstream.script = reply("Two")
    assert (await chat(async_client)).status_code == 200


async def test_deleting_a_conversation_ends_its_answer(async_client: AsyncClient, upstream: Upstream) -> None:
    upstream.script = holding("One")
    call = asyncio.create_task(chat(async_client))
    await until(lambda: upstream.requests)
    conversation = await Conversation.objects.aget()
    assert (await async_client.delete(f"/api/conversations/{conversation.id}")).status_code == 204
    await until(lambda: upstream.requests[0].closed_at)
    assert (await call).json()["finish_reason"] == "cancelled"
    assert not await Message.objects.aexists()


def test_chat_works_under_wsgi(client: Client, settings: Any) -> None:
    with Upstream(reply("Hello")).in_thread() as upstream:
        settings.ASSISTANT_MODEL, settings.OPENAI_BASE_URL = "openai:wsgi", upstream.url
        for _ in range(2):
            response = client.post("/api/agent/chat", {"message": "Hi"}, content_type="application/json")
            assert response.json()["response"] == "Hello"
    assert client.post("/api/agent/chat?stream=true", {"message": "Hi"}, "application/json").status_code == 403
