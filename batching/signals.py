"""The signals of batches, both sent in a thread of their own, soon after the end of a batch is committed.

`item_finished` (sender `BatchItem`): `batch`, a `Batch`, and `item`, a `BatchItem`; one for each, in their order.
`batch_finished` (sender `Batch`): `batch`. An exception in a receiver is logged and changes nothing.
"""

from django.dispatch import Signal

item_finished = Signal()
batch_finished = Signal()
