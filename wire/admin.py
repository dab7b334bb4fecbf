"""Classes for the admin of any app."""

from datetime import datetime
from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone


class ReadOnly:
    """A mixin for records: they are viewed, not added or changed.

    Deletion stays a permission: otherwise no user who has records could be deleted.
    """

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def missing_permissions(model_admin: Any, request: HttpRequest) -> set[str]:
    """Return what the user may not delete, as Django's `get_deleted_objects` does."""
    return set() if model_admin.has_delete_permission(request) else {str(model_admin.opts.verbose_name)}


def users_named(name: str) -> QuerySet[Any]:
    """Return the primary keys of the users with this name."""
    users = get_user_model()
    return users._default_manager.filter(**{users.USERNAME_FIELD: name}).values("pk")


def format_time(moment: datetime) -> str:
    """Return a moment in the current time zone, to the second."""
    return timezone.localtime(moment).strftime("%Y-%m-%d %H:%M:%S")
