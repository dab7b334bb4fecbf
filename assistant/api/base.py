"""Base views of the API, each with the scopes that an API key needs for it, and their checks of a request."""

from typing import Any, cast

from rest_framework.exceptions import ValidationError

from wire.api.views import JSONView

# No docstrings: the OpenAPI description would show them with each view.


class ChatScopedView(JSONView):
    required_scopes = ["chat"]


class ToolsScopedView(JSONView):
    required_scopes = ["tools"]


def validate(serializer: Any, data: Any) -> dict[str, Any]:
    """Return a body's fields as the serializer reads them.

    Raises DRF's `ValidationError`, also for an unknown field: a misspelt one would otherwise have no effect.
    """
    if not isinstance(data, dict):
        raise ValidationError({"body": ["This has to be a JSON object."]})
    checked = serializer(data=data)
    unknown = {name: ["This field isn't known."] for name in data if name not in checked.fields}
    if not checked.is_valid() or unknown:
        raise ValidationError({**checked.errors, **unknown})
    return cast(dict[str, Any], checked.validated_data)
