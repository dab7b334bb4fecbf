"""How an agent answers: the loop of model and tools."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal

from assistant.answers.context import Brief, call
from assistant.answers.research import research
from assistant.errors import AssistantError
from assistant.events import Token, ToolCall, ToolResult, Usage
from assistant.providers.base import Completion, ModelRequest, Step
from assistant.tools.toolbox import Tool


def agent_steps(brief: Brief) -> AsyncGenerator[Step]:
    """Yield what the agent does, ended by one Completion with the whole answer's usage.

    A model that can't call tools has the search made for it, where the agent may search.
    """
    if not brief.model.calls_tools:
        search = next((tool for tool in brief.tools if tool.name == "search"), None)
        return research(brief, search) if search else ToolLoop(brief, {}).steps()
    return ToolLoop(brief, {tool.name: tool for tool in brief.tools}).steps()


@dataclass(slots=True)
class ToolLoop:
    """Calls the model, runs the tools it asks for side by side, gives it the results, until it asks for none."""

    brief: Brief
    tools: Mapping[str, Tool]
    usage: Usage = field(default_factory=Usage)
    used: Counter[str] = field(default_factory=Counter)
    exchange: list[Mapping[str, Any]] = field(default_factory=list)

    async def steps(self) -> AsyncGenerator[Step]:
        for rounds_left in range(self.brief.max_tool_rounds, -1, -1):
            said: list[str] = []
            calls: list[ToolCall] = []
            reason: Literal["stop", "length"] = "stop"
            async with aclosing(call(self.brief, self._request(rounds_left), self.exchange)) as events:
                async for event in events:
                    match event:
                        case Token():
                            said.append(event.content)
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
            self.exchange += exchanged("".join(said), calls, results)
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
        """Run one tool; what goes wrong is told to the model, which may try something else."""
        try:
            tool = self._admitted(wanted.name)
            output = await tool.run(wanted.parameters)
        except AssistantError as error:
            return ToolResult(wanted.tool_call_id, wanted.name, error.message, "failed")
        return ToolResult(wanted.tool_call_id, wanted.name, tool.for_model(output))

    def _admitted(self, name: str) -> Tool:
        tool = self.tools.get(name)
        if tool is None:
            raise AssistantError(f"There is no tool named {name}.")
        self.used[name] += 1
        if self.used[name] > tool.max_calls:
            raise AssistantError(f"{name} may be called {tool.max_calls} times in an answer, no more.")
        return tool


def exchanged(said: str, calls: Sequence[ToolCall], results: Sequence[ToolResult]) -> list[Mapping[str, Any]]:
    """Return a round of tools as the messages that a model is given of it."""
    asked = [
        {
            "id": each.tool_call_id,
            "type": "function",
            "function": {"name": each.name, "arguments": json.dumps(each.parameters)},
        }
        for each in calls
    ]
    told = [{"role": "tool", "tool_call_id": each.tool_call_id, "content": each.result} for each in results]
    return [{"role": "assistant", "content": said or None, "tool_calls": asked}, *told]
