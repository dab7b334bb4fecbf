"""The API's paths: `path("api/", include("assistant.urls"))`."""

from django.urls import path

from assistant.api import views

__all__ = ["app_name", "urlpatterns"]

app_name = "assistant"
"""The namespace of the API's URLs."""

urlpatterns = [
    path("agent/chat", views.ChatView.as_view(), name="chat"),
    path("agent/messages/<str:message_id>", views.MessageView.as_view(), name="message"),
    path("agent/messages/<str:message_id>/stream", views.MessageStreamView.as_view(), name="message-stream"),
    path("agent/messages/<str:message_id>/stop", views.MessageStopView.as_view(), name="message-stop"),
    path("agents", views.AgentsView.as_view(), name="agents"),
    path("conversations", views.ConversationsView.as_view(), name="conversations"),
    path("conversations/<str:conversation_id>", views.ConversationView.as_view(), name="conversation"),
    path(
        "conversations/<str:conversation_id>/export",
        views.ConversationExportView.as_view(),
        name="conversation-export",
    ),
    path("tools", views.ToolsView.as_view(), name="tools"),
    path("tools/<str:name>", views.ToolView.as_view(), name="tool"),
    path("tools/<str:name>/execute", views.ExecuteView.as_view(), name="tool-execute"),
]
"""The API's paths, for `include`."""
