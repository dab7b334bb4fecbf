"""Signals for observers. Receivers run in the event loop, between the events of answers: they must not block.

`answer_refused` (sender `Admission`): `bound`, the `Bound` that is full.
`reader_came`, `reader_left` (sender `Run`): a reader starts or stops reading a running answer, as a stream or not.
`token_sent` (sender `Coalescer`): `gap`, the seconds since the previous token event; not sent for the first one.
`answer_ended` (sender `Run`, or `Keeper` if the answer's process has died): `message`, the stored `Message`, and
`error`, the exception or None.
`tool_ended` (sender `Tool`): `tool`, the `Tool`, `error`, the exception or None, and `seconds`, the call's duration.

Exceptions of receivers are logged and ignored.
"""

from django.dispatch import Signal

answer_refused = Signal()
reader_came = Signal()
reader_left = Signal()
token_sent = Signal()
answer_ended = Signal()
tool_ended = Signal()
