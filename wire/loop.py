"""The event loop under Twisted's reactor: uvloop's where that is installed, or else asyncio's own."""

import asyncio
import sys

from twisted.internet import asyncioreactor

try:
    from uvloop import new_event_loop
except ImportError:
    from asyncio import new_event_loop


def installed() -> asyncio.AbstractEventLoop:
    """Return the reactor's loop; it is installed before anything else of Twisted's is imported."""
    if "twisted.internet.reactor" in sys.modules:  # a project with daphne among its apps: it runs on daphne's
        from daphne.server import twisted_loop

        return twisted_loop  # type: ignore[no-any-return]  # daphne has no types
    loop = new_event_loop()
    asyncioreactor.install(loop)
    return loop


loop = installed()
