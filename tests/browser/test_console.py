"""The admin's front page in a real browser: charts under the Content-Security-Policy, accessible, light and dark."""

import re

import pytest
import requests
from playwright.sync_api import Page, expect

from tests.browser.environment import Environment, axe_violations, sign_in
from tests.browser.test_accessibility import overflow
from tests.upstream import reply

pytestmark = [pytest.mark.browser, pytest.mark.server]

# How many pixels of the first chart have a colour.
PAINTED = """(colour => {
  const canvas = document.querySelector("[data-chart] canvas");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return new Uint32Array(data.buffer).filter((pixel) => pixel === colour).length;
})"""
# What was completed; the words beside the axes of a light page.
GREEN, AXES = 0xFF40852E, 0xFF666666  # alpha, blue, green, red


def populate(environment: Environment) -> None:
    """Have an answer and a batch behind us, of which one item failed."""
    environment.upstream.script = reply("Yes.", usage=(20, 3))
    chat = {"message": "Ready?"}
    items = [
        {"id": "a", "method": "POST", "path": "/api/agent/chat", "body": chat},
        {"id": "b", "method": "GET", "path": "/api/nowhere"},
    ]
    for path, body in (("agent/chat", chat), ("batch", {"requests": items})):
        assert requests.post(f"{environment.service.url}/api/{path}", json=body, timeout=60).status_code == 200


def look(page: Page) -> list[str]:
    """Return what is wrong with the page, in light and in dark."""
    found = [] if overflow(page) <= 0 else ["too wide"]
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of these
        page.wait_for_function("() => document.getAnimations().length === 0")  # links change their colour slowly
        found += axe_violations(page)
    return found


def test_the_front_page_is_for_everybody(environment: Environment) -> None:
    populate(environment)
    with environment.context(viewport={"width": 1440, "height": 900}, color_scheme="light") as context:
        page = context.new_page()
        page.goto("/admin/?period=week")
        sign_in(page)
        expect(page.locator("[data-chart] canvas")).to_have_count(3)
        page.wait_for_function(f"colour => {PAINTED}(colour) > 50", arg=GREEN)
        axes = page.evaluate(PAINTED, AXES)
        assert look(page) == []
        assert page.evaluate(PAINTED, AXES) < axes / 2, "a dark page has charts of its own colours"
        page.set_viewport_size({"width": 390, "height": 900})
        page.wait_for_function("() => document.querySelector('[data-chart] canvas').clientWidth < 390")
        assert look(page) == []


def test_the_keyboard_reaches_periods_tables_and_rows(environment: Environment) -> None:
    populate(environment)
    with environment.context(viewport={"width": 390, "height": 900}) as context:
        page = context.new_page()
        page.goto("/admin/")
        sign_in(page)
        tab_to(page, "Last week")
        page.keyboard.press("Enter")
        expect(page.get_by_role("link", name="Last week")).to_have_attribute("aria-current", "page")
        tab_to(page, "Answers, as a table")
        page.keyboard.press("Enter")
        table = page.get_by_role("region", name="Answers, as a table")
        expect(table.get_by_role("columnheader", name="completed")).to_be_visible()
        page.get_by_role("link", name=re.compile(r"^[\d,]+ answers$")).focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Select message to view")).to_be_visible()
        expect(page.locator("#result_list tbody tr").first).to_be_visible()


def tab_to(page: Page, name: str) -> None:
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent.trim()") == name:
            return
    raise AssertionError(f"{name} can't be reached")
