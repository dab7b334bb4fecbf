"""A conversation as a text that people read and keep."""

import json
from collections.abc import Iterator
from typing import Any

from assistant.models import Agent, Conversation, Message


def as_markdown(conversation: Conversation) -> str:
    """Return the conversation with who said what, the tools that were called, and how an answer ended that failed."""
    return "\n\n".join([f"# {conversation}", *sections(conversation)]) + "\n"


def sections(conversation: Conversation) -> Iterator[str]:
    names = dict(Agent.objects.filter(messages__conversation=conversation).values_list("pk", "name"))
    for message in conversation.messages.all():
        yield f"## You, {message.created_at:%Y-%m-%d %H:%M} UTC"
        yield message.prompt
        yield f"## {names[message.agent_id]}"
        yield from map(called, message.tool_calls)
        if message.text:
            yield message.text
        if message.status != Message.Status.COMPLETED:
            yield f"*{ended(message)}*"


def called(call: dict[str, Any]) -> str:
    # On one line, on which no fence ends.
    parameters = json.dumps(call["parameters"], ensure_ascii=False)
    return f"Tool `{call['name']}`:\n\n```json\n{parameters}\n```"


def ended(message: Message) -> str:
    return message.error["message"] if message.error else f"{message.get_status_display()}."
