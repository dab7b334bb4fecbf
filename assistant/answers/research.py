"""Search for a model that is too small to call tools: it writes the query under a schema, code does the rest."""

import json
import re
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from assistant.answers.context import Brief, Turn, call_model
from assistant.errors import AssistantError
from assistant.events import Token, ToolCall, ToolResult, Usage
from assistant.providers.base import Completion, ModelRequest, Step
from assistant.tools.output import ToolOutput
from assistant.tools.toolbox import Tool

QUERY_SCHEMA = {
    "type": "object",
    "properties": {"query": {"type": "string", "minLength": 1, "maxLength": 60}},
    "required": ["query"],
    "additionalProperties": False,
}
QUERY_INSTRUCTIONS = "You name what to look up in an encyclopedia."
# Shown to the model as earlier turns: given as text, a small model repeats the example or answers the question.
EXAMPLES = (
    ("What is the capital of France?", "Paris, France"),
    ("who painted the mona lisa", "Mona Lisa"),
    ("How do magnets work?", "magnet"),
    ("Tell me about the history of jazz", "jazz"),
    ("Why do leaves fall in autumn?", "autumn leaf"),
    ("when was the eiffel tower built", "Eiffel Tower"),
)
QUERY_TOKENS = 40
# Used in place of the agent's own, which are about tools and citations that this model doesn't have.
INSTRUCTIONS = "You are a helpful assistant. Answer clearly and in a few sentences."
ANSWER_TOKENS = 160
MAX_SOURCES = 2
# A small model reads about a hundred tokens a second, and an article's beginning says the most.
SOURCE_CHARS = 600
QUERY_CHARS = 300
# A hit with this share of the query's words or less is about something else.
WEAK = 0.5
# Words that refer to the turn before.
REFERRING = frozenset({"it", "its", "he", "him", "his", "she", "her", "hers", "they", "them", "their", "that", "this"})
# Greetings, thanks, and the other words of small talk.
SMALL_TALK = (
    "hi hello hey howdy greetings good morning afternoon evening night day thanks thank you thx ok okay cool great nice"
    " bye goodbye see later please yes no sure welcome how are is it going what's up who what your name can do help me"
    " i am im i'm fine well there so very much a the"
)
PLEASANTRIES = frozenset(SMALL_TALK.split())


def research(brief: Brief, search: Tool) -> AsyncGenerator[Step]:
    """Search for the prompt and answer from the hits, with numbered sources.

    Small talk is answered without a search. Where nothing is found, code says so: a small model would invent an answer.
    """
    if is_small_talk(brief.prompt):
        return complete(replace(brief, instructions=INSTRUCTIONS))
    return search_and_answer(brief, search)


def is_small_talk(prompt: str) -> bool:
    """Tell whether the prompt has nothing to search for."""
    return all(word in PLEASANTRIES for word in words(prompt))


def words(text: str) -> list[str]:
    return re.findall(r"[\w']+", text.lower())


async def search_and_answer(brief: Brief, search: Tool) -> AsyncGenerator[Step]:
    query, usage = await write_query(brief)
    sources: Sequence[dict[str, Any]] = ()
    # The model's query first, then the prompt itself.
    for attempt in dict.fromkeys([query, brief.prompt[:QUERY_CHARS]]):
        wanted = ToolCall(f"call_{secrets.token_hex(8)}", search.name, {"query": attempt})
        yield wanted
        output, result = await execute(search, wanted)
        yield result
        if sources := relevant_hits(output):
            break
    if not sources:
        yield Token(f"I found nothing about “{query}” in the documents.")
        yield Completion("stop", usage)
        return
    async with aclosing(complete(with_sources(brief, sources), usage)) as steps:
        async for step in steps:
            if isinstance(step, Completion):
                yield Token(source_list(sources))
            yield step


async def write_query(brief: Brief) -> tuple[str, Usage]:
    """Return the query that the model writes, or the prompt itself where it writes none; and the tokens used."""
    examples = [Turn(prompt, json.dumps({"query": query})) for prompt, query in EXAMPLES]
    prompt = prompt_in_context(brief)[:QUERY_CHARS]
    asked = replace(brief, instructions=QUERY_INSTRUCTIONS, turns=examples, prompt=prompt)
    request = ModelRequest(messages=(), temperature=0, max_tokens=QUERY_TOKENS, schema=QUERY_SCHEMA)
    async with aclosing(complete(asked, request=request)) as steps:
        parts = [step async for step in steps]
    usage = next(step.usage for step in parts if isinstance(step, Completion))
    written = "".join(step.content for step in parts if isinstance(step, Token))
    return read_query(written) or brief.prompt[:QUERY_CHARS], usage


def read_query(written: str) -> str | None:
    """Return the query, or None where the text isn't what the schema demands."""
    try:
        match json.loads(written):
            case {"query": str(query)}:
                return query.strip()[:QUERY_CHARS]
    except ValueError:
        pass
    return None


def prompt_in_context(brief: Brief) -> str:
    """Return the prompt, after the one before it where it refers to that."""
    if brief.turns and not REFERRING.isdisjoint(words(brief.prompt)):
        return f"{brief.turns[-1].prompt} {brief.prompt}"
    return brief.prompt


async def execute(search: Tool, wanted: ToolCall) -> tuple[ToolOutput | None, ToolResult]:
    try:
        output = await search.run(wanted.parameters)
    except AssistantError as error:
        return None, ToolResult(wanted.tool_call_id, wanted.name, error.message, "failed")
    return output, ToolResult(wanted.tool_call_id, wanted.name, output.text)


def relevant_hits(output: ToolOutput | None) -> Sequence[dict[str, Any]]:
    hits = output.data["results"] if output else []
    return [hit for hit in hits if hit["matched"] > WEAK][:MAX_SOURCES]


def with_sources(brief: Brief, sources: Sequence[dict[str, Any]]) -> Brief:
    """Return the brief with the sources before the prompt, unnumbered: a small model would go on counting."""
    told = "\n\n".join(f"{source['title']}: {source['text'][:SOURCE_CHARS]}" for source in sources)
    prompt = f"{told}\n\nAnswer in one or two sentences, from the text above: {prompt_in_context(brief)}"
    tokens = min(brief.max_output_tokens, ANSWER_TOKENS)
    return replace(brief, instructions=INSTRUCTIONS, prompt=prompt, turns=(), max_output_tokens=tokens)


def source_list(sources: Sequence[dict[str, Any]]) -> str:
    lines = [f"[{number}] {source['title']} {source['url']}".rstrip() for number, source in enumerate(sources, 1)]
    return "\n\nSources:\n" + "\n".join(lines)


async def complete(
    brief: Brief, usage: Usage | None = None, request: ModelRequest | None = None
) -> AsyncGenerator[Token | Completion]:
    """Yield the model's answer to the brief; `usage` is added to its own."""
    spent = usage or Usage()
    plain = ModelRequest(messages=(), temperature=brief.temperature, max_tokens=brief.max_output_tokens)
    async with aclosing(call_model(brief, request or plain)) as events:
        async for event in events:
            if isinstance(event, Completion):
                yield Completion(event.finish_reason, spent + event.usage)
            elif isinstance(event, Token):
                yield event
