"""The event loop of Twisted's reactor: uvloop's if it is installed, otherwise asyncio's."""

import asyncio
import sys

from twisted.internet import asyncioreactor


def new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def install() -> asyncio.AbstractEventLoop:
    """Install Twisted's reactor and return its loop. Nothing else of Twisted may be imported before."""
    if "twisted.internet.reactor" in sys.modules:  # the project has daphne among its apps, which installed its own
        from daphne.server import twisted_loop

        return twisted_loop  # type: ignore[no-any-return]  # daphne has no types
    loop = new_event_loop()
    asyncioreactor.install(loop)
    return loop


loop = install()
