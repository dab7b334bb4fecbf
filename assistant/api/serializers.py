"""The JSON of the API, in and out."""

from typing import Any

from rest_framework import serializers

from assistant.conf import get_settings
from assistant.models import Agent, Conversation, Message

# Conversation.title's.
TITLE_MAX_CHARS = 200


# Fields that accept their own JSON type alone: DRF's accept "1" for 1 and "yes" for true.


class StrictCharField(serializers.CharField):
    """A JSON string, white space around it kept."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"trim_whitespace": False, **kwargs})

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class StrictBooleanField(serializers.BooleanField):
    """A JSON true or false."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class StrictIntegerField(serializers.IntegerField):
    """A JSON number without a fraction."""

    def to_internal_value(self, data: Any) -> int:
        if not isinstance(data, int) or isinstance(data, bool):
            self.fail("invalid")
        return super().to_internal_value(data)


class ChatSerializer(serializers.Serializer[Any]):
    """The body of a chat request."""

    message = StrictCharField(help_text="What to ask; at most MESSAGE_MAX_CHARS characters.")
    agent_id = StrictCharField(
        required=False,
        help_text="Which agent answers; `default` in a new conversation, else the one of the conversation.",
    )
    conversation_id = StrictCharField(required=False, help_text="Earlier turns of it are the answer's context.")
    stream = StrictBooleanField(required=False, help_text="Answer as server-sent events. The query's `stream` wins.")

    def validate_message(self, value: str) -> str:
        longest = get_settings().MESSAGE_MAX_CHARS
        if not value.strip():
            raise serializers.ValidationError("This field may not be blank.")
        if len(value) > longest:
            raise serializers.ValidationError(f"This has {len(value)} characters; at most {longest} are allowed.")
        return value


class UsageSerializer(serializers.Serializer[Any]):
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()


class ToolCallSerializer(serializers.Serializer[Any]):
    tool_call_id = serializers.CharField()
    name = serializers.CharField()
    parameters = serializers.DictField()
    result = serializers.CharField(required=False)
    status = serializers.ChoiceField(["completed", "failed"], required=False)


class AnswerSerializer(serializers.Serializer[Message]):
    """One answer, as chat returns it."""

    message_id = serializers.CharField(source="id")
    conversation_id = serializers.CharField()
    agent_id = serializers.CharField()
    response = serializers.CharField(source="text")
    finish_reason = serializers.CharField(help_text="stop, length or cancelled; empty until it ended well.")
    tool_calls = ToolCallSerializer(many=True)
    usage = UsageSerializer()
    processing_time = serializers.FloatField(allow_null=True, help_text="Seconds.")


class MessageSerializer(AnswerSerializer):
    """One turn with all of its fields; `response` is the text so far."""

    status = serializers.ChoiceField(Message.Status.choices)
    message = serializers.CharField(source="prompt")
    model = serializers.CharField()
    error = serializers.JSONField(allow_null=True, help_text="message, code and retryable of a failure.")
    time_to_first_token = serializers.FloatField(allow_null=True, help_text="Seconds.")
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)


class AgentSerializer(serializers.ModelSerializer[Agent]):
    agent_id = serializers.CharField(source="id")

    class Meta:
        model = Agent
        fields = ["agent_id", "name", "description", "tools"]


class AgentListSerializer(serializers.Serializer[Any]):
    agents = AgentSerializer(many=True)


class ConversationSerializer(serializers.ModelSerializer[Conversation]):
    conversation_id = serializers.CharField(source="id")
    agent_id = serializers.CharField()

    class Meta:
        model = Conversation
        fields = ["conversation_id", "agent_id", "title", "created_at", "updated_at"]


class RenameSerializer(serializers.Serializer[Any]):
    """The new title of a conversation."""

    title = StrictCharField(
        max_length=TITLE_MAX_CHARS, help_text="White space around it is dropped.", trim_whitespace=True
    )


class ConversationDetailSerializer(ConversationSerializer):
    messages = MessageSerializer(many=True)

    class Meta(ConversationSerializer.Meta):
        fields = [*ConversationSerializer.Meta.fields, "messages"]


class ToolSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    description = serializers.CharField()
    parameters = serializers.JSONField(help_text="A JSON Schema.")


class ToolListSerializer(serializers.Serializer[Any]):
    tools = ToolSerializer(many=True)


class ExecuteSerializer(serializers.Serializer[Any]):
    parameters = serializers.DictField(required=False, default=dict, help_text="As the tool's schema has it.")


class ExecutionSerializer(serializers.Serializer[Any]):
    tool = serializers.CharField()
    result = serializers.CharField(help_text="Reads as text, for a person or a model.")
    data = serializers.JSONField(help_text="The same, structured.")  # type: ignore[assignment]  # the contract's name
    processing_time = serializers.FloatField(help_text="Seconds.")


class FrameSerializer(serializers.Serializer[Any]):
    """The fields of every frame that a client sends over a WebSocket."""

    type = StrictCharField()
    ref = StrictCharField(required=False, max_length=64, help_text="The caller's own; every reply carries it.")


class ChatFrameSerializer(FrameSerializer, ChatSerializer):
    stream = None  # type: ignore[assignment]  # how DRF leaves out a field: every answer here is a stream
    idempotency_key = StrictCharField(required=False)
    on_disconnect = StrictCharField(required=False)


class StopFrameSerializer(FrameSerializer):
    message_id = StrictCharField()


class ResumeFrameSerializer(StopFrameSerializer):
    after = StrictIntegerField(
        min_value=0, max_value=10**9 - 1, default=0, help_text="The id of the last event that the client has."
    )
