"""Downloads of a batch: NDJSON and CSV."""

import csv
import json
from datetime import datetime, timedelta
from io import StringIO

import pytest
from django.test import Client

from tests.batching.admin_pages import log_entries, page_named, sign_in_with
from tests.batching.background import content
from tests.batching.factories import BEGAN, QUEUED, background, make, running


@pytest.fixture
def reader(committed: None) -> Client:
    return sign_in_with("view_batch", "view_batchitem")


def test_a_batch_is_downloaded_as_lines(reader: Client) -> None:
    batch = running({"response_body": {"رد": "مرحبا"}, "item_id": "رد"}, QUEUED, *[{}] * 600)
    response = reader.post(page_named("download", batch, "ndjson"))
    assert response["Content-Type"] == "application/x-ndjson"
    assert response["Content-Disposition"] == f'attachment; filename="{batch.pk}.ndjson"'
    lines = [json.loads(line) for line in content(response).splitlines()]
    assert [line["position"] for line in lines] == list(range(602))
    assert (lines[0]["item_id"], lines[0]["response_body"]) == ("رد", {"رد": "مرحبا"})
    assert datetime.fromisoformat(lines[0]["finished_at"]) == BEGAN + timedelta(seconds=1)
    assert lines[1]["state"] == "queued"
    assert "call" not in lines[0]
    assert log_entries() == [("operator", "Downloaded as NDJSON.")]


def test_a_batch_is_downloaded_as_a_table_without_formulas(reader: Client) -> None:
    bad = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1"]
    good = ["a=1", "/api/x", "'", "", '"x",;', "سلام"]
    batch = background(
        *({"item_id": text, "error": text, "request_body": text, "method": text[:9]} for text in bad + good)
    )
    response = reader.post(page_named("download", batch, "csv"))
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    text = content(response).decode("utf-8-sig")
    table = list(csv.DictReader(StringIO(text, newline="")))
    assert [row["item_id"] for row in table] == [f"'{text}" for text in bad] + good
    for row in table:
        for cell in row.values():
            assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"))
    assert [json.loads(row["request_body"]) for row in table] == bad + good
    assert log_entries() == [("operator", "Downloaded as CSV.")]


def test_a_download_reads_a_slice_at_a_time(reader: Client) -> None:
    batch = background(*[{}] * 600)
    parts = list(reader.post(page_named("download", batch, "csv")))
    assert len(parts) == 4


def test_there_is_no_other_kind_of_download(reader: Client) -> None:
    assert reader.post(page_named("download", make({}), "exe")).status_code == 404
    assert reader.get(page_named("download", make({}), "csv")).status_code == 405
    assert log_entries() == []
