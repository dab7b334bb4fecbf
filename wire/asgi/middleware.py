"""Django's own middlewares for ASGI, in a thread only where they wait for something.

Django runs each of their hooks in a thread, as one may ask a database: fifteen changes of thread a request, which took
more than all else that Django does for it. These ask one where a session is saved, a message stored, or a form read.
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
    """Put before one of Django's middlewares, has its hooks run in the event loop, unless they may wait."""

    if TYPE_CHECKING:
        get_response: Callable[[HttpRequest], Any]

    def may_wait(self, request: HttpRequest) -> bool:
        """Tell whether the next hook may have to wait."""
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
        if self.may_wait(request):
            return await sync_to_async(hook, thread_sensitive=True)(request, *rest)
        return hook(request, *rest)


class SecurityMiddleware(Unthreaded, security.SecurityMiddleware):
    """Django's, without a change of thread."""


class SessionMiddleware(Unthreaded, sessions.SessionMiddleware):
    """Django's; a thread is used where a session is saved."""

    def may_wait(self, request: HttpRequest) -> bool:
        """Tell whether the session is to be saved; it is read by whoever looks into it."""
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

    def may_wait(self, request: HttpRequest) -> bool:
        return settings.CSRF_USE_SESSIONS

    async def process_view_in_loop(self, request: HttpRequest, callback: Any, args: Any, kwargs: Any) -> Any:
        """Look at the view; what came in a form is read in a thread."""
        check = super().process_view
        if getattr(callback, "csrf_exempt", False) or request.method in SAFE_METHODS:
            return check(request, callback, args, kwargs)
        return await sync_to_async(check, thread_sensitive=True)(request, callback, args, kwargs)


class AuthenticationMiddleware(Unthreaded, auth.AuthenticationMiddleware):
    """Django's, without a change of thread: the user is loaded when a view asks for it."""


class MessageMiddleware(Unthreaded, messages.MessageMiddleware):
    """Django's; a thread is used where messages are stored."""

    def may_wait(self, request: HttpRequest) -> bool:
        """Tell whether messages are to be stored, perhaps in the session."""
        kept = getattr(request, "_messages", None)
        return kept is not None and (kept.used or kept.added_new)


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
