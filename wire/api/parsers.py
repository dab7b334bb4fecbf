"""The strict JSON parser for DRF."""

import re
from collections.abc import Mapping
from typing import IO, Any

from rest_framework.parsers import BaseParser

from wire.api.json import loads
from wire.conf import body_max_bytes
from wire.errors import WireError


class TooLarge(WireError):
    """The body has more bytes than are read."""

    status = 413
    message = "The body is too large."


class WrongCharset(WireError):
    """The body's Content-Type names a charset other than UTF-8."""

    status = 415
    message = "JSON is read as UTF-8 only."


class StrictJSONParser(BaseParser):
    """Parse at most BODY_MAX_BYTES (default 2 MiB) of strict JSON in UTF-8."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        charset = re.search(r"charset\s*=\s*\"?([\w-]+)", media_type or "")
        if charset and charset[1].lower() not in ("utf-8", "utf8"):
            raise WrongCharset
        limit = self.max_bytes()
        data = stream.read(limit + 1)
        if len(data) > limit:
            raise TooLarge(f"The body is larger than {limit} bytes.")
        return loads(data)

    def max_bytes(self) -> int:
        return body_max_bytes()
