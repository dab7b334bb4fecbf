"""What observers may listen to. Receivers run in the event loop, between the events of answers: they may not wait.

`answer_refused` (sender `Admission`): `bound`, the `Bound` that is full.
`reader_came`, `reader_left` (sender `Run`): somebody reads a running answer along, as a stream or for a plain call.
`token_sent` (sender `Coalescer`): `gap`, the seconds since the token event before; not for an answer's first one.
`answer_ended` (sender `Run`, or `Keeper` where the answer's process is gone): `message`, a `Message` with how it ended,
and `error`, what went wrong or None.
`tool_ended` (sender `Tool`): `tool`, the `Tool`, `error`, what went wrong or None, and `seconds`, what the call took.

What a receiver raises is logged and changes nothing.
"""

from django.dispatch import Signal

answer_refused = Signal()
reader_came = Signal()
reader_left = Signal()
token_sent = Signal()
answer_ended = Signal()
tool_ended = Signal()
