"""The progress of a background batch on its page."""

from datetime import timedelta

from django.test import Client

from tests.batching.admin_pages import page_named, read
from tests.batching.factories import BEGAN, QUEUED, background, running


def test_the_page_of_a_running_batch_says_how_far_it_is(admin: Client) -> None:
    batch = running({}, {}, {"status": 502}, QUEUED)
    page = read(admin, batch)
    for said in (
        "75 %",
        "3</span> of 4 items",
        "502 Bad Gateway",
        'data-count="queued">1<',
        page_named("progress", batch),
    ):
        assert said in page
    assert f'data-socket="/ws/batches/{batch.pk}"' in page
    state = admin.get(page_named("progress", batch)).json()
    assert state["counts"] == batch.counts
    assert state["failures"] == [{"status": 502, "reason": "Bad Gateway", "count": 1}]
    assert (state["status"], state["is_final"]) == ("running", False)


def test_the_page_of_a_batch_that_has_ended_asks_for_nothing_more(admin: Client) -> None:
    batch = background({}, finished_at=BEGAN + timedelta(seconds=2))
    page = read(admin, batch)
    assert "data-socket" not in page
    assert "100 %" in page
    assert "0.5 items/s" in page
    assert admin.get(page_named("progress", batch)).json()["is_final"] is True


def test_a_batch_that_has_not_started_has_no_rate(admin: Client) -> None:
    assert "0 items/s" in read(admin, running(QUEUED, status="queued", started_at=None))
