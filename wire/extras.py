"""The extras of the distribution: each package of theirs is imported only when it is used."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from django.core.exceptions import ImproperlyConfigured


def advice(extra: str) -> str:
    return f"needs the extra {extra}: pip install 'django-assistant-backend[{extra}]'"


def is_installed(package: str) -> bool:
    """Tell whether a package can be imported, without importing it."""
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False


@contextmanager
def needs_extra(extra: str, user: str) -> Iterator[None]:
    """Raise `ImproperlyConfigured` with what to install if an import in this block fails; `user` is what needs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ImproperlyConfigured(f"{user} {advice(extra)}.") from error
