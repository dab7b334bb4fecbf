"""What observers may listen to, both sent soon after a batch's rows say how it ended, in a thread for that.

`item_finished` (sender `BatchItem`): `batch`, a `Batch`, and `item`, a `BatchItem`; one for each, in their order.
`batch_finished` (sender `Batch`): `batch`. What a receiver raises is logged and changes nothing.
"""

from django.dispatch import Signal

item_finished = Signal()
batch_finished = Signal()
