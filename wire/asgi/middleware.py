"""Django's own middleware for ASGI, with a thread only for hooks that may block.

Django runs each of their hooks in a thread, because one may query a database. A request changes threads fifteen times,
which costs more than the rest of Django's work. These use a thread to save a session, store a message or read a form.
"""

from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import middleware as auth
from django.contrib.messages import middleware as messages
from django.contrib.sessions import middleware as sessions
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.middleware import clickjacking, common, csrf, security

__all__ = [
    "AuthenticationMiddleware",
    "CommonMiddleware",
    "CsrfViewMiddleware",
    "MessageMiddleware",
    "SecurityMiddleware",
    "SessionMiddleware",
    "XFrameOptionsMiddleware",
]

SAFE_METHODS = ("GET", "HEAD", "OPTIONS", "TRACE")


class Unthreaded:
    """A mixin for one of Django's middlewares: its hooks run in the event loop, unless they may block."""

    if TYPE_CHECKING:
        get_response: Callable[[HttpRequest], Any]

    def may_block(self, request: HttpRequest) -> bool:
        """Tell whether the next hook may have to wait for a database or a body."""
        return False

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase | None = None
        if hasattr(self, "process_request"):
            response = await self.run(self.process_request, request)
        response = response or await self.get_response(request)
        if hasattr(self, "process_response"):
            response = await self.run(self.process_response, request, response)
        assert response is not None  # noqa: S101  # for the type checker
        return response

    async def run(self, hook: Callable[..., Any], request: HttpRequest, *rest: Any) -> Any:
        if self.may_block(request):
            return await sync_to_async(hook, thread_sensitive=True)(request, *rest)
        return hook(request, *rest)


class SecurityMiddleware(Unthreaded, security.SecurityMiddleware):
    """Django's, without a change of thread."""


class SessionMiddleware(Unthreaded, sessions.SessionMiddleware):
    """Django's; a thread is used where a session is saved."""

    def may_block(self, request: HttpRequest) -> bool:
        """Tell whether the session has to be saved; the code that first uses it loads it."""
        session = getattr(request, "session", None)
        return session is not None and (session.modified or settings.SESSION_SAVE_EVERY_REQUEST)


class CommonMiddleware(Unthreaded, common.CommonMiddleware):
    """Django's, without a change of thread."""


class CsrfViewMiddleware(Unthreaded, csrf.CsrfViewMiddleware):
    """Django's; a thread is used where a form may have to be read."""

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        super().__init__(get_response)
        if iscoroutinefunction(get_response):
            self.process_view = self.process_view_in_loop  # type: ignore[assignment,method-assign]  # Django looks

    def may_block(self, request: HttpRequest) -> bool:
        return settings.CSRF_USE_SESSIONS

    async def process_view_in_loop(self, request: HttpRequest, callback: Any, args: Any, kwargs: Any) -> Any:
        """Check the request; a form's token is read in a thread."""
        check = super().process_view
        if getattr(callback, "csrf_exempt", False) or request.method in SAFE_METHODS:
            return check(request, callback, args, kwargs)
        return await sync_to_async(check, thread_sensitive=True)(request, callback, args, kwargs)


class AuthenticationMiddleware(Unthreaded, auth.AuthenticationMiddleware):
    """Django's, in the event loop: its hook only makes `request.user` lazy."""


class MessageMiddleware(Unthreaded, messages.MessageMiddleware):
    """Django's; a thread is used where messages are stored."""

    def may_block(self, request: HttpRequest) -> bool:
        """Tell whether messages have to be stored, perhaps in the session."""
        stored = getattr(request, "_messages", None)
        return stored is not None and (stored.used or stored.added_new)


class XFrameOptionsMiddleware(Unthreaded, clickjacking.XFrameOptionsMiddleware):
    """Django's, without a change of thread."""


try:
    from django.middleware import csp
except ImportError:  # Django 5.2 has none
    pass
else:

    class ContentSecurityPolicyMiddleware(Unthreaded, csp.ContentSecurityPolicyMiddleware):
        """Django's, without a change of thread."""

    __all__ += ["ContentSecurityPolicyMiddleware"]
