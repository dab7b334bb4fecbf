"""The identity of a background batch's caller: stored without credentials, and authenticated again for each item.

An identity names the user, the authentication class that accepted the call, and the row of the API key, if there was
one; none of these is a credential. For an item, the caller is set on the request object inside this process: no
header, cookie or body of a client takes part in it.
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


class CallerRevoked(Exception):
    """The caller may not call any more: the user was deactivated, or the key revoked."""


@dataclass(frozen=True, slots=True)
class Identity:
    """How a call was authenticated. `authenticator` is the path of the DRF class, empty for an anonymous caller.

    `in_session`: by a session of Django's. `passed_csrf`: it passed the CSRF check. `key`: the label of the model and
    the primary key of the row that authenticated it.
    """

    authenticator: str
    in_session: bool
    passed_csrf: bool
    key: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class BackgroundCaller:
    """The caller that the items of a background batch are executed as."""

    identity: Identity
    user: Any
    key: Any


def dump(request: Request) -> dict[str, Any]:
    """Return the identity of a request's caller as JSON."""
    authenticator = request.successful_authenticator
    key = request.auth
    return asdict(
        Identity(
            authenticator=dotted_path(type(authenticator)) if authenticator else "",
            in_session=isinstance(authenticator, SessionAuthentication),
            passed_csrf=passed_csrf(request._request),
            key=(key._meta.label_lower, str(key.pk)) if isinstance(key, Model) else None,
        )
    )


def dump_session() -> dict[str, Any]:
    """Return the same for a user named at the command line: as if authenticated by a session."""
    return asdict(Identity(dotted_path(SessionAuthentication), in_session=True, passed_csrf=True, key=None))


def passed_csrf(request: HttpRequest) -> bool:
    """Run the check that DRF runs for callers with a session."""
    check: Any = CSRFCheck(lambda _: None)  # type: ignore[arg-type]  # as DRF makes it
    check.process_request(request)
    return check.process_view(request, None, (), {}) is None


def dotted_path(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def load(batch: Batch) -> BackgroundCaller:
    """Return the caller of a batch, with the user and key as they are now. Raises `CallerRevoked`."""
    identity = Identity(**(batch.identity or {}))
    if batch.owner_id is not None and not (batch.owner and batch.owner.is_active):
        raise CallerRevoked
    return BackgroundCaller(identity, batch.owner, active_key(*identity.key) if identity.key else None)


def active_key(label: str, pk: str) -> Any:
    """Return the row of a key, one of `usable()` where the model's manager has that. Raises `CallerRevoked`."""
    manager = apps.get_model(label)._default_manager
    rows = manager.usable() if hasattr(manager, "usable") else manager.all()
    if row := rows.filter(pk=pk).first():
        return row
    raise CallerRevoked


def authenticate(request: HttpRequest, caller: BackgroundCaller) -> None:
    """Set the caller that Django's AuthenticationMiddleware and CsrfViewMiddleware see, where it had a session."""
    if caller.identity.passed_csrf:
        request._dont_enforce_csrf_checks = True  # type: ignore[attr-defined]  # what they look at
    if caller.identity.in_session:
        request._cached_user = request._acached_user = caller.user  # type: ignore[attr-defined]  # what it looks at


def authenticate_in_view(view: Callable[..., Any], request: HttpRequest, caller: BackgroundCaller) -> None:
    """Set the caller that a DRF view sees, if the authentication class of the call is one of the view's own.

    A direct call to another view would have been anonymous too. A view that chooses its authenticators in code sees
    no caller.
    """
    kind: Any = getattr(view, "cls", None)
    if caller.identity.in_session or not caller.identity.authenticator or not declares_authentication(kind):
        return
    accepted = getattr(view, "initkwargs", {}).get("authentication_classes", kind.authentication_classes)
    if caller.identity.authenticator in map(dotted_path, accepted):
        request._force_auth_user = caller.user  # type: ignore[attr-defined]  # what DRF's Request looks at
        request._force_auth_token = caller.key  # type: ignore[attr-defined]  # the same


def declares_authentication(kind: Any) -> bool:
    """Tell whether a view uses the authentication classes that it declares."""
    return (
        isinstance(kind, type) and issubclass(kind, APIView) and kind.get_authenticators is APIView.get_authenticators
    )
