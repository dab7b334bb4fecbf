"""The errors of this app, by who must act. `wire.errors` renders them.

`message` is a sentence for the caller; the cause (`raise ... from`) is only logged.
"""

from wire.errors import WireError

__all__ = [
    "AssistantError",
    "Busy",
    "CallerError",
    "Conflict",
    "ContextTooLong",
    "ModelBusy",
    "ModelError",
    "ModelMisconfigured",
    "ModelNotFound",
    "ModelRefusedCredentials",
    "ModelTimeout",
    "ModelUnreachable",
    "NotFound",
    "TokensSpent",
    "TooManyAnswers",
    "ToolError",
    "ToolTimeout",
    "Unreachable",
]


class AssistantError(WireError):
    """Base of the app's errors: the operator must look into it."""

    status = 500
    message = "The assistant failed."


class CallerError(AssistantError):
    """The caller must change the call."""

    status = 400
    message = "The call is invalid."


class NotFound(CallerError):
    """The object doesn't exist, or belongs to another caller."""

    status = 404
    message = "Not found."


class Conflict(CallerError):
    """Another call is still running; the same call may succeed after it."""

    status = 409
    message = "The call conflicts with one that is still running: try again when that has ended."


class ContextTooLong(CallerError):
    """The text of this call exceeds the model's context."""

    message = "The message is too long for this model: shorten it."


class Busy(AssistantError):
    """The caller may come back later."""

    status = 503
    message = "Too many answers are being written: try again later."


class TooManyAnswers(AssistantError):
    """The caller may come back when one of its answers has ended."""

    status = 429
    message = "Too many of your answers are being written: try again when one has ended."


class Unreachable(AssistantError):
    """Redis can't be reached; the operator must act, and the caller may come back later."""

    status = 503
    message = "Answers of other processes can't be reached: try again later."
    retry_after = 5


class TokensSpent(AssistantError):
    """The caller may come back next month."""

    status = 429
    message = "The tokens of this month are used up."


class ModelError(AssistantError):
    """The model failed: its server sent an error or an invalid response, or hung up."""

    status = 502
    message = "The model failed."


class ModelRefusedCredentials(ModelError):
    """The model's server refuses the configured key; the operator must act."""

    message = "The model's server refused the service's credentials."


class ModelNotFound(ModelError):
    """The model's server doesn't know the model; the operator must act."""

    message = "The model's server doesn't know this model."


class ModelMisconfigured(ModelError):
    """The agent's model can't be used as it is configured; the operator must act."""

    status = 503
    message = "This agent's model isn't set up."


class ModelBusy(ModelError):
    """The model's server is at its limit; `retry_after` (seconds) is the server's, if it sent one."""

    status = 503
    message = "The model is busy: try again later."
    retry_after = 5


class ModelUnreachable(ModelError):
    """The model's server can't be reached."""

    status = 502
    message = "The model can't be reached."
    retryable = True


class ModelTimeout(ModelError):
    """The model was silent for too long, or the answer exceeded its timeout."""

    status = 504
    message = "The model took too long."
    retryable = True


class ToolError(AssistantError):
    """A tool failed; tools raise it with a message for the caller and the model."""

    status = 502
    message = "The tool failed."


class ToolTimeout(ToolError):
    """A tool exceeded its timeout."""

    status = 504
    message = "The tool took too long."
    retryable = True
