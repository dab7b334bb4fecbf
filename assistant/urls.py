"""The API's paths: `path("api/", include("assistant.urls"))`."""

from django.urls import path

from assistant.api import agents, chat, conversations, messages, tools

__all__ = ["app_name", "urlpatterns"]

app_name = "assistant"
"""The namespace of the API's URLs."""

urlpatterns = [
    path("agent/chat", chat.ChatView.as_view(), name="chat"),
    path("agent/messages/<str:message_id>", messages.MessageView.as_view(), name="message"),
    path("agent/messages/<str:message_id>/stream", messages.MessageStreamView.as_view(), name="message-stream"),
    path("agent/messages/<str:message_id>/stop", messages.MessageStopView.as_view(), name="message-stop"),
    path("agents", agents.AgentsView.as_view(), name="agents"),
    path("conversations", conversations.ConversationsView.as_view(), name="conversations"),
    path("conversations/<str:conversation_id>", conversations.ConversationView.as_view(), name="conversation"),
    path(
        "conversations/<str:conversation_id>/export",
        conversations.ConversationExportView.as_view(),
        name="conversation-export",
    ),
    path("tools", tools.ToolsView.as_view(), name="tools"),
    path("tools/<str:name>", tools.ToolView.as_view(), name="tool"),
    path("tools/<str:name>/execute", tools.ExecuteView.as_view(), name="tool-execute"),
]
"""The API's paths, for `include`."""
