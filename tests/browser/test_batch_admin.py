"""The admin's page of a batch in a real browser: live progress, cancel, retry, download."""

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from django.contrib.admin.utils import quote
from playwright.sync_api import Page, WebSocketRoute, expect

from batching.admin import CANCELLED
from tests.processes import DEVELOPMENT, Served, manage, migrated, serving
from tests.upstream import Hold, Upstream, holding, reply

pytestmark = [pytest.mark.browser, pytest.mark.server]

# Milliseconds that a busy machine may take.
PATIENCE = 60_000
NUMBER = "() => Number(document.querySelector('[data-live=done]').textContent.replace(',', ''))"
OVERFLOW = "document.documentElement.scrollWidth - window.innerWidth"


STRICT = {"DJANGO_SETTINGS_MODULE": "tests.browser_settings"}
HELLO = reply("Hello", " you", pause=0.01)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(HELLO).in_thread() as it:
        yield it


@pytest.fixture(scope="module")
def service(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The service under a strict policy, with the superuser ada."""
    directory = shutil.copytree(migrated(), tmp_path_factory.mktemp("admin") / "data")
    ada = {"DJANGO_SUPERUSER_USERNAME": "ada", "DJANGO_SUPERUSER_PASSWORD": "x", "DJANGO_SUPERUSER_EMAIL": ""}
    env = {**DEVELOPMENT, **STRICT, "ASSISTANT_DATA_DIR": str(directory)}
    result = manage("createsuperuser", "--no-input", **env, **ada)
    assert result.returncode == 0, result.stderr
    with serving(lambda: directory, OPENAI_BASE_URL=upstream.url, BATCH_BACKGROUND_CONCURRENCY="4", **STRICT) as it:
        yield it


@pytest.fixture
def admin(page: Page, service: Served, upstream: Upstream) -> Iterator[Page]:
    """A page of the signed-in superuser, of which nothing is amiss at the end."""
    upstream.script = HELLO
    amiss: list[str] = []
    page.on("pageerror", lambda error: amiss.append(str(error)))
    page.on("console", lambda said: amiss.append(said.text) if "Content Security Policy" in said.text else None)
    page.on("request", lambda asked: amiss.append(asked.url) if not asked.url.startswith(service.url) else None)
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(f"{service.url}/admin/")
    page.get_by_label("Username").fill("ada")
    page.get_by_label("Password").fill("x")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("button", name="Log out")).to_be_visible(timeout=PATIENCE)
    yield page
    assert amiss == []


def submit(service: Served, count: int) -> str:
    """Have chats carried out in the background, one in ten with an agent that isn't there; return the batch's id."""
    agents = ("nobody" if number % 10 == 9 else "default" for number in range(count))
    items = [
        {"id": f"{number}", "method": "POST", "path": "/api/agent/chat", "body": {"message": "Hi", "agent_id": agent}}
        for number, agent in enumerate(agents)
    ]
    headers = {"Prefer": "respond-async", "Content-Type": "application/x-ndjson"}
    body = "".join(f"{json.dumps(item)}\n" for item in items)
    response = requests.post(f"{service.url}/api/batch", data=body, headers=headers, timeout=30)
    return str(response.json()["batch_id"])


def show(admin: Page, service: Served, batch_id: str) -> None:
    """Open a batch's page, and leave a mark in it that a reload would wipe away."""
    admin.goto(f"{service.url}/admin/batching/batch/{quote(batch_id)}/change/")
    admin.evaluate("window.mark = 'here'")


def moves(admin: Page) -> None:
    """See the number of items that have ended grow."""
    before = admin.evaluate(NUMBER)
    admin.wait_for_function(f"before => ({NUMBER})() > before", arg=before, timeout=PATIENCE)


def ends(admin: Page, status: str) -> None:
    expect(admin.locator("[data-live=status]")).to_have_text(status, timeout=PATIENCE)
    admin.wait_for_selector("#batching-live:not([data-socket])", timeout=PATIENCE)
    assert admin.evaluate("window.mark") == "here"


def download(admin: Page, name: str) -> str:
    with admin.expect_download() as saved:
        admin.get_by_role("button", name=name).click()
    return Path(saved.value.path()).read_text("utf-8-sig")


def fits(admin: Page) -> None:
    """See that nothing stands out of a page of any width, in light and in dark."""
    for width in (390, 1440):
        admin.set_viewport_size({"width": width, "height": 900})
        for scheme in ("light", "dark"):
            admin.emulate_media(color_scheme=scheme)
            assert admin.evaluate(OVERFLOW) <= 0


def test_a_batch_is_watched_to_its_end_read_and_retried(admin: Page, service: Served) -> None:
    sockets: list[Any] = []
    admin.on("websocket", lambda socket: sockets.append(socket))
    batch_id = submit(service, 240)
    show(admin, service, batch_id)
    moves(admin)
    moves(admin)
    expect(admin.locator("[data-live=rate]")).not_to_have_text("0 items/s", timeout=PATIENCE)
    expect(admin.locator("[data-live=left]")).not_to_have_text("-", timeout=PATIENCE)
    fits(admin)
    ends(admin, "completed")
    assert len(sockets) == 1
    assert admin.evaluate(NUMBER) == 240
    expect(admin.locator("[data-live=failures]")).to_have_text("404 Not Found 24", timeout=PATIENCE)
    expect(admin.get_by_role("heading", name="Durations")).to_be_visible(timeout=PATIENCE)
    fits(admin)

    lines = [json.loads(line) for line in download(admin, "Download NDJSON").splitlines()]
    assert [line["position"] for line in lines] == list(range(240))
    assert lines[0]["response_body"]["response"] == "Hello you"
    rows = list(csv.DictReader(download(admin, "Download CSV").splitlines()))
    assert sum(row["status"] == "404" for row in rows) == 24

    admin.locator("[data-live=failures] a").click()
    expect(admin.locator(".batching-list > li")).to_have_count(24, timeout=PATIENCE)
    admin.locator(".batching-list summary").first.click()
    admin.get_by_role("link", name="Full item and curl command").first.click()
    expect(admin.locator("#batching-command")).to_contain_text(
        f"curl -X POST {service.url}/api/agent/chat", timeout=PATIENCE
    )
    fits(admin)

    admin.go_back()
    admin.get_by_role("button", name="Retry failed items").click()
    expect(admin.get_by_text(f"This batch retries {batch_id}")).to_be_visible(timeout=PATIENCE)
    expect(admin.locator("[data-live=status]")).to_have_text("completed", timeout=PATIENCE)
    assert admin.evaluate(NUMBER) == 24


def test_a_batch_is_cancelled(admin: Page, service: Served, upstream: Upstream) -> None:
    hold = Hold()
    upstream.script = holding("One", hold=hold)
    show(admin, service, submit(service, 200))
    expect(admin.locator("[data-count=running]")).not_to_have_text("0", timeout=PATIENCE)
    admin.get_by_role("button", name="Cancel the batch").click()
    expect(admin.get_by_text(CANCELLED)).to_be_visible(timeout=PATIENCE)
    admin.evaluate("window.mark = 'here'")
    expect(admin.locator("[data-live=status]")).to_have_text("cancelling", timeout=PATIENCE)
    expect(admin.locator("[data-count=queued]")).to_have_text("0", timeout=PATIENCE)
    hold.release()
    ends(admin, "cancelled")
    admin.get_by_role("link", name="History").click()
    expect(admin.get_by_text("Cancelled.")).to_be_visible(timeout=PATIENCE)


def test_a_page_without_a_websocket_asks_again_and_again(admin: Page, service: Served) -> None:
    def refuse(socket: WebSocketRoute) -> None:
        socket.close()

    admin.route_web_socket("**/ws/batches/**", refuse)
    show(admin, service, submit(service, 120))
    moves(admin)
    ends(admin, "completed")
    assert admin.evaluate(NUMBER) == 120
