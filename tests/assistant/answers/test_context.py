"""What a model is given of a conversation."""

from typing import Any

import pytest

from assistant.answers.context import Brief, Turn, call_model, estimate, first_messages, windows
from assistant.errors import ContextTooLong, ModelError
from assistant.events import Token
from assistant.providers.base import Completion, ModelRequest


class Window:
    """A model that takes a number of characters and says what it was given."""

    calls_tools = False
    capacity = None

    def __init__(self, chars: int, context_tokens: int | None = None) -> None:
        self.chars = chars
        self.context_tokens = context_tokens

    async def stream(self, request: ModelRequest) -> Any:
        given = [str(message["content"]) for message in request.messages]
        if sum(map(len, given)) > self.chars:
            raise ContextTooLong
        yield Token(" ".join(given))
        yield Completion("stop")


def brief(model: Any, turns: int, **fields: Any) -> Brief:
    said = [Turn(f"q{number}" * 20, f"a{number}" * 20) for number in range(turns)]
    return Brief(model=model, prompt="new", turns=said, **fields)


def test_the_order_is_instructions_then_turns_then_the_prompt() -> None:
    asked = Brief(model=Window(0), prompt="new", turns=[Turn("q", "a")], instructions="be kind")
    assert [(message["role"], message["content"]) for message in first_messages(asked, asked.turns)] == [
        ("system", "be kind"),
        ("user", "q"),
        ("assistant", "a"),
        ("user", "new"),
    ]


@pytest.mark.parametrize("budget", [0, 64, 100, 200, 500, 10_000])
def test_the_oldest_turns_are_dropped_first_and_whole(budget: int) -> None:
    asked = brief(Window(0), 10, max_input_tokens=budget or 1)
    first = next(windows(asked))
    assert list(first) == list(asked.turns)[len(asked.turns) - len(first) :]
    assert sum(estimate(turn.prompt) + estimate(turn.text) for turn in first) <= max(budget, 0)


def test_the_window_of_the_model_bounds_what_is_given() -> None:
    assert len(next(windows(brief(Window(0, context_tokens=200), 100, max_output_tokens=100)))) < 4


async def answer(asked: Brief) -> str:
    events = [event async for event in call_model(asked, ModelRequest(messages=()))]
    assert isinstance(events[-1], Completion)
    return "".join(event.content for event in events if isinstance(event, Token))


async def test_a_model_that_takes_less_than_estimated_is_given_fewer_turns() -> None:
    given = await answer(brief(Window(250), 10, instructions="be kind"))
    assert given.startswith("be kind")
    assert given.endswith("new")
    assert "q9" in given
    assert "q0" not in given


async def test_an_answer_that_ends_without_saying_so_is_a_failure() -> None:
    class Silent:
        context_tokens = None

        async def stream(self, request: ModelRequest) -> Any:
            yield Token("Half an ")

    with pytest.raises(ModelError, match="broke off"):
        await answer(brief(Silent(), 0))


async def test_a_prompt_that_is_too_long_alone_is_refused() -> None:
    with pytest.raises(ContextTooLong):
        await answer(brief(Window(2), 10))
