"""Every way a call of this app can be refused or fail, by who must act. `wire.errors` renders them.

`message` is a sentence for a person and leaves the process; the cause (`raise ... from`) stays in the log.
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
    message = "The call can't be carried out as it is."


class NotFound(CallerError):
    """It doesn't exist, or isn't the caller's."""

    status = 404
    message = "Not found."


class Conflict(CallerError):
    """Something else is under way; the same call may work once it has ended."""

    status = 409
    message = "The call conflicts with one that is still running."


class ContextTooLong(CallerError):
    """The model can't take as much text as this call would give it."""

    message = "The message is too long for this model."


class Busy(AssistantError):
    """The caller may come back later."""

    status = 503
    message = "Too many answers are being written right now."


class TooManyAnswers(AssistantError):
    """The caller may come back when one of their answers has ended."""

    status = 429
    message = "Too many of your answers are being written right now."


class Unreachable(AssistantError):
    """What the processes share can't be reached; the operator must act, and the caller may come back later."""

    status = 503
    message = "Answers of other processes can't be reached right now."
    retry_after = 5


class TokensSpent(AssistantError):
    """The caller may come back next month."""

    status = 429
    message = "The tokens of this month are used up."


class ModelError(AssistantError):
    """The model failed: it answered with an error, hung up, or sent what can't be read."""

    status = 502
    message = "The model failed."


class ModelRefusedCredentials(ModelError):
    """The model's server doesn't accept our key; the operator must act."""

    message = "The model's server refused the service's credentials."


class ModelNotFound(ModelError):
    """The model's server doesn't know the model; the operator must act."""

    message = "The model's server doesn't know this model."


class ModelMisconfigured(ModelError):
    """The agent's model can't be used as it is configured; the operator must act."""

    status = 503
    message = "This agent's model isn't set up."


class ModelBusy(ModelError):
    """The model's server is at its limit; `retry_after` (seconds) is what it said, where it said so."""

    status = 503
    message = "The model is busy."
    retry_after = 5


class ModelUnreachable(ModelError):
    """No connection to the model's server."""

    status = 502
    message = "The model can't be reached."
    retryable = True


class ModelTimeout(ModelError):
    """The model was silent for too long, or the answer took longer than it may."""

    status = 504
    message = "The model took too long."
    retryable = True


class ToolError(AssistantError):
    """A tool failed; raised by tools with a message that a person or a model may read."""

    status = 502
    message = "The tool failed."


class ToolTimeout(ToolError):
    """A tool took longer than it may."""

    status = 504
    message = "The tool took too long."
    retryable = True
