"""Callers: who sends a request, and how a row names them."""

from typing import Any

Caller = Any  # the project's user model, or AnonymousUser


def caller_name(caller: Caller) -> str:
    """Return what a row keeps of a caller: `user:` and the primary key, or `anonymous` for all of those together."""
    return f"user:{caller.pk}" if caller.is_authenticated else "anonymous"
