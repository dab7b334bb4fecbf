"""The threads for database work of the event loop: few, each with its connection."""

from wire.asgi.threads import Pool

STORE_POOL = Pool(4, "assistant-store")
