"""Log lines as JSON objects."""

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any

from wire.observe import tracing

__all__ = ["JSONFormatter"]

# The `key=%s` and `key=word` of this project's log lines: each becomes a field.
NAMES = re.compile(r"(\w+)=%")
WORDS = re.compile(r"(\w+)=(\w+)(?!\S)")
# Two expressions, each with a prefix that is quick to search: one expression took ten times as long.
KEYS = re.compile(r"(Bearer |sk(?<!\wsk)[-_]|whsec_)[^\s\"'\\]+")
PASSWORDS = re.compile(r"(://[^\s/:@\"]*:)[^\s@\"\\]+(?=@)")


class JSONFormatter(logging.Formatter):
    """Formats a record as a JSON object: `time`, `level`, `logger`, `message`, ids if there are any, and its fields."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            **fields_of(record),
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
            **ids_of(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return PASSWORDS.sub(r"\1***", KEYS.sub(r"\1***", json.dumps(line, default=str)))


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return the fields that a line of the form `name=%s state=%s` names."""
    text = str(record.msg)
    names = NAMES.findall(text)
    if not (names and isinstance(record.args, tuple) and len(names) == len(record.args)):
        return {}
    fields = {**dict(WORDS.findall(text)), **dict(zip(names, record.args, strict=True))}
    return {"message_id" if name == "message" else name: value for name, value in fields.items()}


def ids_of(record: logging.LogRecord) -> dict[str, str]:
    """Return the ids of a line's request, message and trace."""
    found = {"request_id": getattr(record, "request_id", "-"), "message_id": getattr(record, "message_id", "-")}
    if trace := tracing.traceparent():
        found["trace_id"] = trace.split("-")[1]
    return {name: value for name, value in found.items() if value != "-"}
