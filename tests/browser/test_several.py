"""Several questions to several agents at once: the batch API made visible."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.environment import QUESTIONS_LABEL, Environment
from tests.upstream import Hold, holding, refusing, reply

pytestmark = [pytest.mark.browser, pytest.mark.server]

# What a shell and Python read otherwise than it is written.
QUESTIONS = ['What\'s a "quark" \\ $HOME?', "ما هو الكوارك؟"]


@pytest.fixture
def page(environment: Environment) -> Iterator[Page]:
    with environment.context() as context:
        page = context.new_page()
        page.goto("/?several")
        expect(page.get_by_label("Researcher")).to_be_checked()
        yield page


def ask_all(page: Page, *questions: str) -> None:
    page.get_by_label(QUESTIONS_LABEL).fill("\n".join(questions))
    page.get_by_role("button", name="Ask all").click()


def test_each_question_goes_to_each_agent_side_by_side(environment: Environment, page: Page) -> None:
    hold = Hold()
    environment.upstream.script = holding("Half ", hold=hold, then=["**done**."])
    ask_all(page, *QUESTIONS)
    answers = page.locator(".column .answer")
    expect(answers).to_have_text(["Half"] * 4)
    expect(page.get_by_text("2 \N{MULTIPLICATION SIGN} 2 = 4 answers")).to_be_visible()
    hold.release()
    expect(answers).to_have_text(["Half done."] * 4)
    expect(page.locator("#totals")).to_contain_text("4 answered, all in ")
    times = [float(each.removesuffix(" s")) for each in page.locator(".column-time").all_inner_texts()]
    assert len(times) == 4
    assert all(times)
    expect(page.locator(".column-agent")).to_have_text(["Assistant", "Researcher"] * 2)
    page.get_by_role("link", name="Go on from here").last.click()
    expect(page.locator("#chat .prompt")).to_have_text(QUESTIONS[1])
    page.go_back()
    expect(answers.first).to_be_visible()


def test_the_calls_it_shows_do_what_it_did(environment: Environment, page: Page) -> None:
    environment.upstream.script = reply("Yes.")
    ask_all(page, *QUESTIONS)
    expect(page.locator("#totals")).to_be_visible()
    curl, python = page.locator("#snippets code").all_inner_texts()
    for command in (["sh", "-c", curl], [sys.executable, "-c", python]):
        before = len(environment.upstream.requests)
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert result.returncode == 0, result.stderr
        assert "'succeeded': 4" in result.stdout.replace('"', "'")
        asked = [request.body["messages"][-1]["content"] for request in environment.upstream.requests[before:]]
        assert sorted(asked) == sorted(QUESTIONS * 2)


def test_what_fails_fails_in_its_own_column(environment: Environment, page: Page) -> None:
    page.get_by_label("Researcher").uncheck()
    environment.upstream.scripts = [refusing(500), reply("Fine.")]
    ask_all(page, "One", "Two")
    expect(page.locator("#totals")).to_contain_text("1 answered, 1 failed")
    expect(page.locator(".failure")).to_have_count(1)
    expect(page.locator(".failure")).to_contain_text("The model failed.")


def test_stop_all_keeps_what_was_said(environment: Environment, page: Page) -> None:
    environment.upstream.script = holding("Half")
    ask_all(page, "For ever")
    expect(page.locator(".column .answer")).to_have_text(["Half"] * 2)
    page.get_by_role("button", name="Stop all").click()
    expect(page.locator(".column .ending")).to_have_text(["Stopped."] * 2)
    expect(page.get_by_role("button", name="Ask all")).to_be_visible()


def test_too_many_are_refused_in_a_sentence(page: Page) -> None:
    ask_all(page, *(f"Question {number}" for number in range(6)))
    expect(page.locator("#several .failure")).to_have_count(1)
    expect(page.locator("#several .failure")).to_contain_text("A batch may have 10 items; this one has 12.")
    expect(page.locator(".column")).to_have_count(0)
