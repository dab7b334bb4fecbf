"""Pages and rows that the admin tests share."""

import re
from typing import Any

from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission, User
from django.test import Client

from assistant.models import Agent, Conversation, Message


def agent_form(**changes: Any) -> dict[str, Any]:
    blank = {"id": "cook", "name": "Cook", "max_output_tokens": 500, "max_tool_rounds": 3, "is_enabled": "on"}
    return {**blank, **changes}


def errors(content: bytes) -> str:
    return " ".join(re.findall(r'<ul class="errorlist[^>]*>(.*?)</ul>', content.decode(), re.DOTALL))


def shown_messages(response: Any) -> str:
    """Return the admin's messages after a form was taken."""
    assert response.status_code == 200
    return " ".join(str(message) for message in response.context["messages"])


def turn(**fields: Any) -> Message:
    agent = Agent.objects.get(pk="default")
    conversation = Conversation.objects.create(agent=agent, title="<b>Title</b>")
    values = {
        "prompt": "<script>alert(1)</script>",
        "text": "Fine.",
        "status": "completed",
        "model": "x",
        "caller": "x",
    }
    return Message.objects.create(conversation=conversation, agent=agent, **(values | fields))


def conversation_page(message: Message) -> str:
    return f"/admin/assistant/conversation/{quote(message.conversation_id)}/change/"


def user_with(*permissions: str) -> Client:
    user = User.objects.create_user(f"user-{len(permissions)}", password="x", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client
