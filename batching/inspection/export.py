"""Export a batch with the requests and responses of all items, as NDJSON or CSV, a slice at a time."""

import csv
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import datetime
from functools import partial
from io import StringIO
from typing import Any

from batching.api import progress
from batching.conf import get_settings
from batching.models import BatchItem
from batching.records.masking import mask_column

COLUMNS = (
    *("position", "item_id", "method", "path", "state", "status", "error", "queued_at", "started_at", "finished_at"),
    *("duration", "attempts", "request_headers", "request_body", "response_headers", "response_body", "encoding"),
    *("details", "truncated"),
)
# Columns that may hold any JSON.
NESTED = {"request_headers", "request_body", "response_headers", "response_body", "details"}

# A spreadsheet takes a cell that begins with one of these for a formula: https://owasp.org/www-community/attacks/CSV_Injection
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
# Tells spreadsheets that the file is UTF-8.
BOM = "\ufeff"

ExportRow = Sequence[Any]


async def ndjson(batch_id: str) -> AsyncGenerator[bytes]:
    async for rows in row_slices(batch_id):
        yield "".join(f"{json.dumps(dict(zip(COLUMNS, map(to_plain, row), strict=True)))}\n" for row in rows).encode()


async def csv_table(batch_id: str) -> AsyncGenerator[bytes]:
    yield BOM.encode() + format_csv([COLUMNS])
    async for rows in row_slices(batch_id):
        yield format_csv([[csv_cell(name, value) for name, value in zip(COLUMNS, row, strict=True)] for row in rows])


# By file extension.
FORMATS: dict[str, tuple[str, Callable[[str], AsyncGenerator[bytes]]]] = {
    "ndjson": ("application/x-ndjson", ndjson),
    "csv": ("text/csv; charset=utf-8", csv_table),
}


async def row_slices(batch_id: str) -> AsyncGenerator[list[ExportRow]]:
    after = -1
    while rows := await progress.read(partial(fetch_rows, batch_id, after)):
        after = rows[-1][0]
        yield rows


def fetch_rows(batch_id: str, after: int) -> list[ExportRow]:
    rows = progress.first_slice(BatchItem.objects.filter(batch=batch_id, position__gt=after))
    store = get_settings().BATCH_STORE_BODIES
    return [
        [mask_column(name, value, store) for name, value in zip(COLUMNS, row, strict=True)]
        for row in rows.values_list(*COLUMNS)
    ]


def to_plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def format_csv(rows: Sequence[ExportRow]) -> bytes:
    output = StringIO(newline="")
    csv.writer(output).writerows(rows)
    return output.getvalue().encode()


def csv_cell(name: str, value: Any) -> Any:
    """Return a value as a cell; an apostrophe is put before text that would be a formula."""
    if name in NESTED:
        value = None if value in (None, {}) else json.dumps(value, ensure_ascii=False)
    value = to_plain(value)
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
