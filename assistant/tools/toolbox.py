"""Tools: typed functions with a docstring, which models and callers may call.

Every installed app's `tools.py` is imported at start; each function that it marks with `@tool` is registered by name.
"""

import asyncio
import inspect
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self, overload

from django.core.exceptions import ImproperlyConfigured
from pydantic import TypeAdapter, ValidationError

from assistant.conf import AssistantSettings, get_settings
from assistant.errors import CallerError, NotFound, ToolError, ToolTimeout
from assistant.logs import message_id
from assistant.observe import spans
from assistant.providers.base import ToolSpec
from assistant.signals import tool_ended
from assistant.tools.output import ToolOutput, to_output
from assistant.tools.schema import arguments_class, json_schema, to_caller_error
from wire.asgi.threads import Pool

logger = logging.getLogger(__name__)

# Tools that are off unless ASSISTANT_FETCH_URL enables them: they reach other hosts.
OPT_IN = frozenset({"fetch_url"})

# Sync functions run here, never in the event loop or in the threads that store answers.
POOL = Pool(8, "assistant-tool")


@dataclass(frozen=True, slots=True, eq=False)
class Tool:
    """A function that models and callers call by its name. `tool` documents the limits."""

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
        """Return a tool from a function's signature and docstring. Raises `TypeError` if one of them is incomplete."""
        name = function.__name__
        description = inspect.getdoc(function)
        if not description:
            raise TypeError(f"The tool {name} needs a docstring: it tells a model what the tool does.")
        arguments: TypeAdapter[Any] = TypeAdapter(arguments_class(function))
        return cls(
            name=name,
            description=description,
            parameters=json_schema(arguments),
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
        """Return the text for a model, truncated to `max_result_chars`."""
        text = output.text
        return text if len(text) <= self.max_result_chars else f"{text[: self.max_result_chars]}... (cut here)"

    async def run(self, parameters: Mapping[str, Any]) -> ToolOutput:
        """Call the function with parameters from JSON.

        Raises `CallerError` for an invalid parameter, `ToolTimeout`, and `ToolError` if the function fails. A sync
        function can't be stopped: after the timeout it runs on to its end.
        """
        with self._signal_end(), spans.tool_call(self.name):
            arguments = self.check(parameters)
            seconds = self.timeout or get_settings().TOOL_TIMEOUT
            try:
                async with asyncio.timeout(seconds):
                    return await self._call(arguments)
            except TimeoutError:
                raise ToolTimeout(f"The tool {self.name} took longer than {seconds:g} s.") from None

    def check(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments for the function. Raises `CallerError` that names the invalid parameters."""
        try:
            # Validated as JSON, where a string may be a date but not a number.
            return dict(vars(self.arguments.validate_json(json.dumps(dict(parameters)))))
        except ValidationError as error:
            raise to_caller_error(error.errors()) from None

    async def _call(self, arguments: dict[str, Any]) -> ToolOutput:
        if not inspect.iscoroutinefunction(self.function):
            return await POOL.run(lambda: self._call_sync(arguments))
        with self._convert_errors():
            return to_output(await self.function(**arguments))

    def _call_sync(self, arguments: dict[str, Any]) -> ToolOutput:
        # Converted in the thread: asyncio can't pass a StopIteration to the event loop.
        with self._convert_errors():
            return to_output(self.function(**arguments))

    @contextmanager
    def _signal_end(self) -> Iterator[None]:
        """Send `tool_ended` when the call ends."""
        began = time.monotonic()
        error: BaseException | None = None
        try:
            yield
        except BaseException as exception:
            error = exception
            raise
        finally:
            tool_ended.send_robust(Tool, tool=self, error=error, seconds=time.monotonic() - began)

    @contextmanager
    def _convert_errors(self) -> Iterator[None]:
        try:
            yield
        except (CallerError, ToolError):
            raise
        except (Exception, SystemExit) as error:  # foreign code: it may raise any exception
            logger.exception("message=%s tool=%s state=failed", message_id.get(), self.name)
            raise ToolError(f"The tool {self.name} failed.") from error


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

    `timeout`: seconds that a call may take (default: the setting TOOL_TIMEOUT). `permission`: a permission that the
    caller needs, such as "shop.view_order" (default: none). `max_calls`: how often one answer may call it.
    `max_result_chars`: how much of its text a model receives. `Annotated[int, Field(description=..., ge=1)]` describes
    and limits a parameter.

    Raises `TypeError` for a function without a docstring, for a parameter without a type, and for a name that is taken.
    """

    def register[F: Callable[..., Any]](function: F) -> F:
        new_tool = Tool.of(
            function,
            timeout=timeout,
            permission=permission,
            max_calls=max_calls,
            max_result_chars=max_result_chars,
        )
        check_name(new_tool)
        REGISTRY[new_tool.name] = new_tool
        return function

    return register(function) if function else register


def check_name(new_tool: Tool) -> None:
    """Raise `TypeError` for a name that is taken; the same function may come again, from a module imported again."""
    if earlier := REGISTRY.get(new_tool.name):
        old, new = qualified_name(earlier.function), qualified_name(new_tool.function)
        if old != new:
            raise TypeError(f"Two tools are named {new_tool.name}: {old} and {new}. Rename one of them.")


def qualified_name(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def all_tools() -> list[Tool]:
    """Return the tools that are enabled, sorted by name."""
    off = disabled(get_settings())
    return [new_tool for name, new_tool in sorted(REGISTRY.items()) if name not in off]


def disabled(settings: AssistantSettings) -> frozenset[str]:
    """Return the names in ASSISTANT_TOOLS_OFF, and those of tools that a setting of their own has to enable."""
    return settings.ASSISTANT_TOOLS_OFF if settings.ASSISTANT_FETCH_URL else settings.ASSISTANT_TOOLS_OFF | OPT_IN


def check_names() -> None:
    """Raise `ImproperlyConfigured` where ASSISTANT_TOOLS_OFF names a tool that doesn't exist."""
    if unknown := sorted(get_settings().ASSISTANT_TOOLS_OFF - REGISTRY.keys()):
        raise ImproperlyConfigured(
            f"ASSISTANT_TOOLS_OFF can't name {', '.join(unknown)}: the tools are {', '.join(sorted(REGISTRY))}."
        )


def for_caller(user: Any) -> list[Tool]:
    """Return the tools that the user has permission to call."""
    return [new_tool for new_tool in all_tools() if new_tool.allows(user)]


def get(name: str, user: Any) -> Tool:
    """Return a tool that the user may call. Raises `NotFound`."""
    for new_tool in for_caller(user):
        if new_tool.name == name:
            return new_tool
    raise NotFound("There is no such tool.")
