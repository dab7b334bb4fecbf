"""Log lines as JSON objects, for whoever collects them."""

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any

from wire.observe import tracing

__all__ = ["JSONFormatter"]

# The `key=%s` and `key=word` of our own lines: each becomes a field.
NAMES = re.compile(r"(\w+)=%")
WORDS = re.compile(r"(\w+)=(\w+)(?!\S)")
# Two, each with a beginning that is searched for quickly: as one they took ten times as long.
KEYS = re.compile(r"(Bearer |sk(?<!\wsk)[-_]|whsec_)[^\s\"'\\]+")
PASSWORDS = re.compile(r"(://[^\s/:@\"]*:)[^\s@\"\\]+(?=@)")


class JSONFormatter(logging.Formatter):
    """One object a line: `time`, `level`, `logger`, `message`, ids where there are any, and what the line names."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            **named(record),
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
            **ids(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return PASSWORDS.sub(r"\1***", KEYS.sub(r"\1***", json.dumps(line, default=str)))


def named(record: logging.LogRecord) -> dict[str, Any]:
    """Return what a line of the form `batch=%s state=%s` names."""
    said = str(record.msg)
    names = NAMES.findall(said)
    if not (names and isinstance(record.args, tuple) and len(names) == len(record.args)):
        return {}
    fields = {**dict(WORDS.findall(said)), **dict(zip(names, record.args, strict=True))}
    return {"message_id" if name == "message" else name: value for name, value in fields.items()}


def ids(record: logging.LogRecord) -> dict[str, str]:
    """Return what ties a line to others: of its request, its answer, its trace."""
    found = {"request_id": getattr(record, "request_id", "-"), "message_id": getattr(record, "message_id", "-")}
    if trace := tracing.traceparent():
        found["trace_id"] = trace.split("-")[1]
    return {name: value for name, value in found.items() if value != "-"}
