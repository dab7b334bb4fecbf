"""An app's settings as a typed value, read from Django's."""

from dataclasses import fields
from typing import Annotated, Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from pydantic import Field, ValidationError

Count = Annotated[int, Field(ge=1, strict=True)]
Seconds = Annotated[float, Field(gt=0, strict=True, allow_inf_nan=False)]


def read[S](kind: type[S]) -> S:
    """Build `kind`, a pydantic dataclass, from the Django settings named as its fields, as they are now.

    Raises `ImproperlyConfigured` with a sentence naming the value that can't be used.
    """
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]  # a dataclass
    values: dict[str, Any] = {name: getattr(settings, name) for name in names if hasattr(settings, name)}
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raise ImproperlyConfigured(
            f"{first['loc'][0]} can't be {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}."
        ) from None
