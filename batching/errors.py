"""Every way a batch can be refused, by who must act. `wire.errors` renders them.

`message` is a sentence for a person and leaves the process; the cause (`raise ... from`) stays in the log.
"""

from wire.errors import WireError

__all__ = [
    "BadWebhook",
    "BatchError",
    "CallerError",
    "CutOff",
    "FailedDependency",
    "NestedBatch",
    "NotFinished",
    "NotFound",
    "NotInBackground",
    "NotNDJSON",
    "NotRecorded",
    "NothingToRetry",
    "StillRunning",
    "SwitchedOff",
    "TooManyQueued",
]


class BatchError(WireError):
    """Base of the app's errors: the operator must look into it."""

    status = 500
    message = "The batch failed."


class CallerError(BatchError):
    """The caller must change the call, or one of its items."""

    status = 400
    message = "The batch can't be carried out as it is."


class NestedBatch(CallerError):
    """An item of a batch is a batch itself."""

    message = "A batch can't be an item of a batch."


class SwitchedOff(CallerError):
    """BATCH_ENABLED is false."""

    status = 403
    message = "Batches are switched off here (BATCH_ENABLED=false)."


class NotFound(CallerError):
    """It doesn't exist, or isn't the caller's."""

    status = 404
    message = "There is no such batch."


class StillRunning(CallerError):
    """The batch that an Idempotency-Key stands for hasn't ended; the same call may work once it has."""

    status = 409
    message = "The batch with this Idempotency-Key is still running."
    retry_after = 2


class FailedDependency(CallerError):
    """What an item builds on didn't succeed, or doesn't have the value it refers to."""

    status = 424
    message = "Failed dependency."


class NotRecorded(BatchError):
    """The database failed while the batch was under way."""

    status = 503
    message = "The batch could not be stored."
    retry_after = 5


class CutOff(CallerError):
    """The body of a background batch ended before its end: nothing of it is kept."""

    message = "The body ended too early; nothing was accepted."


class NotNDJSON(CallerError):
    """Lines came for a batch that the caller waits for."""

    status = 415
    message = "Lines (application/x-ndjson) are for batches in the background (Prefer: respond-async)."


class TooManyQueued(CallerError):
    """The caller has more waiting than he may; the same call may work later."""

    status = 429
    retry_after = 60


class NotInBackground(CallerError):
    """What is asked exists for background batches only."""

    status = 409
    message = "This batch didn't run in the background."


class NothingToRetry(CallerError):
    """No item of the batch failed, or the requests of those that did are gone."""

    status = 409
    message = "Nothing of this batch can be retried: nothing failed, or its requests aren't kept any more."


class BadWebhook(CallerError):
    """A caller can't be told of the end of a batch where he wants to be."""

    def __init__(self, message: str) -> None:
        super().__init__(f"webhook: {message}", details={"webhook": [message]})


class NotFinished(CallerError):
    """The batch is still open; the same call may work later."""

    status = 409
    message = "The batch hasn't ended yet."
    retry_after = 5
