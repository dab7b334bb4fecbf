"""Make the pictures of the chat page and of the admin in docs/screenshots: `make screenshots`."""

import re
from contextlib import ExitStack

from playwright.sync_api import Page, expect

from tests.browser.environment import QUESTIONS_LABEL, SETTINGS, Environment, open_browser, serve_scripted, sign_in
from tests.processes import DEVELOPMENT, ROOT, manage
from tests.upstream import calling, refusing, reply

WHERE = ROOT / "docs" / "screenshots"
GATES = """Quantum computers work with **qubits**. A gate changes their state; two of them make a *Bell pair*:

| Gate | Qubits | What it does |
|:-----|-------:|:-------------|
| `H`  |      1 | puts a qubit into a superposition |
| `CX` |      2 | entangles two qubits |

```python
def bell(circuit: Circuit) -> Circuit:
    circuit.h(0)      # both at once
    circuit.cx(0, 1)  # and now together
    return circuit
```

Measured, both qubits agree: `00` or `11`, each half of the time.
"""
QUARK = "A quark is an elementary particle: quarks make up protons and neutrons [1]."
ARABIC = "الكوارك جسيم أولي، ومنه تتكون البروتونات والنيوترونات."
PARTICLE = "An elementary one: as far as anybody has seen, it isn't made of anything smaller."


def ask(page: Page, question: str) -> None:
    page.get_by_label("Ask something").fill(question)
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.get_by_role("button", name="Ask", exact=True)).to_be_visible()


def talk(environment: Environment, page: Page) -> None:
    """Leave conversations behind, the one about gates in view."""
    page.goto("/admin/login/?next=/")
    sign_in(page)
    expect(page.get_by_label("Agent", exact=True)).to_have_value("default")
    page.get_by_label("Show tokens and times").check()
    environment.upstream.script = reply(ARABIC, pause=0.1)
    ask(page, "ما هو الكوارك؟")
    environment.upstream.scripts = [
        calling(("search", {"query": "quark"})),
        reply(*re.findall(r"\s*\S+", QUARK), usage=(212, 19), pause=0.02),
    ]
    page.get_by_role("link", name="New conversation").click()
    page.get_by_label("Agent", exact=True).select_option("Researcher")
    ask(page, "What is a quark, and what is made of it? I would like to know all about it")
    page.get_by_role("link", name="New conversation").click()
    page.get_by_label("Agent", exact=True).select_option("Assistant")
    environment.upstream.script = reply(*re.findall(r"\s*\S+", GATES), usage=(31, 128), pause=0.01)
    ask(page, "Which gates make a Bell pair?")


def take(page: Page, name: str) -> None:
    path = WHERE / f"{name}.png"
    page.screenshot(path=path, animations="disabled", caret="hide")


def main() -> None:
    WHERE.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        environment = stack.enter_context(open_browser(*stack.enter_context(serve_scripted())))
        page = stack.enter_context(environment.context(viewport={"width": 1280, "height": 860})).new_page()
        talk(environment, page)
        take(page, "chat")
        page.emulate_media(color_scheme="dark")
        take(page, "chat-dark")
        page.get_by_role("link", name="What is a quark").click()
        page.locator(".tool summary").click()
        environment.upstream.script = refusing(500)
        ask(page, "And a lepton?")
        take(page, "tools-and-errors")
        page.emulate_media(color_scheme="light")
        several(environment, page)
        take(page, "several")
        administer(environment, page)
        page.goto("/")
        phone(page)
        console(environment, page)


def several(environment: Environment, page: Page) -> None:
    environment.upstream.script = reply(*re.findall(r"\s*\S+", PARTICLE), usage=(18, 15), pause=0.05)
    page.get_by_role("link", name="Ask several").click()
    page.get_by_label(QUESTIONS_LABEL).fill("What is a quark?\nWhat is a lepton?")
    page.get_by_role("button", name="Ask all").click()
    expect(page.locator("#totals")).to_be_visible()
    expect(page.locator("#conversations a")).to_have_count(7)


def administer(environment: Environment, page: Page) -> None:
    """Try an agent in the admin, read a conversation, look a query up."""
    environment.upstream.scripts = [
        calling(("search", {"query": "quark"})),
        reply(*re.findall(r"\s*\S+", QUARK), usage=(212, 19), pause=0.02),
    ]
    page.goto("/admin/assistant/agent/researcher/change/")
    page.get_by_label("Ask something").fill("What is a quark?")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("#try .numbers")).to_be_visible()
    page.locator("#try").scroll_into_view_if_needed()
    page.evaluate("document.querySelector('#main').scrollTo(0, 1e6)")
    take(page, "admin-try")
    page.goto("/admin/assistant/conversation/?q=know+all")
    page.get_by_role("link", name="What is a quark").click()
    page.locator(".tool summary").first.click()
    take(page, "admin-conversation")
    page.goto("/admin/assistant/document/lookup/?q=What+are+quarks+and+particles")
    take(page, "admin-lookup")


def phone(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    page.get_by_role("button", name="Conversations").click()
    take(page, "phone-list")
    page.get_by_role("link", name="Which gates").click()
    expect(page.locator(".answer table")).to_be_visible()
    page.emulate_media(color_scheme="dark")
    take(page, "phone")


def console(environment: Environment, page: Page) -> None:
    """Show the admin's front page after a busy day."""
    env = {**DEVELOPMENT, **SETTINGS, "ASSISTANT_DATA_DIR": environment.service.data or ""}
    result = manage("shell", "-c", ROOT.joinpath("tests", "browser", "sample_day.py").read_text(), **env)
    assert result.returncode == 0, result.stderr
    for name, scheme, width, height in (("console", "light", 1280, 1160), ("console-phone", "dark", 390, 1160)):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of these
        page.set_viewport_size({"width": width, "height": height})
        page.goto("/admin/?period=day")
        expect(page.locator("[data-chart] canvas")).to_have_count(3)
        take(page, name)


if __name__ == "__main__":
    main()
