"""How the cache writes what it keeps in Redis."""

import json
from typing import Any


class JSONSerializer:
    """Django's own is pickle, and reading that runs whatever code somebody wrote into Redis."""

    def dumps(self, value: Any) -> str:
        return json.dumps(value)

    def loads(self, data: bytes) -> Any:
        return json.loads(data)
