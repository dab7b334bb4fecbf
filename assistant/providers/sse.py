"""Parse server-sent events from blocks of bytes that may be cut anywhere."""

MAX_LINE = 1024 * 1024


class LineTooLong(Exception):
    """A line has more than `MAX_LINE` bytes."""


class SSEParser:
    """Extracts the data of each event of a stream.

    https://html.spec.whatwg.org/multipage/server-sent-events.html, as far as model servers use it: one data line per
    event, ended by LF or CRLF. Comments and other fields are skipped.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, block: bytes) -> list[bytes]:
        """Return the data of the complete events, with surrounding white space.

        Raises `LineTooLong` on the first call after a line has exceeded the limit.
        """
        if len(self._rest) > MAX_LINE:
            raise LineTooLong
        lines = (self._rest + block).split(b"\n")
        self._rest = lines.pop()
        return [line[5:] for line in lines if line[:5] == b"data:"]
