"""A tool's result as text and as JSON."""

import json
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from wire.api.json import UNSTORABLE


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """A tool's result: `text` for a person or a model, `data` the same as plain JSON values."""

    text: str
    data: Any


def to_output(value: Any) -> ToolOutput:
    """Convert a function's result to text and to JSON values that every parser accepts."""
    data = replace_unstorable(to_jsonable_python(replace_unstorable(value)))
    if isinstance(value, str):
        return ToolOutput(data, data)
    if has_own_str(type(value)):
        return ToolOutput(replace_unstorable(str(value)), data)
    return ToolOutput(json.dumps(data, ensure_ascii=False, separators=(",", ":")), data)


def has_own_str(kind: type[Any]) -> bool:
    """Tell whether the class defines its own text."""
    method: Any = kind.__str__
    return method not in (object.__str__, BaseModel.__str__)


def replace_unstorable(value: Any) -> Any:
    """Replace values that can't be stored: NaN and infinity by null, NUL and lone surrogates by U+FFFD."""
    match value:
        case str():
            return UNSTORABLE.sub("\ufffd", value)
        case float():
            return value if abs(value) < float("inf") else None
        case dict():
            return {replace_unstorable(name): replace_unstorable(inner) for name, inner in value.items()}
        case list():
            return [replace_unstorable(inner) for inner in value]
        case _:
            return value
