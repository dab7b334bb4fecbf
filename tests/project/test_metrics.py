"""`/metrics`, scraped from the real server after traffic that is known."""

import asyncio
import json
from collections.abc import Iterator

import pytest
import requests
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from tests.processes import PATIENCE, Served, serving
from tests.streams import check, parse
from tests.upstream import Hold, Upstream, holding, refusing, reply, until

pytestmark = pytest.mark.server

TOKEN = "for the tests only"


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream().in_thread() as server:
        yield server


@pytest.fixture
def service(upstream: Upstream) -> Iterator[Served]:
    env = {"METRICS_TOKEN": TOKEN, "CHAT_CONCURRENCY_PER_CALLER": "1"}
    with serving(ASSISTANT_MODEL="openai:test", OPENAI_BASE_URL=upstream.url, **env) as it:
        yield it


def scrape(service: Served) -> dict[str, float]:
    """Return the samples of our own metrics that aren't nought, but for those of moments."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    response = requests.get(f"{service.url}/metrics", headers=headers, timeout=PATIENCE)
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
        if sample.name.startswith(("assistant_", "batching_"))
        and not sample.name.endswith(("_created", "_bucket", "_sum"))
        and sample.value
    }


def ask(service: Served, query: str = "?stream=true", **options: bool) -> requests.Response:
    return requests.post(f"{service.url}/api/agent/chat{query}", json={"message": "Hi"}, timeout=PATIENCE, **options)


def check_the_token_is_wanted(service: Served) -> None:
    for said in ("", "Bearer", f"Basic {TOKEN}", "Bearer nonsense", f"Bearer {TOKEN}x", "Bearer \xe9"):
        headers = {"Authorization": said.encode("latin-1")} if said else {}
        response = requests.get(f"{service.url}/metrics", headers=headers, timeout=PATIENCE)
        assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, "Bearer")


def test_traffic_is_counted(service: Served, upstream: Upstream) -> None:
    check_the_token_is_wanted(service)
    assert scrape(service) == {}
    upstream.script = reply("One", " two", " three", pause=0.06)
    for query in ("?stream=true", ""):
        assert ask(service, query).status_code == 200
    upstream.script = refusing(401)
    check(parse(ask(service).content))
    upstream.script = refusing(429, Retry_After="3")
    assert ask(service, "").status_code == 503
    hold = Hold()
    upstream.script = holding("One", hold=hold)
    with ask(service, stream=True) as stream:
        lines = stream.iter_lines()
        next(lines)
        message_id = json.loads(next(lines)[6:])["message_id"]
        asyncio.run(until(lambda: scrape(service).get("assistant_streams_open")))
        now = scrape(service)
        assert (now["assistant_answers_running"], now["assistant_streams_open"]) == (1, 1)
        assert [ask(service, query).status_code for query in ("", "?stream=true")] == [429, 429]
        requests.post(f"{service.url}/api/agent/messages/{message_id}/stop", timeout=PATIENCE)
    asyncio.run(until(lambda: "assistant_streams_open" not in scrape(service)))
    tool = {"method": "POST", "path": "/api/tools/calculator/execute"}
    expressions = {"good": "6 * 7", "bad": "6 *"}
    items = [{**tool, "id": name, "body": {"parameters": {"expression": it}}} for name, it in expressions.items()]
    batch = {"requests": items}
    assert requests.post(f"{service.url}/api/batch", json=batch, timeout=PATIENCE).status_code == 200
    asyncio.run(until(lambda: "batching_batches_total completed" in scrape(service)))
    assert scrape(service) == {
        "assistant_answers_total default completed": 2,
        "assistant_answers_total default failed": 2,
        "assistant_answers_total default cancelled": 1,
        "assistant_answers_refused_total caller": 2,
        "assistant_answer_duration_seconds_count openai:test": 5,
        "assistant_model_errors_total ModelRefusedCredentials openai:test": 1,
        "assistant_model_errors_total ModelBusy openai:test": 1,
        "assistant_time_to_first_token_seconds_count openai:test": 3,
        "assistant_token_gap_seconds_count": 4,
        "assistant_tokens_total input openai:test": 10,
        "assistant_tokens_total output openai:test": 4,
        "assistant_tool_duration_seconds_count completed calculator": 1,
        "assistant_tool_duration_seconds_count refused calculator": 1,
        "batching_batches_total completed": 1,
        "batching_items_total failed": 1,
        "batching_items_total succeeded": 1,
    }


def test_without_a_token_there_is_no_such_page(client: Client) -> None:
    assert client.get("/metrics", headers={"authorization": "Bearer "}).status_code == 404
