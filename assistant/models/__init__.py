"""The app's tables."""

from assistant.models.agents import Agent
from assistant.models.conversations import Conversation, Message
from assistant.models.conversations import MessageQuerySet as MessageQuerySet

# Landed migrations name these here.
from assistant.models.conversations import lease_end as lease_end
from assistant.models.conversations import new_conversation_id as new_conversation_id
from assistant.models.conversations import new_message_id as new_message_id
from assistant.models.documents import Document
from assistant.models.keys import APIKey
from assistant.models.usage import Allowance, MonthlyUsage

__all__ = ["APIKey", "Agent", "Allowance", "Conversation", "Document", "Message", "MonthlyUsage"]
