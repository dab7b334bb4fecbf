"""The thread in which Django runs the sync code of a request under ASGI."""

from asgiref.sync import SyncToAsync
from django.db import connections


def release_thread() -> None:
    """End the current request's thread, with its database connections; sync code that follows gets another.

    Django starts one for each request and keeps it until the response is closed: as long as a stream lives.
    """
    context = SyncToAsync.thread_sensitive_context.get(None)
    executor = SyncToAsync.context_to_thread_executor.pop(context, None) if context else None
    if executor:
        executor.submit(connections.close_all)
        executor.shutdown(wait=False)
