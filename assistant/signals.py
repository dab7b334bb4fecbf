"""Signals of answers and tools. Receivers run in the event loop, between the events of answers: they must not block.

Exceptions of receivers are logged and ignored.
"""

from django.dispatch import Signal

__all__ = ["answer_ended", "answer_refused", "reader_came", "reader_left", "token_sent", "tool_ended"]

answer_refused = Signal()
"""Sender `Admission`. `bound`: the `Bound` that is full."""
reader_came = Signal()
"""Sender `Run`. A reader starts to read a running answer, as a stream or not."""
reader_left = Signal()
"""Sender `Run`. A reader stops reading a running answer."""
token_sent = Signal()
"""Sender `Coalescer`. `gap`: the seconds since the previous token event; not sent for the first one."""
answer_ended = Signal()
"""Sender `Run`, or `Keeper` if the answer's process has died. `message`: the stored `Message`; `error`: the exception
or None."""
tool_ended = Signal()
"""Sender `Tool`. `tool`: the `Tool`; `error`: the exception or None; `seconds`: the call's duration."""
