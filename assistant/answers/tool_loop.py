"""The steps of an agent: calls of the model and of the tools that it asks for."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal

from assistant.answers.context import Brief, call_model
from assistant.answers.research import research
from assistant.errors import AssistantError
from assistant.events import Token, ToolCall, ToolResult, Usage
from assistant.providers.base import Completion, ModelRequest, Step
from assistant.tools.toolbox import Tool


def agent_steps(brief: Brief) -> AsyncGenerator[Step]:
    """Yield the agent's steps, ended by one Completion with the whole answer's usage.

    For a model that can't call tools, code calls the search where the agent may search.
    """
    if not brief.model.calls_tools:
        search = next((tool for tool in brief.tools if tool.name == "search"), None)
        return research(brief, search) if search else ToolLoop(brief, {}).steps()
    return ToolLoop(brief, {tool.name: tool for tool in brief.tools}).steps()


@dataclass(slots=True)
class ToolLoop:
    """Calls the model, runs the tools it asks for side by side, and gives it the results, until it asks for none."""

    brief: Brief
    tools: Mapping[str, Tool]
    usage: Usage = field(default_factory=Usage)
    calls: Counter[str] = field(default_factory=Counter)
    rounds: list[Mapping[str, Any]] = field(default_factory=list)

    async def steps(self) -> AsyncGenerator[Step]:
        for rounds_left in range(self.brief.max_tool_rounds, -1, -1):
            text: list[str] = []
            calls: list[ToolCall] = []
            reason: Literal["stop", "length"] = "stop"
            async with aclosing(call_model(self.brief, self._request(rounds_left), self.rounds)) as events:
                async for event in events:
                    match event:
                        case Token():
                            text.append(event.content)
                        case ToolCall():
                            calls.append(event)
                        case Completion(ended, spent):
                            self.usage += spent
                            reason = "length" if ended == "length" else "stop"
                            continue
                    yield event
            if not calls:
                break
            results = await self._run(calls)
            for result in results:
                yield result
            self.rounds += round_messages("".join(text), calls, results)
            if self._tokens_left() <= 0:
                reason = "length"
                break
        yield Completion(reason, self.usage)

    def _tokens_left(self) -> int:
        return self.brief.max_output_tokens - self.usage.output_tokens

    def _request(self, rounds_left: int) -> ModelRequest:
        return ModelRequest(
            messages=(),
            tools=[tool.spec for tool in self.tools.values()] if rounds_left else (),
            temperature=self.brief.temperature,
            max_tokens=self._tokens_left(),
        )

    async def _run(self, calls: Sequence[ToolCall]) -> list[ToolResult]:
        return await asyncio.gather(*(self._execute(each) for each in calls))

    async def _execute(self, wanted: ToolCall) -> ToolResult:
        """Run one tool. The model is told of a failure, and may try something else."""
        try:
            tool = self._find(wanted.name)
            output = await tool.run(wanted.parameters)
        except AssistantError as error:
            return ToolResult(wanted.tool_call_id, wanted.name, error.message, "failed")
        return ToolResult(wanted.tool_call_id, wanted.name, tool.for_model(output))

    def _find(self, name: str) -> Tool:
        tool = self.tools.get(name)
        if tool is None:
            raise AssistantError(f"There is no tool named {name}.")
        self.calls[name] += 1
        if self.calls[name] > tool.max_calls:
            raise AssistantError(f"{name} may be called {tool.max_calls} times in an answer, no more.")
        return tool


def round_messages(text: str, calls: Sequence[ToolCall], results: Sequence[ToolResult]) -> list[Mapping[str, Any]]:
    """Return the messages that give a model the results of its tool calls."""
    tool_calls = [
        {
            "id": each.tool_call_id,
            "type": "function",
            "function": {"name": each.name, "arguments": json.dumps(each.parameters)},
        }
        for each in calls
    ]
    tool_results = [{"role": "tool", "tool_call_id": each.tool_call_id, "content": each.result} for each in results]
    return [{"role": "assistant", "content": text or None, "tool_calls": tool_calls}, *tool_results]
