"""Signals of batches, sent in a thread of their own, soon after the end of a batch is committed.

An exception in a receiver is logged and changes nothing.
"""

from django.dispatch import Signal

__all__ = ["batch_finished", "item_finished"]

item_finished = Signal()
"""Sender `BatchItem`. `batch`: a `Batch`; `item`: a `BatchItem`. Sent for each item, in their order."""
batch_finished = Signal()
"""Sender `Batch`. `batch`: a `Batch`."""
