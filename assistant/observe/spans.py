"""The spans of an answer, named by OpenTelemetry's conventions for generative AI, without texts.

https://opentelemetry.io/docs/specs/semconv/gen-ai/
"""

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from wire.observe import tracing
from wire.observe.tracing import Attributes, Span

if TYPE_CHECKING:
    from assistant.models import Message
    from assistant.providers.base import Completion, ModelRequest


def turn(message: "Message", work: Coroutine[Any, Any, None]) -> Coroutine[Any, Any, None]:
    """Return an answer's work, wrapped in a span if tracing is enabled; call it while the request's span is current."""
    return run_in_span(message, work, tracing.traceparent()) if tracing.tracer else work


async def run_in_span(message: "Message", work: Coroutine[Any, Any, None], parent: str) -> None:
    attributes = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": provider(message.model),
        "gen_ai.agent.id": message.agent_id,
        "gen_ai.conversation.id": message.conversation_id,
        "gen_ai.request.model": message.model,
        "assistant.message.id": message.id,
    }
    with tracing.span(f"invoke_agent {message.agent_id}", attributes, parent=parent) as span:
        await work
        note_outcome(span, message)


def note_outcome(span: Span, message: "Message") -> None:
    span.note(
        {
            "assistant.message.status": message.status,
            "assistant.time_to_first_token": message.time_to_first_token,
            **usage_attributes(message.input_tokens, message.output_tokens, message.finish_reason),
        }
    )
    if message.error:
        span.fail(str(message.error["code"]))


def model_call(name: str, request: "ModelRequest") -> Span:
    """Return the span of one call of a model."""
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider(name),
        "gen_ai.request.model": name.partition(":")[2],
        "gen_ai.request.temperature": request.temperature,
        "gen_ai.request.max_tokens": request.max_tokens,
        "gen_ai.output.type": "json" if request.schema else "text",
    }
    return tracing.span(f"chat {name.partition(':')[2]}", attributes, kind="client")


def note_completion(span: Span, completion: "Completion") -> None:
    usage = completion.usage
    span.note(usage_attributes(usage.input_tokens, usage.output_tokens, completion.finish_reason))


def tool_call(name: str) -> Span:
    attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name, "gen_ai.tool.type": "function"}
    return tracing.span(f"execute_tool {name}", attributes)


def provider(name: str) -> str:
    return name.partition(":")[0]


def usage_attributes(input_tokens: int, output_tokens: int, reason: str) -> Attributes:
    return {
        "gen_ai.usage.input_tokens": input_tokens,
        "gen_ai.usage.output_tokens": output_tokens,
        "gen_ai.response.finish_reasons": [reason] if reason else None,
    }
