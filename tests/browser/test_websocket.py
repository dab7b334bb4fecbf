"""The WebSocket from pages of a real browser: ours with its session, and another site's."""

import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.processes import DEVELOPMENT, manage, migrated, serving
from tests.project.test_websocket import documented
from tests.streams import check, text
from tests.upstream import Upstream, reply

pytestmark = [pytest.mark.browser, pytest.mark.server]

# Hands every event to the test, as the documentation's example wants it.
LISTEN = "() => { window.events = []; window.handleStreamEvent = event => events.push(event) }"
ENDED = "() => window.events.at(-1)?.type === 'end'"
REFUSED = "url => new Promise(resolve => { new WebSocket(url).onclose = ({code}) => resolve(code) })"
LISTED = "fetch('/api/conversations').then(response => response.json()).then(page => page.results.length)"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with the user ada."""
    directory = shutil.copytree(migrated(), tmp_path / "data")
    ada = {"DJANGO_SUPERUSER_USERNAME": "ada", "DJANGO_SUPERUSER_PASSWORD": "x", "DJANGO_SUPERUSER_EMAIL": ""}
    result = manage("createsuperuser", "--no-input", **DEVELOPMENT, **ada, ASSISTANT_DATA_DIR=str(directory))
    assert result.returncode == 0, result.stderr
    return directory


def test_a_page_of_ours_connects_with_its_session_and_another_sites_does_not(free_page: Page, data: Path) -> None:
    words = ["Quantum", " computing", " is"]
    with (
        Upstream(reply(*words, pause=0.03)).in_thread() as upstream,
        serving(lambda: data, OPENAI_BASE_URL=upstream.url) as service,
    ):
        free_page.goto(f"{service.url}/admin/")
        free_page.get_by_label("Username").fill("ada")
        free_page.get_by_label("Password").fill("x")
        free_page.get_by_role("button", name="Log in").click()
        free_page.goto(service.url)
        free_page.evaluate(LISTEN)
        free_page.add_script_tag(content=documented("js"))
        free_page.wait_for_function(ENDED)
        events = check(list(enumerate(free_page.evaluate("window.events"), start=1)))
        assert text(events) == "".join(words)
        assert free_page.evaluate(LISTED) == 1

        free_page.goto(service.url.replace("127.0.0.1", "localhost"))
        assert free_page.evaluate(REFUSED, f"{service.url.replace('http', 'ws')}/ws/agent/chat") == 1006
        assert "socket=refused status=403" in service.log()
