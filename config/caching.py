"""The serializer of the cache in Redis."""

import json
from typing import Any


class JSONSerializer:
    """JSON instead of Django's pickle: a pickle in Redis could run any code."""

    def dumps(self, value: Any) -> str:
        return json.dumps(value)

    def loads(self, data: bytes) -> Any:
        return json.loads(data)
