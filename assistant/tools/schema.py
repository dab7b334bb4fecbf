"""From a function's signature to a JSON Schema, and from a validation error to a message."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import make_dataclass
from typing import Any, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import ErrorDetails

from assistant.errors import CallerError

# Messages for errors whose pydantic message would puzzle a caller who sends JSON.
MESSAGES = {
    "missing": "This parameter is required.",
    "unexpected_keyword_argument": "There is no such parameter.",
    "json_invalid": "It contains text that JSON can't represent.",
}
STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class UntitledSchema(GenerateJsonSchema):
    """Omits titles, which only repeat the names and cost tokens."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def json_schema(arguments: TypeAdapter[Any]) -> dict[str, Any]:
    schema = arguments.json_schema(schema_generator=UntitledSchema)
    del schema["title"]
    return schema


def arguments_class(function: Callable[..., Any]) -> type[Any]:
    """Return a validating class whose fields are the function's parameters."""
    hints = get_type_hints(function, include_extras=True)
    fields = [to_field(parameter, hints, function) for parameter in inspect.signature(function).parameters.values()]
    return pydantic_dataclass(make_dataclass(function.__name__, fields, kw_only=True), config=STRICT)


def to_field(
    parameter: inspect.Parameter, hints: Mapping[str, Any], function: Callable[..., Any]
) -> tuple[str, Any, Any]:
    if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
        raise TypeError(f"The tool {function.__name__} can't have the parameter {parameter}: name each one.")
    if parameter.name not in hints:
        raise TypeError(f"The parameter {parameter.name} of the tool {function.__name__} needs a type.")
    default = Field() if parameter.default is parameter.empty else Field(default=parameter.default)
    return parameter.name, hints[parameter.name], default


def to_caller_error(errors: list[ErrorDetails]) -> CallerError:
    details: dict[str, list[str]] = {}
    for error in errors:
        name = ".".join(map(str, error["loc"])) or "parameters"
        details.setdefault(name, []).append(MESSAGES.get(error["type"]) or f"{error['msg']}.")
    name, messages = next(iter(details.items()))
    return CallerError(f"{name}: {messages[0]}", details=details)
