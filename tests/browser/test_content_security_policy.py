"""The service's pages under the Content-Security-Policy that production sends."""

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.processes import DEVELOPMENT, manage, serving

pytestmark = [pytest.mark.browser, pytest.mark.server]

TELL = "document.addEventListener('securitypolicyviolation', e => console.error('policy: ' + e.violatedDirective))"


@pytest.fixture
def complaints(page: Page) -> list[str]:
    """What the browser complains of."""
    said: list[str] = []
    page.add_init_script(TELL)
    page.on("console", lambda message: said.append(message.text) if "policy" in message.text.lower() else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    return said


def test_every_page_works_under_the_policy(page: Page, complaints: list[str]) -> None:
    with serving() as service:
        account: dict[str, Any] = {**DEVELOPMENT, "ASSISTANT_DATA_DIR": service.data or ""}
        made = manage("createsuperuser", "--no-input", "--username=ada", "--email=", **account, **PASSWORD)
        assert made.returncode == 0, made.stderr
        response = page.goto(service.url)
        assert response
        assert "default-src 'none'" in response.headers["content-security-policy"]
        page.goto(f"{service.url}/api/docs")
        expect(page.get_by_role("heading", name="Assistant")).to_be_visible()
        page.goto(f"{service.url}/admin/")
        page.get_by_label("Username").fill("ada")
        page.get_by_label("Password").fill(PASSWORD["DJANGO_SUPERUSER_PASSWORD"])
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("heading", name="Site administration")).to_be_visible()
        for path in ("assistant/agent/add/", "assistant/apikey/add/", "auth/user/1/change/", "batching/batch/"):
            page.goto(f"{service.url}/admin/{path}")
            expect(page.locator("#content")).to_be_visible()
    assert complaints == []


PASSWORD = {"DJANGO_SUPERUSER_PASSWORD": "for this test"}
