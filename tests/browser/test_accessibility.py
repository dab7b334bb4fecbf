"""Accessibility of the chat page: keyboard, light and dark, phone, screen reader."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.environment import QUESTIONS_LABEL, Environment, axe_violations
from tests.browser.test_chat import RICH, answer, ask, ended
from tests.upstream import calling, holding, refusing, reply

pytestmark = [pytest.mark.browser, pytest.mark.server]


def overflow(page: Page) -> int:
    """Return by how many pixels the page is wider than its window."""
    width: int = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return width


@pytest.mark.parametrize("width", [390, 1440])
def test_axe_finds_no_violation(environment: Environment, width: int) -> None:
    found: dict[str, list[str]] = {}

    def look(name: str, *but: str) -> None:
        found[name] = [each for each in axe_violations(page) if not any(rule in each for rule in but)]
        page.emulate_media(color_scheme="dark")
        found[f"{name}, dark"] = axe_violations(page, "color-contrast")
        page.emulate_media(color_scheme="light")
        assert overflow(page) <= 0, name

    with environment.context(viewport={"width": width, "height": 900}) as context:
        page = context.new_page()
        page.goto("/")
        look("empty")
        long = "Averylongwordthatnothingbreaks" * 10
        environment.upstream.scripts = [calling(("search", {"query": long})), reply(RICH, f"{long}\n\n`{long}`")]
        page.get_by_label("Agent", exact=True).select_option("Researcher")
        ask(page, f"{long} السلام عليكم")
        ended(page)
        page.locator(".tool summary").click()
        look("answered")
        environment.upstream.script = refusing(500)
        ask(page, "And now?")
        expect(page.locator(".failure")).to_be_visible()
        look("failed")
        page.get_by_text("Actions").click()
        look("menu")
        page.get_by_role("button", name="Rename").click()
        look("dialog")
        page.keyboard.press("Escape")
        if width < 800:
            page.get_by_role("button", name="Conversations").click()
            # It is all there is then, and no main part.
            look("list", "landmark-one-main", "page-has-heading-one")
        environment.upstream.script = reply(RICH)
        page.get_by_role("link", name="Ask several").click()
        page.get_by_label(QUESTIONS_LABEL).fill(long)
        page.get_by_role("button", name="Ask all").click()
        expect(page.locator("#totals")).to_be_visible()
        look("several")
    assert {name: each for name, each in found.items() if each} == {}


def test_the_keyboard_is_enough(environment: Environment) -> None:
    with environment.context() as context:
        page = context.new_page()
        page.goto("/")
        box = page.get_by_label("Ask something")
        expect(box).to_be_focused()
        environment.upstream.script = holding("Half")
        page.keyboard.type("One")
        page.keyboard.press("Shift+Enter")
        page.keyboard.type("Two")
        page.keyboard.press("Enter")
        expect(page.locator(".prompt")).to_have_text("One\nTwo")
        expect(answer(page)).to_have_text("Half")
        page.keyboard.press("Escape")
        ended(page)
        expect(box).to_be_focused()

        def reach(name: str) -> None:
            for _ in range(40):
                page.keyboard.press("Shift+Tab")
                if page.evaluate("document.activeElement.textContent.trim()") == name:
                    return
            raise AssertionError(f"{name} can't be reached")

        reach("Actions")
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Rename")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("button", name="Rename")).to_be_hidden()
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.get_by_label("Name", exact=True)).to_be_focused()
        page.keyboard.press("Control+A")
        page.keyboard.type("Counting")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("Counting")
        reach("Counting")
        page.keyboard.press("Enter")
        expect(box).to_be_focused()
        reach("Ask several")
        page.keyboard.press("Enter")
        expect(page.get_by_label(QUESTIONS_LABEL)).to_be_focused()
        environment.upstream.script = reply("Yes.")
        page.keyboard.type("Ready?")
        page.keyboard.press("Control+Enter")
        expect(page.locator("#totals")).to_be_visible()


def test_a_phones_list_opens_and_closes(environment: Environment) -> None:
    environment.upstream.script = reply("Yes.")
    with environment.context(viewport={"width": 390, "height": 800}) as context:
        page = context.new_page()
        page.goto("/")
        ask(page, "Ready?")
        ended(page)
        menu = page.get_by_role("button", name="Conversations")
        menu.click()
        expect(menu).to_have_attribute("aria-expanded", "true")
        page.keyboard.press("Escape")
        expect(menu).to_be_focused()
        expect(page.locator("#conversations")).to_be_hidden()
        menu.click()
        page.locator("#conversations a").click()
        expect(answer(page)).to_be_visible()


def test_a_screen_reader_hears_the_beginning_and_the_end(environment: Environment) -> None:
    said = "new MutationObserver(() => heard.push(document.querySelector('#status').textContent))"
    with environment.context() as context:
        page = context.new_page()
        page.goto("/")
        page.evaluate(f"heard = []; {said}.observe(document.querySelector('#status'), {{childList: true}})")
        environment.upstream.script = reply(*["A", "word", "at", "a", "time."])
        ask(page, "Say")
        ended(page)
        expect(page.get_by_role("status")).to_have_text("The answer: Awordatatime.")
        assert page.evaluate("heard") == ["The answer is on its way.", "The answer: Awordatatime."]
