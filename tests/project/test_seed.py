"""The seed document's requests and clients, verbatim, against the real server and the real model."""

from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import Page

from tests.browser.conftest import page  # noqa: F401  # a fixture
from tests.processes import PATIENCE, Served
from tests.streams import check

pytestmark = [pytest.mark.server, pytest.mark.model]

SEED = Path(__file__).parent / "seed"


def check_events(events: list[dict[str, Any]]) -> None:
    check(list(enumerate(events, start=1)))
    assert events[-1]["type"] == "end"
    assert events[-1]["message_id"] == events[0]["message_id"]
    assert len("".join(event.get("content", "") for event in events)) > 20


def test_the_python_client_works(real: Served) -> None:
    events: list[dict[str, Any]] = []
    # Only the port is another: 8000 may be somebody's on this machine.
    text = (SEED / "client.txt").read_text().replace("http://localhost:8000", real.url)
    exec(text, {"handle_stream_event": events.append})  # noqa: S102  # it is the test
    check_events(events)


@pytest.mark.browser
def test_the_javascript_client_works(real: Served, page: Page) -> None:  # noqa: F811  # the fixture above
    page.goto(real.url)
    events = page.evaluate(
        "async () => { const events = []; const handleStreamEvent = (event) => events.push(event);"
        f"{(SEED / 'client.js').read_text()}; return events; }}"
    )
    check_events(events)


def test_a_chat_answers(real: Served) -> None:
    body = {"message": "What is Python?", "agent_id": "default"}
    response = requests.post(f"{real.url}/api/agent/chat", json=body, timeout=PATIENCE * 4)
    assert response.status_code == 200
    assert response.json()["response"]


def test_a_tool_is_called(real: Served) -> None:
    body = {"parameters": {"query": "machine learning"}}
    response = requests.post(f"{real.url}/api/tools/search/execute", json=body, timeout=PATIENCE * 4)
    assert response.status_code == 200
    assert response.json()["result"].startswith("1. Machine learning - ")


def test_the_researcher_answers_with_sources(real: Served) -> None:
    body = {"message": "What is machine learning?", "agent_id": "researcher"}
    answer = requests.post(f"{real.url}/api/agent/chat", json=body, timeout=PATIENCE * 4).json()
    assert "machine learning" in answer["tool_calls"][0]["parameters"]["query"].lower()
    text, _, sources = answer["response"].partition("\n\nSources:\n")
    assert len(text) > 20
    assert sources.startswith("[1] Machine learning https://en.wikipedia.org/wiki/Machine_learning")


def test_the_service_says_that_it_is_ready(real: Served) -> None:
    assert requests.get(f"{real.url}/healthz", timeout=PATIENCE * 4).json() == {"status": "ok"}
    assert requests.get(f"{real.url}/readyz", timeout=PATIENCE * 4).json() == {"status": "ok"}
