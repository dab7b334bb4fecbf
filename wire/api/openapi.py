"""Parts of OpenAPI descriptions that several apps share."""

from typing import Any

from drf_spectacular.utils import OpenApiResponse
from rest_framework import serializers


class ErrorSerializer(serializers.Serializer[Any]):
    """An error outside a stream."""

    error = serializers.CharField(help_text="One sentence for a person.")
    code = serializers.IntegerField(help_text="The HTTP status.")
    details = serializers.DictField(
        child=serializers.ListField(child=serializers.CharField()), required=False, help_text="The errors by field."
    )


# An event of https://html.spec.whatwg.org/multipage/server-sent-events.html; its data is JSON.
EVENT = {"type": "object", "properties": {"id": {"type": "string"}, "data": {"type": "string"}}}


def event_stream(description: str) -> OpenApiResponse:
    """Return the description of a stream of server-sent events."""
    return OpenApiResponse(EVENT, description)


def fails(*statuses: int) -> dict[int, type[ErrorSerializer]]:
    """Return the errors of an endpoint for its description. Without a database, any endpoint may return 503."""
    return dict.fromkeys([*statuses, 503], ErrorSerializer)
