"""The data of server-sent events, out of blocks of bytes that may be cut anywhere."""

MAX_LINE = 1024 * 1024


class LineTooLong(Exception):
    """A line had more than `MAX_LINE` bytes."""


class Events:
    """Takes the data of each event out of a stream.

    https://html.spec.whatwg.org/multipage/server-sent-events.html, as far as model servers use it: one line of data an
    event, ended by LF or CRLF. Comments and other fields are skipped.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, block: bytes) -> list[bytes]:
        """Return the data of the events whose line is complete; white space around it is left as it came.

        Raises `LineTooLong` on the first call after that much of a line had come.
        """
        if len(self._rest) > MAX_LINE:
            raise LineTooLong
        lines = (self._rest + block).split(b"\n")
        self._rest = lines.pop()
        return [line[5:] for line in lines if line[:5] == b"data:"]
