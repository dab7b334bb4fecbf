"""A stream behind GZipMiddleware, read by `fetch` in a real browser."""

import pytest
from playwright.sync_api import Page

from tests.processes import serving
from tests.upstream import Hold, Upstream, holding

pytestmark = [pytest.mark.browser, pytest.mark.server]

READ = """() => {
  window.seen = "";
  window.over = false;
  fetch("/api/agent/chat?stream=true", {
    method: "POST",
    headers: {"Content-Type": "application/json"},
    body: JSON.stringify({message: "Hi"}),
  }).then(async (response) => {
    window.encoding = response.headers.get("Content-Encoding");
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      window.seen += decoder.decode(part.value, {stream: true});
    }
    window.over = true;
  });
}"""


def test_tokens_arrive_before_the_last_was_sent(free_page: Page) -> None:
    hold = Hold()
    script = holding("One", hold=hold, then=[" two"])
    with (
        Upstream(script).in_thread() as upstream,
        serving(
            ASSISTANT_MODEL="openai:test", OPENAI_BASE_URL=upstream.url, DJANGO_SETTINGS_MODULE="tests.gzip_settings"
        ) as service,
    ):
        free_page.goto(service.url)
        free_page.evaluate(READ)
        free_page.wait_for_function("window.seen.includes('One')")
        assert free_page.evaluate("window.over") is False
        # What Django 5.2 compresses, Chromium shows up to the first event.
        assert free_page.evaluate("window.encoding") == "identity"
        hold.release()
        free_page.wait_for_function("window.over")
        assert '" two"' in free_page.evaluate("window.seen")
        assert '"type": "end"' in free_page.evaluate("window.seen")
