"""The event loop under Twisted's reactor: uvloop's where that is installed, or else asyncio's own."""

import asyncio
import sys

from twisted.internet import asyncioreactor


def made() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def installed() -> asyncio.AbstractEventLoop:
    """Return the reactor's loop; it is installed before anything else of Twisted's is imported."""
    if "twisted.internet.reactor" in sys.modules:  # a project with daphne among its apps: it runs on daphne's
        from daphne.server import twisted_loop

        return twisted_loop  # type: ignore[no-any-return]  # daphne has no types
    loop = made()
    asyncioreactor.install(loop)
    return loop


loop = installed()
