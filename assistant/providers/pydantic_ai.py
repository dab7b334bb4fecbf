"""All other providers (anthropic:, google:, groq: ...), through pydantic-ai."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import groupby
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from assistant.conf import get_settings
from assistant.errors import AssistantError, ContextTooLong, ModelError, ModelTimeout, ModelUnreachable
from assistant.events import Token, ToolCall, Usage
from assistant.providers.base import Completion, ModelEvent, ModelRequest, ToolSpec
from assistant.providers.chat_completions import PartialToolCall, TextSanitizer
from assistant.providers.upstream_error import UpstreamError, model_error, parse_error_body, parse_retry_after
from wire.asgi.per_loop import PerLoop
from wire.extras import needs_extra
from wire.observe import tracing

with needs_extra("pydantic-ai", "A model of this provider"):
    from pydantic_ai import exceptions, messages
    from pydantic_ai.direct import model_request_stream
    from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse, infer_model
    from pydantic_ai.output import OutputObjectDefinition
    from pydantic_ai.settings import ModelSettings
    from pydantic_ai.tools import ToolDefinition


class PydanticAIModel:
    """A model of a provider that pydantic-ai knows; `make` builds another pydantic-ai model instead.

    Raises `ImproperlyConfigured` if the provider is unknown, its package isn't installed or its key isn't set.
    """

    calls_tools = True
    context_tokens: int | None = None
    capacity: int | None = None

    def __init__(self, provider: str, name: str, *, make: Callable[[], Model[Any]] | None = None) -> None:
        self.name = f"{provider}:{name}"
        self._make = make or self._infer
        # Connections belong to one event loop, so each loop has a model of its own.
        self._models = PerLoop(self._make)
        self._make()

    async def start(self) -> None:
        """Do nothing: each call opens the connection that it needs."""

    async def aclose(self) -> None:
        await self._models.aclose()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        try:
            async with self._open(request) as response:
                sanitizer = TextSanitizer()
                async for text in with_timeouts(text_deltas(response)):
                    if clean := sanitizer.sanitize(text):
                        yield Token(clean)
                if rest := sanitizer.end():
                    yield Token(rest)
                for event in final_events(response.get()):
                    yield event
        except AssistantError:
            raise
        except exceptions.ModelHTTPError as error:
            raise report_error(error, model=self.name, request=request) from None
        except Exception as error:  # foreign code: each provider's package raises its own errors
            raise convert_error(error) from error

    @asynccontextmanager
    async def _open(self, request: ModelRequest) -> AsyncGenerator[StreamedResponse]:
        model = await self._models.get()
        call = model_request_stream(
            model,
            list(convert_messages(request.messages)),
            model_settings=settings_for(request),
            model_request_parameters=parameters_for(request, model),
            instrument=False,
        )
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(get_settings().MODEL_FIRST_TOKEN_TIMEOUT):
                response = await stack.enter_async_context(call)
            yield response

    def _infer(self) -> Model[Any]:
        try:
            return infer_model(self.name)
        except (exceptions.UserError, ImportError, ValueError) as error:
            raise ImproperlyConfigured(f"The model {self.name} can't be used: {error}") from error


def report_error(error: exceptions.ModelHTTPError, *, model: str, request: ModelRequest) -> AssistantError:
    wait = parse_retry_after(str(error.retry_after)) if error.retry_after is not None else None
    upstream = UpstreamError(error.status_code, *parse_error_body(error.body), retry_after=wait)
    return upstream.report(model=model, request=request)


def convert_error(error: Exception) -> AssistantError:
    match error:
        case exceptions.ModelContextWindowExceededError():
            return ContextTooLong()
        case exceptions.ModelTimeoutError() | exceptions.ModelRequestTimeout() | TimeoutError():
            return ModelTimeout()
        case exceptions.ModelConnectionError(phase="read"):
            return model_error("The model's server hung up.", retryable=True)
        case exceptions.ModelConnectionError():
            return ModelUnreachable()
        case _:
            return ModelError()


async def with_timeouts(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
    """Yield the pieces. Raises `TimeoutError` if the first or the next one doesn't arrive in time."""
    settings = get_settings()
    limit = settings.MODEL_FIRST_TOKEN_TIMEOUT
    while True:
        async with asyncio.timeout(limit):
            piece = await anext(pieces, None)
        if piece is None:
            return
        yield piece
        limit = settings.MODEL_IDLE_TIMEOUT


async def text_deltas(response: StreamedResponse) -> AsyncIterator[str]:
    """Yield each piece of text, and an empty one for any other activity, such as a thought."""
    async for event in response:
        match event:
            case messages.PartStartEvent(part=messages.TextPart(content=text)):
                yield text
            case messages.PartDeltaEvent(delta=messages.TextPartDelta(content_delta=text)):
                yield text
            case _:
                yield ""


def final_events(response: messages.ModelResponse) -> Iterator[ToolCall | Completion]:
    """Yield the events after the text."""
    cut = response.finish_reason == "length"
    requested = [part for part in response.parts if isinstance(part, messages.ToolCallPart)]
    partial = [PartialToolCall(part.tool_call_id, part.tool_name, arguments_json(part)) for part in requested]
    calls = [] if cut else [call.parse() for call in partial]
    yield from calls
    usage = Usage(response.usage.input_tokens, response.usage.output_tokens)
    yield Completion("tool_calls" if calls else "length" if cut else "stop", usage)


def arguments_json(part: messages.ToolCallPart) -> str:
    return part.args if isinstance(part.args, str) else json.dumps(part.args or {})


def settings_for(request: ModelRequest) -> ModelSettings:
    settings = ModelSettings()
    if request.temperature is not None:
        settings["temperature"] = request.temperature
    if request.max_tokens is not None:
        settings["max_tokens"] = request.max_tokens
    if headers := tracing.headers():
        settings["extra_headers"] = headers
    return settings


def parameters_for(request: ModelRequest, model: Model[Any]) -> ModelRequestParameters:
    tools = [tool_definition(tool) for tool in request.tools]
    if request.schema is None:
        return ModelRequestParameters(function_tools=tools)
    return ModelRequestParameters(
        function_tools=tools,
        output_mode="native" if model.profile.get("supports_json_schema_output") else "prompted",
        output_object=OutputObjectDefinition(json_schema=dict(request.schema), name="answer", strict=True),
    )


def tool_definition(tool: ToolSpec) -> ToolDefinition:
    return ToolDefinition(name=tool.name, description=tool.description, parameters_json_schema=dict(tool.parameters))


def convert_messages(conversation: Sequence[Mapping[str, Any]]) -> Iterator[messages.ModelMessage]:
    """Yield OpenAI messages as pydantic-ai's, which join consecutive messages of one side."""
    calls = (call for message in conversation for call in message.get("tool_calls") or ())
    names = {call["id"]: call["function"]["name"] for call in calls}
    for by_model, group in groupby(conversation, lambda message: message["role"] == "assistant"):
        if by_model:
            yield messages.ModelResponse(parts=[part for message in group for part in response_parts(message)])
        else:
            yield messages.ModelRequest(parts=[request_part(message, names) for message in group])


def request_part(message: Mapping[str, Any], names: Mapping[str, str]) -> messages.ModelRequestPart:
    content = message.get("content") or ""
    match message["role"]:
        case "system":
            return messages.SystemPromptPart(content)
        case "tool":
            call = message["tool_call_id"]
            return messages.ToolReturnPart(tool_name=names.get(call, ""), content=content, tool_call_id=call)
        case _:
            return messages.UserPromptPart(content)


def response_parts(message: Mapping[str, Any]) -> Iterator[messages.ModelResponsePart]:
    if content := message.get("content"):
        yield messages.TextPart(content)
    for call in message.get("tool_calls") or ():
        function = call["function"]
        yield messages.ToolCallPart(function["name"], function["arguments"], tool_call_id=call["id"])
