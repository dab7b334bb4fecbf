"""An app's settings as a typed object, read from Django's."""

from dataclasses import fields
from typing import Annotated, Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.dispatch import receiver
from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails

Count = Annotated[int, Field(ge=1, strict=True)]
Seconds = Annotated[float, Field(gt=0, strict=True, allow_inf_nan=False)]

# Endings of the names of settings whose values no error shows.
SECRETS = ("_KEY", "_SECRET", "_TOKEN")

# The default of BODY_MAX_BYTES.
BODY_MAX_BYTES = 2 * 1024 * 1024

# The settings that were read, by their class.
cache: dict[type[Any], Any] = {}


def read_settings[S](kind: type[S]) -> S:
    """Return `kind`, a pydantic dataclass, with the Django settings named as its fields, as they are now.

    Raises `ImproperlyConfigured` with a sentence that names the invalid value.
    """
    current = cache  # a test that changes a setting meanwhile replaces it
    result: S | None = current.get(kind)
    if result is None:
        result = current[kind] = build(kind)
    return result


def build[S](kind: type[S]) -> S:
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]  # a dataclass
    values: dict[str, Any] = {name: getattr(settings, name) for name in names if hasattr(settings, name)}
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        why = first["msg"].removeprefix("Value error, ")
        raise ImproperlyConfigured(f"{first['loc'][0]} can't be {shown(first)}: {why[0].lower()}{why[1:]}.") from None


def body_max_bytes() -> int:
    """Return how many bytes a request's body may have where its view doesn't take more."""
    limit: int = getattr(settings, "BODY_MAX_BYTES", BODY_MAX_BYTES)
    return limit


@receiver(setting_changed)
def clear_cache(**kwargs: Any) -> None:
    """Read the settings again after a test has changed one."""
    global cache
    cache = {}


def shown(error: ErrorDetails) -> str:
    """Return the invalid value, unless it is a secret."""
    return "what it is" if str(error["loc"][0]).endswith(SECRETS) else repr(error["input"])
