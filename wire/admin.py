"""What the admins of both apps have in common."""

from typing import Any

from django.http import HttpRequest


class ReadOnly:
    """What is recorded is read, not edited. Whoever may delete it still may: else no user who has some could be."""

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
