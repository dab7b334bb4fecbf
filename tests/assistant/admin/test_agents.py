"""Agents in the admin: validated, warned about, tried."""

import html
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.test import Client, override_settings

from assistant.models import Agent
from assistant.providers.registry import load
from tests.assistant.admin.pages import agent_form, errors, shown_messages, turn

pytestmark = pytest.mark.usefixtures("db")

KEY_MISSING = "needs a key: set OPENAI_API_KEY."


def test_an_agent_is_made(admin: Client, server: list[str]) -> None:
    form = agent_form(tools=["search"], temperature="0.5", model="openai:gpt")
    response = admin.post("/admin/assistant/agent/add/", form)
    assert response.status_code == 302, errors(response.content)
    agent = Agent.objects.get(pk="cook")
    assert (agent.tools, agent.temperature, agent.model_name) == (["search"], 0.5, "openai:gpt")


@pytest.fixture
def server(settings: Any) -> Iterator[list[str]]:
    """A model's server; what it lists may be changed."""
    models = ["gpt"]

    class Lists(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.headers["Authorization"] == "Bearer right" else 401)
            self.end_headers()
            self.wfile.write(json.dumps({"data": [{"id": name} for name in models]}).encode())

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Lists) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        settings.OPENAI_BASE_URL = f"http://127.0.0.1:{listening.server_port}/v1"
        settings.OPENAI_API_KEY = "right"
        load.cache_clear()
        yield models
        listening.shutdown()
        thread.join()
    load.cache_clear()


def test_the_admin_says_what_speaks_against_a_model(admin: Client, server: list[str], settings: Any) -> None:
    def save(**changes: Any) -> str:
        load.cache_clear()
        form = agent_form(**changes, _continue="on")
        return shown_messages(admin.post("/admin/assistant/agent/default/change/", form, follow=True))

    assert "server" not in save(model="openai:gpt")
    server[:] = ["gpt-5", "gpt-5-mini", "llama"]
    assert "doesn't list gpt-6; it lists gpt-5, gpt-5-mini, llama." in save(model="openai:gpt-6")
    # Nothing to ask about.
    assert "server" not in save(model="openai:gpt-6", name="Chef")
    settings.OPENAI_API_KEY = "wrong"
    assert "refuses OPENAI_API_KEY" in save(model="openai:gpt-5")
    settings.OPENAI_BASE_URL = "http://127.0.0.1:9/v1"
    assert "can't be reached" in save(model="openai:llama")
    assert Agent.objects.get(pk="default").model == "openai:llama"
    assert "doesn't use calculator" in save(model="local:smollm2", tools=["search", "calculator"])


def test_an_agent_that_can_no_longer_answer_says_so(admin: Client, settings: Any) -> None:
    Agent.objects.filter(pk="default").update(tools=["gone", "fetch_url"], model="openai:gpt")
    settings.OPENAI_API_KEY, settings.OPENAI_BASE_URL = "", "https://api.openai.com/v1"
    load.cache_clear()
    for address in ("/admin/assistant/agent/", "/admin/assistant/agent/default/change/"):
        page = html.unescape(admin.get(address).content.decode())
        assert KEY_MISSING in page
        assert "aren't installed, or are disabled: gone, fetch_url." in page
    load.cache_clear()


def test_an_agent_is_tried_by_who_may_ask_it(admin: Client, settings: Any) -> None:
    address = "/admin/assistant/agent/default/change/"
    page = admin.get(address).content.decode()
    assert 'data-api="/api/"' in page
    assert 'data-agent="default"' in page
    Agent.objects.filter(pk="default").update(is_public=False)
    assert "Only members of its groups can ask" in admin.get(address).content.decode()
    Agent.objects.filter(pk="default").update(is_enabled=False)
    page = admin.get(address).content.decode()
    assert "This agent is disabled" in page
    assert "try.js" not in page
    with override_settings(ROOT_URLCONF="tests.assistant.admin.urls"):
        assert "Try it" not in admin.get(address).content.decode()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "openai:gpt"}, KEY_MISSING),
        ({"model": "gpt"}, "not of the form provider:name"),
        ({"model": "local:/nowhere.gguf"}, "/nowhere.gguf"),
        ({"model": "nobody:x"}, "nobody"),
        ({"tools": ["nothing"]}, "nothing"),
        ({"tools": ["fetch_url"]}, "fetch_url"),
        ({"temperature": "3"}, "less than or equal to 2"),
        ({"max_output_tokens": "0"}, "greater than or equal to 1"),
        ({"id": "no spaces"}, "valid"),
    ],
)
def test_the_admin_says_what_is_wrong_with_an_agent(admin: Client, changes: dict[str, Any], said: str) -> None:
    response = admin.post("/admin/assistant/agent/add/", agent_form(**changes))
    assert response.status_code == 200
    assert said in errors(response.content)
    assert not Agent.objects.filter(name="Cook").exists()


def test_an_agents_id_stays(admin: Client) -> None:
    admin.post("/admin/assistant/agent/default/change/", agent_form(id="other"))
    assert set(Agent.objects.values_list("id", flat=True)) == {"default", "researcher"}
    assert Agent.objects.get(pk="default").name == "Cook"


def test_an_agent_that_has_answered_is_disabled_not_deleted(admin: Client) -> None:
    turn()
    page = admin.post("/admin/assistant/agent/default/delete/", {"post": "yes"})
    assert Agent.objects.filter(pk="default").exists()
    assert "protected" in page.content.decode()
