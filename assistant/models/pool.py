"""The threads in which the event loop's work with the database is done: few, and each with a connection."""

from wire.asgi.threads import Pool

STORING = Pool(4, "assistant-store")
