"""The chat page with the real model."""

import pytest
from playwright.sync_api import Page, expect

from tests.processes import prepared, serving

pytestmark = [pytest.mark.browser, pytest.mark.server, pytest.mark.model]


def test_a_question_is_answered_as_it_is_written(page: Page) -> None:
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    with serving(prepared, ASSISTANT_MODEL="local:smollm2") as service:
        page.goto(service.url)
        page.get_by_label("Ask something").fill("What is Python?")
        page.get_by_role("button", name="Ask", exact=True).click()
        answer = page.locator(".answer")
        expect(answer).to_contain_text(" ", timeout=30_000)
        expect(page.get_by_role("button", name="Ask", exact=True)).to_be_visible(timeout=60_000)
        assert len(answer.inner_text()) > 20
    assert errors == []
