"""An app's settings as a typed value, read from Django's."""

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

# Settings whose values are shown to nobody have names that end so.
SECRETS = ("_KEY", "_SECRET", "_TOKEN")


# What has been read.
known: dict[type[Any], Any] = {}


def read[S](kind: type[S]) -> S:
    """Return `kind`, a pydantic dataclass, with the Django settings named as its fields, as they are now.

    Raises `ImproperlyConfigured` with a sentence naming the value that can't be used.
    """
    before = known  # what is being read while a test changes a setting isn't kept
    made: S | None = before.get(kind)
    if made is None:
        made = before[kind] = built(kind)
    return made


def built[S](kind: type[S]) -> S:
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]  # a dataclass
    values: dict[str, Any] = {name: getattr(settings, name) for name in names if hasattr(settings, name)}
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        why = first["msg"].removeprefix("Value error, ")
        raise ImproperlyConfigured(f"{first['loc'][0]} can't be {shown(first)}: {why[0].lower()}{why[1:]}.") from None


@receiver(setting_changed)
def forget(**kwargs: Any) -> None:
    """Read settings again once a test has changed one."""
    global known
    known = {}


def shown(error: ErrorDetails) -> str:
    """Return the value that can't be used, unless it is a secret."""
    return "what it is" if str(error["loc"][0]).endswith(SECRETS) else repr(error["input"])
