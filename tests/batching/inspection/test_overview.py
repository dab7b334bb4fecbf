"""Failures, durations and the waterfall of a batch on its page."""

import re
from html import unescape

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from batching.inspection.item_list import MAX_ITEMS
from tests.batching.admin_pages import read, rows
from tests.batching.factories import QUEUED, background, running


def test_a_page_has_as_many_queries_for_a_thousand_items_as_for_three_hundred(admin: Client) -> None:
    bad = {"status": 502, "error": "No."}
    some, many = (background(*[{}, bad] * count) for count in (150, 500))
    read(admin, some)
    with CaptureQueriesContext(connection) as few:
        read(admin, some)
    with CaptureQueriesContext(connection) as more:
        page = read(admin, many)
    assert len(more) == len(few) <= 11
    assert len(rows(page)) == MAX_ITEMS
    assert page.count('<a class="batching-part"') == 50


def test_failures_are_grouped_and_lead_to_their_items(admin: Client) -> None:
    long = "x" * 300
    batch = background(
        {},
        {"item_id": "one", "status": 502, "error": "The model failed."},
        {"item_id": "two", "status": 502, "error": "The model failed."},
        {"item_id": "three", "status": 502, "error": "Another."},
        {"item_id": "four", "status": 400, "error": long + "a"},
        {"item_id": "five", "status": 400, "error": long + "b"},
        {"item_id": "six", "status": None, "state": "interrupted"},
    )
    page = read(admin, batch).partition(">Failures</h2>")[2].partition("</section>")[0]
    counts = [int(count) for count in re.findall(r"<b>(\d+)</b>", page)]
    links = [unescape(link) for link in re.findall(r'href="([^"]+)"', page)]
    assert counts == [2, 2, 1, 1]
    found = [re.findall(r"<p>\s*<bdi>(\w+)</bdi>", read(admin, batch, link)) for link in links]
    assert found == [["one", "two"], ["four", "five"], ["three"], ["six"]]


def test_times_are_distributed(admin: Client) -> None:
    quick, slow = {"duration": 0.003}, {"duration": 0.03, "status": 500}
    page = read(admin, background(*[quick] * 18, *[slow] * 4, {"duration": 5_000.0}, {"started": None}))
    lines = page.partition(">Durations</h2>")[2].partition("</section>")[0].split("<li>")[1:]
    assert "2 ms to 5 ms" in lines[0]
    assert "<b>18</b>" in lines[0]
    assert "<b>0</b>" in lines[1]
    assert "20 ms to 50 ms" in lines[3]
    assert "4 failed" in lines[3]
    assert "1000" in lines[-1].replace("16 min 40 s", "1000")
    assert sum(int(count) for line in lines for count in re.findall(r"<b>(\d+)</b>", line)) == 23


def test_a_waterfall_shows_parts_and_comes_closer(admin: Client) -> None:
    items = [{"started": number / 10, "finished": number / 10 + 0.1, "duration": 0.1} for number in range(600)]
    items[300] |= {"status": 500}
    batch = running(*items, *[QUEUED] * 400)
    page = read(admin, batch)
    parts = page.split('<a class="batching-part"')[1:]
    assert len(parts) == 50
    assert "300 to 319" in parts[15]
    assert "1 failed" in parts[15]
    assert "20 open" in parts[49]
    closer = read(admin, batch, "?first=300&last=519")
    assert "The scale begins 30 s after the call." in closer
    assert "300 to 304" in closer.split('<a class="batching-part"')[1]
    closest = read(admin, batch, "?first=300&last=304")
    assert "batching-part" not in closest.partition('id="batching-closer"')[2]
    assert len(rows(closest)) == 5
    assert "waited 30 s, ran 100 ms" in rows(closest)[0]
    bars = [float(x) for x in re.findall(r'batching-running" x="([\d.]+)%', "".join(rows(closest)))]
    assert bars == [0.0, 20.0, 40.0, 60.0, 80.0]


def test_parts_in_which_nothing_ran_are_there(admin: Client) -> None:
    never = {"started": None, "status": 504, "state": "expired"}
    assert "0 to 4" in read(admin, background(*[never] * 250, expired=250))
