"""The admin's date hierarchy."""

import re
from datetime import datetime
from urllib.parse import urlencode

from django.test import Client

from tests.batching.admin_pages import LIST, result_ids
from tests.batching.factories import make


def test_the_dates_lead_to_years_months_and_days_that_have_batches(admin: Client) -> None:
    for moment in ("2024-12-31", "2026-01-02", "2026-03-05", "2026-03-29", "2026-03-31"):
        make({}, created_at=datetime.fromisoformat(f"{moment}T12:00Z"))
    assert dates(admin) == ["2024", "2026"]
    assert dates(admin, created_at__year="2026") == ["January 2026", "March 2026"]
    march = {"created_at__year": "2026", "created_at__month": "3"}
    assert dates(admin, **march) == ["March 5", "March 29", "March 31"]
    assert len(result_ids(admin, **march, created_at__day="29")) == 1
    assert dates(admin, created_at__year="2026", caller="anonymous", q="/api/x") == ["January 2026", "March 2026"]
    assert dates(admin, created_at__year="2025") == []


def dates(admin: Client, **query: str) -> list[str]:
    page = admin.get(f"{LIST}?{urlencode(query)}").content.decode()
    links = re.findall(r"<a [^>]*>([^<]*)</a>", page.partition("toplinks")[2].partition("<form")[0])
    return [link for link in links if not link.startswith("&lsaquo;")]
