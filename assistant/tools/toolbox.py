"""Tools: typed functions with a docstring, which models and callers may call.

Every installed app's `tools.py` is imported at start; what it marks with `@tool` is found here by its name.
"""

import asyncio
import inspect
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, make_dataclass
from typing import Any, Self, get_type_hints, overload

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import ErrorDetails, to_jsonable_python

from assistant.conf import get_settings
from assistant.errors import CallerError, NotFound, ToolError, ToolTimeout
from assistant.logs import message_id
from assistant.observe import spans
from assistant.providers.base import ToolSpec
from assistant.signals import tool_ended
from wire.api.json import UNSTORABLE
from wire.asgi.threads import Pool

__all__ = ["Tool", "ToolOutput", "tool"]

logger = logging.getLogger(__name__)

# Where pydantic's own sentence would puzzle somebody who sends JSON.
SENTENCES = {
    "missing": "This parameter is required.",
    "unexpected_keyword_argument": "There is no such parameter.",
    "json_invalid": "There is text in it that JSON can't hold.",
}
STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

# Functions that aren't async run here, never in the event loop or in the threads that store answers.
POOL = Pool(8, "assistant-tool")


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """What a tool answered: `text` for a person or a model, `data` the same as plain JSON values."""

    text: str
    data: Any


@dataclass(frozen=True, slots=True, eq=False)
class Tool:
    """A function that may be called by its name. `tool` says what the limits mean."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    function: Callable[..., Any]
    arguments: TypeAdapter[Any]
    timeout: float | None
    permission: str | None
    max_calls: int
    max_result_chars: int

    @classmethod
    def of(cls, function: Callable[..., Any], **limits: Any) -> Self:
        """Read a function's signature and docstring; raises `TypeError` with a sentence where they don't suffice."""
        name = function.__name__
        description = inspect.getdoc(function)
        if not description:
            raise TypeError(f"The tool {name} needs a docstring, which tells a model what it does.")
        arguments: TypeAdapter[Any] = TypeAdapter(arguments_of(function))
        return cls(
            name=name,
            description=description,
            parameters=schema_of(arguments),
            function=function,
            arguments=arguments,
            **limits,
        )

    @property
    def spec(self) -> ToolSpec:
        return ToolSpec(self.name, self.description, self.parameters)

    def allows(self, user: Any) -> bool:
        return self.permission is None or user.has_perm(self.permission)

    def for_model(self, output: ToolOutput) -> str:
        """Return as much of the text as a model is given."""
        text = output.text
        return text if len(text) <= self.max_result_chars else f"{text[: self.max_result_chars]}... (cut here)"

    async def run(self, parameters: Mapping[str, Any]) -> ToolOutput:
        """Call the function with parameters as JSON has them.

        Raises `CallerError` naming the parameter that doesn't fit, `ToolTimeout`, and `ToolError` when it fails. A
        function that isn't async can't be stopped: over time it is left to end by itself.
        """
        with self._told(), spans.tool_call(self.name):
            arguments = self.check(parameters)
            seconds = self.timeout or get_settings().TOOL_TIMEOUT
            try:
                async with asyncio.timeout(seconds):
                    return await self._call(arguments)
            except TimeoutError:
                raise ToolTimeout(f"The tool {self.name} took longer than {seconds:g} s.") from None

    def check(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments for the function; raises `CallerError` with what is wrong with which parameter."""
        try:
            # By way of JSON, where a string may stand for a date but not for a number.
            return dict(vars(self.arguments.validate_json(json.dumps(dict(parameters)))))
        except ValidationError as error:
            raise refusal(error.errors()) from None

    async def _call(self, arguments: dict[str, Any]) -> ToolOutput:
        if not inspect.iscoroutinefunction(self.function):
            return await POOL.run(lambda: self._call_here(arguments))
        with self._blamed():
            return presented(await self.function(**arguments))

    def _call_here(self, arguments: dict[str, Any]) -> ToolOutput:
        # Blamed in the thread: asyncio can't carry a StopIteration out of it.
        with self._blamed():
            return presented(self.function(**arguments))

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Tell observers how a call ended."""
        began = time.monotonic()
        error: BaseException | None = None
        try:
            yield
        except BaseException as raised:
            error = raised
            raise
        finally:
            tool_ended.send_robust(Tool, tool=self, error=error, seconds=time.monotonic() - began)

    @contextmanager
    def _blamed(self) -> Iterator[None]:
        try:
            yield
        except (CallerError, ToolError):
            raise
        except (Exception, SystemExit) as error:  # somebody else's code: it may raise whatever it likes
            logger.exception("message=%s tool=%s state=failed", message_id.get(), self.name)
            raise ToolError(f"The tool {self.name} failed.") from error


# The registry.

REGISTRY: dict[str, Tool] = {}


@overload
def tool[F: Callable[..., Any]](function: F, /) -> F: ...


@overload
def tool[F: Callable[..., Any]](
    *,
    timeout: float | None = None,
    permission: str | None = None,
    max_calls: int = 10,
    max_result_chars: int = 8_000,
) -> Callable[[F], F]: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    timeout: float | None = None,
    permission: str | None = None,
    max_calls: int = 10,
    max_result_chars: int = 8_000,
) -> Any:
    """Register a typed function with a docstring as a tool, and return it unchanged.

    `timeout`: seconds a call may take (default: the setting TOOL_TIMEOUT). `permission`: what the caller needs to have,
    such as "shop.view_order" (default: nothing). `max_calls`: how often one answer may call it. `max_result_chars`: how
    much of its text a model is given. `Annotated[int, Field(description=..., ge=1)]` describes and bounds a parameter.

    Raises `TypeError` for a function without a docstring, with a parameter that has no type, or whose name is taken.
    """

    def register[F: Callable[..., Any]](function: F) -> F:
        made = Tool.of(
            function,
            timeout=timeout,
            permission=permission,
            max_calls=max_calls,
            max_result_chars=max_result_chars,
        )
        refuse_a_second(made)
        REGISTRY[made.name] = made
        return function

    return register(function) if function else register


def refuse_a_second(made: Tool) -> None:
    """Two tools can't have one name; the same function may come again, from a module that is imported again."""
    earlier = REGISTRY.get(made.name)
    if earlier and origin(earlier.function) != origin(made.function):
        raise TypeError(f"There are two tools named {made.name}: {origin(earlier.function)}, {origin(made.function)}.")


def origin(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def all_tools() -> list[Tool]:
    """Return the tools that aren't off (ASSISTANT_TOOLS_OFF), by name."""
    off = get_settings().ASSISTANT_TOOLS_OFF
    return [made for name, made in sorted(REGISTRY.items()) if name not in off]


def for_caller(user: Any) -> list[Tool]:
    """Return the tools that the user has the permission for."""
    return [made for made in all_tools() if made.allows(user)]


def get(name: str, user: Any) -> Tool:
    """Return a tool that the user may use; raises `NotFound`."""
    for made in for_caller(user):
        if made.name == name:
            return made
    raise NotFound("There is no such tool.")


# From a signature to a schema, and from a mistake to a sentence.


class WithoutTitles(GenerateJsonSchema):
    """A title that only repeats the name costs a model's tokens."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def schema_of(arguments: TypeAdapter[Any]) -> dict[str, Any]:
    schema = arguments.json_schema(schema_generator=WithoutTitles)
    del schema["title"]
    return schema


def arguments_of(function: Callable[..., Any]) -> type[Any]:
    """Build a checked class whose fields are the function's parameters."""
    hints = get_type_hints(function, include_extras=True)
    fields = [field_of(parameter, hints, function) for parameter in inspect.signature(function).parameters.values()]
    return checked_dataclass(make_dataclass(function.__name__, fields, kw_only=True), config=STRICT)


def field_of(
    parameter: inspect.Parameter, hints: Mapping[str, Any], function: Callable[..., Any]
) -> tuple[str, Any, Any]:
    if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
        raise TypeError(f"The tool {function.__name__} can't have the parameter {parameter}: it has no name in JSON.")
    if parameter.name not in hints:
        raise TypeError(f"The parameter {parameter.name} of the tool {function.__name__} needs a type.")
    default = Field() if parameter.default is parameter.empty else Field(default=parameter.default)
    return parameter.name, hints[parameter.name], default


def refusal(errors: list[ErrorDetails]) -> CallerError:
    details: dict[str, list[str]] = {}
    for error in errors:
        name = ".".join(map(str, error["loc"])) or "parameters"
        details.setdefault(name, []).append(SENTENCES.get(error["type"]) or f"{error['msg']}.")
    name, sentences = next(iter(details.items()))
    return CallerError(f"{name}: {sentences[0]}", details=details)


# From a result to what leaves.


def presented(value: Any) -> ToolOutput:
    """Return a function's result as text and as JSON values that every reader takes."""
    data = storable(to_jsonable_python(storable(value)))
    if isinstance(value, str):
        return ToolOutput(data, data)
    if speaks(type(value)):
        return ToolOutput(storable(str(value)), data)
    return ToolOutput(json.dumps(data, ensure_ascii=False, separators=(",", ":")), data)


def speaks(kind: type[Any]) -> bool:
    """Tell whether the class says itself how it reads."""
    saying: Any = kind.__str__
    return saying not in (object.__str__, BaseModel.__str__)


def storable(value: Any) -> Any:
    """Replace what JSON or a database can't hold: NaN and infinity by null, NUL and halves of pairs by U+FFFD."""
    match value:
        case str():
            return UNSTORABLE.sub("\ufffd", value)
        case float():
            return value if abs(value) < float("inf") else None
        case dict():
            return {storable(name): storable(inner) for name, inner in value.items()}
        case list():
            return [storable(inner) for inner in value]
        case _:
            return value
