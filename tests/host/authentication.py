"""Keys, as a project may have them: `Authorization: Key N` is the user with that primary key."""

from typing import Any

from django.contrib.auth.models import User
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request


class KeyAuthentication(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        scheme, _, pk = request.headers.get("Authorization", "").partition(" ")
        return (User.objects.get(pk=pk), None) if scheme == "Key" else None

    def authenticate_header(self, request: Request) -> str:
        return "Key"
