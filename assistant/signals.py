"""Signals of answers and tools. Receivers run in the event loop, between the events of answers: they may not wait.

What a receiver raises is logged and changes nothing.
"""

from django.dispatch import Signal

__all__ = ["answer_ended", "answer_refused", "reader_came", "reader_left", "token_sent", "tool_ended"]

answer_refused = Signal()
"""Sender `Admission`. `bound`: the `Bound` that is full."""
reader_came = Signal()
"""Sender `Run`. A reader follows a running answer, as a stream or for a plain call."""
reader_left = Signal()
"""Sender `Run`. A reader that came has left."""
token_sent = Signal()
"""Sender `Coalescer`. `gap`: seconds since the token event before; not for an answer's first one."""
answer_ended = Signal()
"""Sender `Run`, or `Keeper` if the answer's process is gone. `message`: a `Message` with how it ended; `error`: what
went wrong, or None."""
tool_ended = Signal()
"""Sender `Tool`. `tool`: the `Tool`; `error`: what went wrong, or None; `seconds`: how long the call took."""
