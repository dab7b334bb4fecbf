"""Classes for the admin of any app."""

from typing import Any

from django.http import HttpRequest


class ReadOnly:
    """A mixin for records: they are viewed, not added or changed.

    Deletion stays a permission: otherwise no user who has records could be deleted.
    """

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
