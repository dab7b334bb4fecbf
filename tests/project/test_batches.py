"""Batches of this service's own requests: the seed document's, verbatim, and one that streams."""

import json
from typing import Any

import pytest
import requests

from tests.processes import PATIENCE, Served, serving
from tests.streams import check, parse
from tests.upstream import Upstream, reply

pytestmark = pytest.mark.server

SEED: dict[str, Any] = {
    "requests": [
        {
            "id": "req_1",
            "method": "POST",
            "path": "/api/agent/chat",
            "body": {"message": "What is Python?", "agent_id": "default"},
        },
        {
            "id": "req_2",
            "method": "POST",
            "path": "/api/tools/search/execute",
            "body": {"parameters": {"query": "machine learning"}},
        },
    ]
}


@pytest.fixture(scope="module")
def model() -> Any:
    with Upstream(reply("Python is", " a language.")).in_thread() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def service(model: Upstream) -> Any:
    with serving(ASSISTANT_MODEL="openai:test", OPENAI_BASE_URL=model.url) as it:
        yield it


def send(service: Served, body: Any, query: str = "", **headers: str) -> requests.Response:
    return requests.post(f"{service.url}/api/batch{query}", json=body, headers=headers, timeout=PATIENCE)


def test_the_seeds_batch_works(service: Served) -> None:
    answer = send(service, SEED).json()
    first, second = answer["responses"]
    assert (first["id"], first["status"], first["body"]["response"]) == ("req_1", 200, "Python is a language.")
    assert (second["id"], second["status"]) == ("req_2", 200)
    assert isinstance(second["body"]["result"], str)
    assert answer["total_processing_time"] > 0


def test_one_item_builds_on_another(service: Served) -> None:
    ask, find = SEED["requests"]
    query = {"parameters": {"query": "{{req_1.body.response}}", "limit": 1}}
    answer = send(service, {"requests": [ask, {**find, "body": query, "depends_on": ["req_1"]}]}).json()
    assert answer["responses"][1]["body"]["data"]["query"] == "Python is a language."


def test_a_chat_streams_its_tokens_tagged_with_its_item(service: Served) -> None:
    chat, search = SEED["requests"]
    streamed = {**chat, "body": {**chat["body"], "stream": True}}
    response = send(service, {"requests": [streamed, search]}, "?stream=true")
    events = [event for _, event in parse(response.content)]
    assert events[0]["type"] == "start"
    assert (events[-1]["type"], events[-1]["counts"]["succeeded"]) == ("end", 2)
    assert {event["id"] for event in events if event["type"] == "response"} == {"req_1", "req_2"}
    inner = [event["event"] for event in events if event["type"] == "item"]
    assert {event["id"] for event in events if event["type"] == "item"} == {"req_1"}
    check(list(enumerate(inner, start=1)))
    assert "".join(event.get("content", "") for event in inner) == "Python is a language."


def test_a_stream_outside_a_streamed_batch_is_406_and_asks_no_model(service: Served, model: Upstream) -> None:
    chat = SEED["requests"][0]
    asked = len(model.requests)
    answer = send(service, {"requests": [{**chat, "path": "/api/agent/chat?stream=true"}]}).json()
    assert answer["responses"][0]["status"] == 406
    assert send(service, {"requests": [chat]}).json()["counts"]["succeeded"] == 1
    assert len(model.requests) == asked + 1


def test_a_line_for_each_response(service: Served) -> None:
    response = send(service, SEED, Accept="application/x-ndjson")
    kinds = [json.loads(line)["type"] for line in response.text.splitlines()]
    assert (kinds[0], kinds[-1], kinds.count("response")) == ("start", "end", 2)


def test_a_message_sent_twice_with_one_key_is_answered_once(service: Served) -> None:
    first = send(service, SEED, **{"Idempotency-Key": "once"})
    again = send(service, SEED, **{"Idempotency-Key": "once"})
    assert first.json() == again.json()
    assert again.headers["Idempotency-Replayed"] == "true"


def test_a_background_batch_is_chatted_through_while_the_service_goes_on(service: Served, model: Upstream) -> None:
    chat = SEED["requests"][0]
    said = [{**chat, "id": str(n), "body": {"message": f"{n} {'x' * 30_000}"}} for n in range(80)]
    lines = "".join(f"{json.dumps(one)}\n" for one in said)  # more than another body may have
    headers = {"Prefer": "respond-async", "Content-Type": "application/x-ndjson"}
    accepted = requests.post(f"{service.url}/api/batch", data=lines, headers=headers, timeout=PATIENCE)
    assert accepted.status_code == 202
    url = f"{service.url}{accepted.headers['Location']}"
    assert send(service, SEED).json()["counts"]["succeeded"] == 2
    last = [event for _, event in parse(requests.get(f"{url}/events", timeout=120).content)][-1]
    assert (last["type"], last["counts"]["succeeded"]) == ("end", 80)
    answers = [json.loads(line) for line in requests.get(f"{url}/results", timeout=PATIENCE).iter_lines()]
    assert [one["position"] for one in answers] == list(range(80))
    assert {one["body"]["response"] for one in answers} == {"Python is a language."}
