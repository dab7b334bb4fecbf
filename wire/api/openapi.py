"""Parts of OpenAPI descriptions that several apps share."""

from typing import TYPE_CHECKING, Any

from rest_framework import serializers

from wire.extras import is_installed

if TYPE_CHECKING or is_installed("drf_spectacular"):
    from drf_spectacular.types import OpenApiTypes as OpenApiTypes
    from drf_spectacular.utils import OpenApiExample as OpenApiExample
    from drf_spectacular.utils import OpenApiParameter as OpenApiParameter
    from drf_spectacular.utils import OpenApiResponse as OpenApiResponse
    from drf_spectacular.utils import extend_schema as extend_schema
else:

    class Undescribed:
        """Take what views say in drf-spectacular's words, where it isn't installed (the extra `openapi`)."""

        def __call__(self, *args: Any, **kwargs: Any) -> "Undescribed":
            return self

        def __getattr__(self, name: str) -> "Undescribed":
            return self

    OpenApiTypes = OpenApiExample = OpenApiParameter = OpenApiResponse = Undescribed()

    def extend_schema(**description: Any) -> Any:
        return lambda view: view


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
