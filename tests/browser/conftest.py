"""A real Chromium, the one that the system's packages bring."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.browser.environment import FLAGS, Environment, open_browser, serve_scripted
from tests.processes import Served
from tests.programs import require_program
from tests.upstream import Upstream


@pytest.fixture(scope="session")
def scripted_service() -> Iterator[tuple[Served, Upstream]]:
    """The chat page's server, one for all its modules."""
    with serve_scripted() as service:
        yield service


@pytest.fixture(scope="module")
def environment(scripted_service: tuple[Served, Upstream]) -> Iterator[Environment]:
    """A browser for a module: while Playwright is there, no test of asyncio can run."""
    with open_browser(*scripted_service) as environment:
        yield environment


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    """A page of a Chromium with a profile of its own."""
    with chromium(tmp_path) as page:
        yield page


@pytest.fixture
def free_page(tmp_path: Path) -> Iterator[Page]:
    """A page in which a test may run scripts of its own: no Content-Security-Policy holds there."""
    with chromium(tmp_path, bypass_csp=True) as page:
        yield page


@contextmanager
def chromium(directory: Path, **options: Any) -> Iterator[Page]:
    program = require_program("chromium")
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            directory / "profile", executable_path=program, headless=True, args=FLAGS, **options
        )
        try:
            yield context.pages[0]
        finally:
            context.close()
