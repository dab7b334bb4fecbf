"""The admin's pages of agents, conversations, documents and keys in a real browser, with axe."""

import re
from collections.abc import Iterator

import pytest
import requests
from playwright.sync_api import Page, expect

from tests.browser.environment import Environment, axe_violations, sign_in
from tests.browser.test_accessibility import overflow
from tests.browser.test_chat import HOSTILE, RICH
from tests.upstream import Hold, calling, holding

pytestmark = [pytest.mark.browser, pytest.mark.server]

# The admin's links and buttons change their colours slowly.
SETTLED = "Promise.all(document.getAnimations().map(each => each instanceof CSSTransition && each.finished))"
LONG = "Averylongwordthatnothingbreaks" * 10
ARABIC = "الكوارك جسيم أولي"


@pytest.fixture
def admin(environment: Environment) -> Iterator[Page]:
    """A page of the signed-in superuser, of which nothing is amiss at the end."""
    with environment.context() as context:
        page = context.new_page()
        page.goto("/admin/")
        sign_in(page)
        expect(page.get_by_role("button", name="Log out")).to_be_visible()
        yield page


def look(page: Page) -> None:
    """Check overflow and accessibility in both color schemes and widths."""
    for width in (390, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.evaluate(SETTLED)
            assert overflow(page) <= 0, (width, scheme)
            assert axe_violations(page, *([] if scheme == "light" else ["color-contrast"])) == [], (width, scheme)
    page.emulate_media(color_scheme="light")


def test_an_agent_is_tried_and_its_conversation_read(environment: Environment, admin: Page) -> None:
    admin.goto("/admin/assistant/agent/researcher/change/")
    hold = Hold()
    environment.upstream.scripts = [
        calling(("search", {"query": "quark"})),
        holding("Half of it. ", hold=hold, then=[HOSTILE, RICH, f"\n\n{LONG}"]),
    ]
    box = admin.get_by_label("Ask something")
    box.focus()
    admin.keyboard.type(f"{LONG} {ARABIC} <img src=x onerror=pwned=0>")
    admin.keyboard.press("Control+Enter")
    expect(admin.locator(".answer")).to_contain_text("Half of it.")
    expect(admin.get_by_role("button", name="Stop")).to_be_visible()
    hold.release()
    expect(admin.locator(".answer td").nth(1)).to_be_visible()
    expect(admin.locator("#try .numbers")).to_contain_text("openai:test")
    expect(admin.get_by_role("link", name="Quark")).to_be_visible()
    unsaved = admin.get_by_text("Your changes above aren't saved")
    expect(unsaved).to_be_hidden()
    admin.get_by_label("Name:").fill(ARABIC)
    expect(unsaved).to_be_visible()
    look(admin)

    environment.upstream.script = holding("Half")
    box.focus()
    admin.keyboard.type("Again")
    admin.keyboard.press("Control+Enter")
    expect(admin.locator(".answer").last).to_have_text("Half")
    admin.keyboard.press("Escape")
    expect(admin.locator(".ending").last).to_have_text("Stopped.")
    expect(box).to_be_focused()

    admin.get_by_role("link", name="Open the conversation").first.click()
    expect(admin.locator(".answer td").nth(1)).to_be_visible()
    expect(admin.locator(".prompt")).to_contain_text("<img src=x onerror=pwned=0>")
    for link in admin.locator(".answer a[href]").all():
        assert re.match(r"https://evil\.example/[abk]", link.get_attribute("href") or "")
    assert admin.locator(".answer").locator("script, style, img, svg, iframe, form, input, [style], [id]").count() == 0
    assert admin.evaluate("typeof pwned") == "undefined"
    admin.locator(".tool summary").focus()
    admin.keyboard.press("Enter")
    expect(admin.locator(".tool pre").last).to_contain_text("A quark is an elementary particle")
    expect(admin.locator(".numbers")).to_contain_text(re.compile(r"tokens in, .*first token after"))
    look(admin)


def test_documents_are_uploaded_and_looked_up(admin: Page) -> None:
    def upload(name: str, text: str) -> None:
        file = {"name": name, "mimeType": "text/plain", "buffer": text.encode()}
        admin.get_by_label("Files:").set_input_files([file])  # type: ignore[list-item]  # a dict of its own kind

    admin.goto("/admin/assistant/document/")
    admin.get_by_role("link", name="Add document").click()
    upload("large.txt", "x" * 2_200_000)
    admin.get_by_role("button", name="Add").click()
    assert "too much: choose fewer" in admin.get_by_label("Files:").evaluate("files => files.validationMessage")
    upload("leptons.jsonl", '{"title": "Tau"}')
    admin.get_by_role("button", name="Add").click()
    expect(admin.get_by_text("leptons.jsonl, line 1: text: field required.")).to_be_visible()
    look(admin)
    upload(f"{ARABIC}.md", f"# {ARABIC} <b>\n\nQuarks and javascript:alert(1) {LONG}")
    admin.get_by_role("button", name="Add").click()
    expect(admin.get_by_text("Added 1 document.")).to_be_visible()

    admin.get_by_role("link", name="Test a query").click()
    look(admin)
    admin.keyboard.press("Tab")
    admin.get_by_label("Query").focus()
    admin.keyboard.type("What is a quark particle?")
    admin.keyboard.press("Enter")
    expect(admin.locator("mark").first).to_have_text("Quark")
    expect(admin.get_by_text("Ignored: what is a")).to_be_visible()
    expect(admin.get_by_text("2 of 2")).to_be_visible()
    expect(admin.get_by_role("heading", name=f"2. {ARABIC}")).to_be_visible()
    look(admin)


def test_a_key_is_shown_once_used_and_revoked(environment: Environment, admin: Page) -> None:
    def status() -> int:
        headers = {"Authorization": f"Bearer {secret}"}
        return requests.get(f"{environment.service.url}/api/agents", headers=headers, timeout=30).status_code

    admin.goto("/admin/assistant/apikey/add/")
    look(admin)
    admin.get_by_label("Name:").fill(f"{ARABIC} <b>")
    admin.get_by_label("User:").fill("1")
    admin.get_by_label("read: GET everything, change nothing").check()
    admin.get_by_role("button", name="Save", exact=True).click()
    secret = admin.get_by_label("The API key").input_value()
    expect(admin.get_by_text("It is shown only once")).to_be_visible()
    assert status() == 200
    look(admin)

    admin.get_by_role("link", name="Edit its limits").click()
    expect(admin.get_by_role("button", name="Revoke this key")).to_be_visible()
    assert secret not in admin.content()
    look(admin)
    admin.get_by_role("button", name="Revoke this key").click()
    expect(admin.get_by_role("button", name="Revoke this key")).to_be_hidden()
    assert status() == 401
