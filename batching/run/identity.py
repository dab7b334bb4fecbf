"""The caller of a background batch, kept so that its items can run as theirs without credentials being kept.

What is kept names the user, the authentication that knew him, and the row of the key that he used, if there was one;
none of it opens anything. An item is then vouched for inside this process, on the request object that the item's view
is called with: no header, cookie or body of any client takes part in it.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from django.apps import apps
from django.db.models import Model
from django.http import HttpRequest
from rest_framework.authentication import CSRFCheck, SessionAuthentication
from rest_framework.request import Request
from rest_framework.views import APIView

from batching.models import Batch


class Gone(Exception):
    """The caller may not call any more: he was deactivated, or his key revoked."""


@dataclass(frozen=True, slots=True)
class Identity:
    """How a caller was known. `authenticator` is the path of the DRF class, empty for an anonymous caller.

    `in_session`: a session of Django's knew him. `passed_csrf`: the call proved that it came from our own pages, or
    needed no such proof. `key`: the label and primary key of the row that authenticated him.
    """

    authenticator: str
    in_session: bool
    passed_csrf: bool
    key: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class IdentifiedCaller:
    """Who an item is carried out for."""

    identity: Identity
    user: Any
    key: Any


def kept(request: Request) -> dict[str, Any]:
    """Return what is kept of who sent a request."""
    authenticator = request.successful_authenticator
    key = request.auth
    return asdict(
        Identity(
            authenticator=name_of(type(authenticator)) if authenticator else "",
            in_session=isinstance(authenticator, SessionAuthentication),
            passed_csrf=passed_csrf(request._request),
            key=(key._meta.label_lower, str(key.pk)) if isinstance(key, Model) else None,
        )
    )


def in_session() -> dict[str, Any]:
    """Return the same of a user for whom somebody at the command line speaks: as if a session had known him."""
    return asdict(Identity(name_of(SessionAuthentication), in_session=True, passed_csrf=True, key=None))


def passed_csrf(request: HttpRequest) -> bool:
    """Ask what DRF asks of a session's callers."""
    check: Any = CSRFCheck(lambda _: None)  # type: ignore[arg-type]  # as DRF makes it
    check.process_request(request)
    return check.process_view(request, None, (), {}) is None


def name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def caller_of(batch: Batch) -> IdentifiedCaller:
    """Return whose batch it is, as he is now. Raises `Gone`."""
    identity = Identity(**(batch.identity or {}))
    if batch.owner_id is not None and not (batch.owner and batch.owner.is_active):
        raise Gone
    return IdentifiedCaller(identity, batch.owner, found(*identity.key) if identity.key else None)


def found(label: str, pk: str) -> Any:
    """Return a key's row; a model whose manager says which keys are `usable` is asked. Raises `Gone`."""
    manager = apps.get_model(label)._default_manager
    rows = manager.usable() if hasattr(manager, "usable") else manager.all()
    if row := rows.filter(pk=pk).first():
        return row
    raise Gone


def vouch(request: HttpRequest, caller: IdentifiedCaller) -> None:
    """Have Django's own AuthenticationMiddleware and CsrfViewMiddleware know a caller who had a session."""
    if caller.identity.passed_csrf:
        request._dont_enforce_csrf_checks = True  # type: ignore[attr-defined]  # what they look at
    if caller.identity.in_session:
        request._cached_user = request._acached_user = caller.user  # type: ignore[attr-defined]  # what it looks at


def vouch_to(view: Callable[..., Any], request: HttpRequest, caller: IdentifiedCaller) -> None:
    """Have a view of DRF know a caller by the authentication that knew him, if the view itself asks that one.

    A view that doesn't would not have known him either. One that chooses by code of its own isn't vouched to.
    """
    kind: Any = getattr(view, "cls", None)
    if caller.identity.in_session or not caller.identity.authenticator or not is_plain(kind):
        return
    accepted = getattr(view, "initkwargs", {}).get("authentication_classes", kind.authentication_classes)
    if caller.identity.authenticator in map(name_of, accepted):
        request._force_auth_user = caller.user  # type: ignore[attr-defined]  # what DRF's Request looks at
        request._force_auth_token = caller.key  # type: ignore[attr-defined]  # the same


def is_plain(kind: Any) -> bool:
    """Tell whether a view asks the classes that it names."""
    return (
        isinstance(kind, type) and issubclass(kind, APIView) and kind.get_authenticators is APIView.get_authenticators
    )
