"""The admin: agents to edit and try, conversations to read, the list of answers, documents, API keys and usage."""

from assistant.admin.agents import AgentAdmin
from assistant.admin.answers import AnswerAdmin
from assistant.admin.conversations import ConversationAdmin
from assistant.admin.documents import DocumentAdmin
from assistant.admin.keys import AllowanceAdmin, APIKeyAdmin, MonthlyUsageAdmin

__all__ = [
    "APIKeyAdmin",
    "AgentAdmin",
    "AllowanceAdmin",
    "AnswerAdmin",
    "ConversationAdmin",
    "DocumentAdmin",
    "MonthlyUsageAdmin",
]
