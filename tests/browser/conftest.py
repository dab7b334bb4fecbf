"""A real Chromium, the one that the system's packages bring."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.browser.stage import FLAGS, Stage, scripted, staged
from tests.needs import needs
from tests.processes import Served
from tests.upstream import Upstream


@pytest.fixture(scope="session")
def scripted_service() -> Iterator[tuple[Served, Upstream]]:
    """The chat page's server, one for all its modules."""
    with scripted() as service:
        yield service


@pytest.fixture(scope="module")
def stage(scripted_service: tuple[Served, Upstream]) -> Iterator[Stage]:
    """A browser for a module: while Playwright is there, no test of asyncio can run."""
    with staged(*scripted_service) as stage:
        yield stage


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    """A page of a Chromium with a profile of its own."""
    program = needs("chromium")
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path / "profile", executable_path=program, headless=True, args=FLAGS
        )
        try:
            yield context.pages[0]
        finally:
            context.close()
