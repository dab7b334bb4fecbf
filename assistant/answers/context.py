"""A model's context: the instructions, as many whole turns of the conversation as fit, and the new prompt."""

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from assistant.errors import ContextTooLong, ModelError
from assistant.observe import spans
from assistant.providers.base import Completion, Model, ModelEvent, ModelRequest
from assistant.tools.toolbox import Tool

# Where neither the model nor the agent has a limit.
DEFAULT_INPUT_TOKENS = 100_000
# English has over four characters a token; this is lower, and a model that still refuses gets less (`call_model`).
BYTES_PER_TOKEN = 3

Messages = list[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Turn:
    """An earlier prompt and its answer."""

    prompt: str
    text: str

    @property
    def messages(self) -> Messages:
        return [{"role": "user", "content": self.prompt}, {"role": "assistant", "content": self.text}]


@dataclass(frozen=True, slots=True)
class Brief:
    """The input of an answer: the agent's settings, the model, the conversation and the prompt."""

    model: Model
    prompt: str
    model_name: str = ""
    turns: Sequence[Turn] = ()
    instructions: str = ""
    tools: Sequence[Tool] = ()
    temperature: float | None = None
    max_output_tokens: int = 1024
    max_input_tokens: int | None = None
    max_tool_rounds: int = 5

    @property
    def input_tokens(self) -> int:
        """The most tokens to give the model, by the agent's limit and the model's window."""
        window = self.model.context_tokens
        room = max(window - self.max_output_tokens, window // 2) if window else DEFAULT_INPUT_TOKENS
        return min(room, self.max_input_tokens or room)


def estimate(text: str) -> int:
    """Estimate the number of tokens in a text, rather too high than too low."""
    return len(text.encode()) // BYTES_PER_TOKEN + 8


def windows(brief: Brief) -> Iterator[Sequence[Turn]]:
    """Yield the turns to give: as many as fit by estimate, then half as many again and again, then none."""
    budget = brief.input_tokens - estimate(brief.instructions) - estimate(brief.prompt)
    fitting = 0
    for turn in reversed(brief.turns):
        budget -= estimate(turn.prompt) + estimate(turn.text)
        if budget < 0:
            break
        fitting += 1
    while fitting:
        yield brief.turns[-fitting:]
        fitting //= 2
    yield ()


def first_messages(brief: Brief, turns: Sequence[Turn]) -> Messages:
    """Return the messages of a call up to the prompt, inclusive."""
    system: Messages = [{"role": "system", "content": brief.instructions}] if brief.instructions else []
    earlier = [message for turn in turns for message in turn.messages]
    return [*system, *earlier, {"role": "user", "content": brief.prompt}]


async def call_model(
    brief: Brief, request: ModelRequest, more: Sequence[Mapping[str, Any]] = ()
) -> AsyncGenerator[ModelEvent]:
    """Call the model with as much of the conversation as it takes; `more` follows the prompt.

    Raises `ModelError`, and `ContextTooLong` where the prompt alone is too long.
    """
    last: ContextTooLong | None = None
    event: ModelEvent | None = None
    for turns in windows(brief):
        attempt = replace(request, messages=[*first_messages(brief, turns), *more])
        try:
            with spans.model_call(brief.model_name, attempt) as span:
                async with aclosing(brief.model.stream(attempt)) as events:
                    async for event in events:
                        yield event
                if not isinstance(event, Completion):
                    raise ModelError("The model's answer broke off.")
                spans.note_completion(span, event)
            return
        except ContextTooLong as error:
            last = error
    raise last or ContextTooLong
