"""The seed document's requests and clients, verbatim, against the real server and the real model."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import Page

from tests.browser.conftest import page  # noqa: F401  # a fixture
from tests.processes import PATIENCE, Served, prepared, serving
from tests.streams import check

pytestmark = [pytest.mark.server, pytest.mark.model]

SEED = Path(__file__).parent / "seed"


@pytest.fixture(scope="module")
def service() -> Iterator[Served]:
    with serving(prepared, ASSISTANT_MODEL="local:smollm2") as it:
        yield it


def check_events(events: list[dict[str, Any]]) -> None:
    check(list(enumerate(events, start=1)))
    assert events[-1]["type"] == "end"
    assert events[-1]["message_id"] == events[0]["message_id"]
    assert len("".join(event.get("content", "") for event in events)) > 20


def test_the_python_client_works(service: Served) -> None:
    events: list[dict[str, Any]] = []
    # Only the port is another: 8000 may be somebody's on this machine.
    text = (SEED / "client.txt").read_text().replace("http://localhost:8000", service.url)
    exec(text, {"handle_stream_event": events.append})  # noqa: S102  # it is the test
    check_events(events)


@pytest.mark.browser
def test_the_javascript_client_works(service: Served, page: Page) -> None:  # noqa: F811  # the fixture above
    page.goto(service.url)
    events = page.evaluate(
        "async () => { const events = []; const handleStreamEvent = (event) => events.push(event);"
        f"{(SEED / 'client.js').read_text()}; return events; }}"
    )
    check_events(events)


def test_a_chat_answers(service: Served) -> None:
    body = {"message": "What is Python?", "agent_id": "default"}
    response = requests.post(f"{service.url}/api/agent/chat", json=body, timeout=PATIENCE * 4)
    assert response.status_code == 200
    assert response.json()["response"]


def test_a_tool_is_called(service: Served) -> None:
    body = {"parameters": {"query": "machine learning"}}
    response = requests.post(f"{service.url}/api/tools/search/execute", json=body, timeout=PATIENCE * 4)
    assert response.status_code == 200
    assert response.json()["result"].startswith("1. Machine learning - ")


def test_the_researcher_answers_with_sources(service: Served) -> None:
    body = {"message": "What is machine learning?", "agent_id": "researcher"}
    answer = requests.post(f"{service.url}/api/agent/chat", json=body, timeout=PATIENCE * 4).json()
    assert "machine learning" in answer["tool_calls"][0]["parameters"]["query"].lower()
    text, _, sources = answer["response"].partition("\n\nSources:\n")
    assert len(text) > 20
    assert sources.startswith("[1] Machine learning https://en.wikipedia.org/wiki/Machine_learning")


def test_the_service_says_that_it_is_ready(service: Served) -> None:
    assert requests.get(f"{service.url}/healthz", timeout=PATIENCE * 4).json() == {"status": "ok"}
    assert requests.get(f"{service.url}/readyz", timeout=PATIENCE * 4).json() == {"status": "ok"}
