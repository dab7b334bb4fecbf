"""The app's tables."""

from assistant.models.agents import Agent, AgentQuerySet
from assistant.models.conversations import (
    Conversation,
    ConversationQuerySet,
    Message,
    MessageQuerySet,
    lease_end,
    new_conversation_id,
    new_message_id,
)
from assistant.models.documents import Document
from assistant.models.keys import APIKey, APIKeyQuerySet
from assistant.models.usage import Allowance, MonthlyUsage, MonthlyUsageQuerySet

__all__ = [
    "APIKey",
    "APIKeyQuerySet",
    "Agent",
    "AgentQuerySet",
    "Allowance",
    "Conversation",
    "ConversationQuerySet",
    "Document",
    "Message",
    "MessageQuerySet",
    "MonthlyUsage",
    "MonthlyUsageQuerySet",
    # Landed migrations name these here.
    "lease_end",
    "new_conversation_id",
    "new_message_id",
]
