"""The errors of batches, by who must act. `wire.errors` renders them.

`message` is a sentence for a person and leaves the process; the cause (`raise ... from`) stays in the log.
"""

from wire.errors import WireError

__all__ = [
    "BackgroundOnly",
    "BadItem",
    "BadWebhook",
    "BatchError",
    "BatchesDisabled",
    "CallerError",
    "FailedDependency",
    "IncompleteBody",
    "NestedBatch",
    "NotFinished",
    "NotFound",
    "NotInBackground",
    "NotRecorded",
    "NothingToRetry",
    "StillRunning",
    "TooManyQueued",
]


class BatchError(WireError):
    """Base of the app's errors: the operator must look into it."""

    status = 500
    message = "The batch failed."


class CallerError(BatchError):
    """The caller must change the call, or one of its items."""

    status = 400
    message = "The batch is not valid."


class NestedBatch(CallerError):
    """An item of a batch is a batch itself."""

    message = "A batch can't be an item of a batch."


class BatchesDisabled(CallerError):
    """BATCH_ENABLED is false."""

    status = 403
    message = "Batches are disabled (BATCH_ENABLED=false)."


class NotFound(CallerError):
    """The batch doesn't exist, or isn't the caller's."""

    status = 404
    message = "There is no such batch."


class StillRunning(CallerError):
    """The batch of an Idempotency-Key hasn't ended; the same call may work once it has."""

    status = 409
    message = "The batch with this Idempotency-Key is still running."
    retry_after = 2


class BadItem(CallerError):
    """An item can't be executed as it is: it alone gets a 400."""

    def __init__(self, message: str, *, field: str = "") -> None:
        details = {field: [message]} if field else None
        super().__init__(f"{field}: {message}" if field else message, details=details)


class FailedDependency(CallerError):
    """A dependency of an item failed, or its response lacks the value that the item refers to."""

    status = 424
    message = "Failed dependency."


class NotRecorded(BatchError):
    """The database failed before the batch could start."""

    status = 503
    message = "The batch could not be stored."
    retry_after = 5


class IncompleteBody(CallerError):
    """The body of a background batch is shorter than its Content-Length."""

    message = "The body is incomplete; nothing was accepted."


class BackgroundOnly(CallerError):
    """NDJSON was sent for a batch that doesn't run in the background."""

    status = 415
    message = "NDJSON (application/x-ndjson) is for background batches: send Prefer: respond-async as well."


class TooManyQueued(CallerError):
    """The caller has too many items waiting; the same call may work later."""

    status = 429
    retry_after = 60


class NotInBackground(CallerError):
    """The operation exists for background batches only."""

    status = 409
    message = "This batch is not a background batch."


class NothingToRetry(CallerError):
    """No item of the batch failed, or the requests of those that did are gone."""

    status = 409
    message = "Nothing of this batch can be retried: no item failed, or its requests are no longer stored."


class BadWebhook(CallerError):
    """The URL of a webhook isn't allowed."""

    def __init__(self, message: str) -> None:
        super().__init__(f"webhook: {message}", details={"webhook": [message]})


class NotFinished(CallerError):
    """The batch is still open; the same call may work later."""

    status = 409
    message = "The batch hasn't ended yet."
    retry_after = 5
