"""The JSON of the API, in and out."""

from datetime import UTC
from typing import Any

from rest_framework import serializers

from batching.models import Batch, BatchItem, Webhook
from batching.run.submission import id_of, represent_row


class ItemRequestSerializer(serializers.Serializer[Any]):
    """One request of a batch. Described here, parsed by `items.parse`: a bad item gets a 400 of its own."""

    id = serializers.CharField(max_length=255, help_text="Echoed in the response; unique in the batch.")
    method = serializers.ChoiceField(["GET", "POST", "PUT", "PATCH", "DELETE"])
    path = serializers.CharField(help_text="The path of the call, with its query. May hold `{{id.body.key}}`.")
    body = serializers.JSONField(required=False, help_text="Its strings may hold `{{id.body.key}}`.")
    headers = serializers.DictField(
        child=serializers.CharField(),
        required=False,
        help_text="Accept, Accept-Language, Content-Type, Idempotency-Key, If-*, Prefer and X-Request-ID.",
    )
    depends_on = serializers.ListField(
        child=serializers.CharField(), required=False, help_text="Ids of items that have to succeed first."
    )


class BatchRequestSerializer(serializers.Serializer[Any]):
    requests = ItemRequestSerializer(many=True, help_text="1 to BATCH_MAX_SIZE items.")


class ItemResponseSerializer(serializers.Serializer[Any]):
    """The response to an item: a body, or an error from status 400 on."""

    id = serializers.CharField(allow_null=True)
    status = serializers.IntegerField(help_text="The HTTP status.")
    body = serializers.JSONField(required=False)
    error = serializers.CharField(required=False, help_text="One sentence for a person.")
    details = serializers.JSONField(required=False)
    encoding = serializers.CharField(required=False, help_text="base64 where the body is bytes.")
    headers = serializers.DictField(child=serializers.CharField(), required=False)
    processing_time = serializers.FloatField(help_text="Seconds.")


class CountsSerializer(serializers.Serializer[Any]):
    total = serializers.IntegerField()
    succeeded = serializers.IntegerField()
    failed = serializers.IntegerField()
    cancelled = serializers.IntegerField(required=False, help_text="Of background batches only, as those below.")
    expired = serializers.IntegerField(required=False)
    running = serializers.IntegerField(required=False)
    queued = serializers.IntegerField(required=False)


class EnvelopeSerializer(serializers.Serializer[Any]):
    """The responses, in the order of the requests."""

    batch_id = serializers.CharField()
    responses = ItemResponseSerializer(many=True)
    total_processing_time = serializers.FloatField(help_text="Seconds.")
    counts = CountsSerializer()


def moment(**kwargs: Any) -> serializers.DateTimeField:
    """Return a field for a moment in UTC, whatever the project's time zone."""
    return serializers.DateTimeField(default_timezone=UTC, **kwargs)


class BatchSerializer(serializers.ModelSerializer[Batch]):
    created_at = moment()
    started_at, finished_at = moment(allow_null=True), moment(allow_null=True)
    batch_id = serializers.CharField(source="id")
    counts = CountsSerializer()
    total_processing_time = serializers.FloatField(source="duration", allow_null=True, help_text="Seconds.")

    class Meta:
        model = Batch
        fields = [
            *("batch_id", "status", "counts", "created_at", "started_at", "finished_at", "total_processing_time"),
            "request_id",
        ]


class BatchItemSerializer(serializers.ModelSerializer[BatchItem]):
    """The request and response of an item, credentials masked, long bodies cut (`truncated`)."""

    queued_at = moment()
    started_at, finished_at = moment(allow_null=True), moment(allow_null=True)

    class Meta:
        model = BatchItem
        fields = [
            *("state", "method", "path", "request_headers", "request_body", "depends_on", "truncated"),
            *("queued_at", "started_at", "finished_at"),
        ]

    def to_representation(self, row: BatchItem) -> dict[str, Any]:
        response = represent_row(row) if row.finished_at else {"id": id_of(row), "status": None}
        return {**response, **super().to_representation(row)}


class BatchDetailSerializer(BatchSerializer):
    items = BatchItemSerializer(many=True)

    class Meta(BatchSerializer.Meta):
        fields = [*BatchSerializer.Meta.fields, "items"]


class WebhookSerializer(serializers.ModelSerializer[Webhook]):
    """The webhook of a batch, and the state of its delivery."""

    class Meta:
        model = Webhook
        fields = ["url", "state", "attempts", "error"]


class BackgroundBatchSerializer(BatchSerializer):
    """A batch without its items, whose responses are under `results`."""

    expires_at = moment(allow_null=True)
    priority = serializers.ChoiceField(["low", "normal"], source="get_priority_display")
    parent = serializers.CharField(  # type: ignore[assignment]  # DRF makes no attribute of it
        source="parent_id", allow_null=True, help_text="The batch that this one retries."
    )
    webhook = WebhookSerializer(allow_null=True)

    class Meta(BatchSerializer.Meta):
        fields = [*BatchSerializer.Meta.fields, "priority", "expires_at", "parent", "webhook"]


class AcceptedSerializer(serializers.Serializer[Any]):
    batch_id = serializers.CharField()
    status = serializers.ChoiceField(Batch.Status.choices)
    counts = CountsSerializer()
