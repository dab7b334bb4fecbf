"""The environment of browser tests: the real server under a strict policy, a scripted model, a browser."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.processes import DEVELOPMENT, Served, data_directory, manage, migrated, serving
from tests.programs import require_program
from tests.upstream import PATIENCE, Upstream

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SEED = """
from django.contrib.auth.models import User
from assistant.models import Document
User.objects.create_superuser("ada", password="x")
Document.objects.create(title="Quark", source="quark", url="https://quark.example/", credit="Example, CC0",
    text="A quark is an elementary particle. Quarks make protons and neutrons.")
Document.objects.create(title="Curd", source="curd", url="javascript:alert(1)", text="A curd is a fresh cheese.")
"""
SETTINGS = {"DJANGO_SETTINGS_MODULE": "tests.browser_settings"}
AXE = Path(__file__).with_name("vendor") / "axe" / "axe.js"
REPORT = """document.addEventListener("securitypolicyviolation",
    ({effectiveDirective, blockedURI}) => complain(`${effectiveDirective} ${blockedURI}`))"""
# The label of the box for questions to several agents.
QUESTIONS_LABEL = "Questions, one per line"
# The browser's own messages for expected error statuses and broken connections.
EXPECTED = ("Failed to load resource", "net::ERR_")


@dataclass
class Environment:
    service: Served
    upstream: Upstream
    browser: Browser

    @contextmanager
    def context(self, url: str | None = None, **options: Any) -> Iterator[BrowserContext]:
        """Yield a browser context of its own; at its end there must be no complaint."""
        context = self.browser.new_context(base_url=url or self.service.url, **options)
        watch = Watch(url or self.service.url)
        watch.over(context)
        try:
            yield context
        finally:
            context.close()
        assert watch.complaints == []


@dataclass
class Watch:
    """Notes script errors, violations of the policy, and requests that would leave the machine."""

    url: str
    complaints: list[str] = field(default_factory=list)

    def over(self, context: BrowserContext) -> None:
        context.expose_binding("complain", lambda _, said: self.complaints.append(said))
        context.add_init_script(REPORT)
        context.on("request", self._request)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.on("console", self._console)

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.url, "data:", "blob:")):
            self.complaints.append(request.url)

    def _console(self, message: Any) -> None:
        if message.type == "error" and not any(part in message.text for part in EXPECTED):
            self.complaints.append(message.text)


@cache
def seeded_data() -> Path:
    """Return a data directory with the user ada and a few documents."""
    with data_directory(migrated) as made:
        directory = Path(shutil.copytree(made, Path(migrated(), "seeded-data")))
    env = {**DEVELOPMENT, **SETTINGS, "ASSISTANT_DATA_DIR": str(directory)}
    result = manage("shell", "-c", SEED, **env)
    assert result.returncode == 0, result.stderr
    return directory


@contextmanager
def serve_scripted() -> Iterator[tuple[Served, Upstream]]:
    """Serve with a scripted model."""
    with (
        Upstream().in_thread() as upstream,
        serving(seeded_data, ASSISTANT_MODEL="openai:test", OPENAI_BASE_URL=upstream.url, **SETTINGS) as service,
    ):
        yield service, upstream


@contextmanager
def open_browser(service: Served, upstream: Upstream) -> Iterator[Environment]:
    """Start a browser for what is served."""
    program = require_program("chromium")
    expect.set_options(timeout=1_000 * PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, headless=True, args=FLAGS)
        try:
            yield Environment(service, upstream, browser)
        finally:
            browser.close()


def sign_in(page: Page) -> None:
    """Fill in the admin's form, which has to be in view."""
    page.get_by_label("Username").fill("ada")
    page.get_by_label("Password").fill("x")
    page.get_by_role("button", name="Log in").click()


def axe_violations(page: Page, *rules: str) -> list[str]:
    """Return the violations of axe's accessibility rules, or of these of them."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text())
    options = {"runOnly": rules} if rules else {}
    found = page.evaluate("options => axe.run(options)", options)["violations"]
    return [f"{each['impact']} {each['id']}: {node['html']}" for each in found for node in each["nodes"]]
