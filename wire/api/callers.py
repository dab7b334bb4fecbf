"""Callers: the users who send requests, and their names in rows."""

from typing import Any

Caller = Any  # the project's user model, or AnonymousUser


def caller_name(caller: Caller) -> str:
    """Return a caller's name in rows: `user:` and the primary key, or `anonymous` for all anonymous users."""
    return f"user:{caller.pk}" if caller.is_authenticated else "anonymous"
