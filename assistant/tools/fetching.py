"""Pages of the public web, fetched so that nothing inside the network can be reached."""

import asyncio
from dataclasses import dataclass

import aiohttp
from yarl import URL

from assistant.errors import CallerError, ToolError, ToolTimeout
from wire.outbound import PUBLIC, AddressPolicy, NoSuchHost, NotAllowed, http_request

MAX_REDIRECTS = 5
REDIRECTS = frozenset({301, 302, 303, 307, 308})
CONTENT_TYPES = frozenset({"text/html", "text/plain", "application/xhtml+xml"})
HEADERS = {
    "Accept": ", ".join(sorted(CONTENT_TYPES)),
    # A compressed page could be a thousand times as large as what comes over the wire.
    "Accept-Encoding": "identity",
    "User-Agent": "Mozilla/5.0 (compatible; django-assistant-backend)",
}


@dataclass(frozen=True, slots=True)
class Bounds:
    """What may be fetched: which addresses and ports, how many bytes, for how many seconds in all."""

    reach: AddressPolicy = PUBLIC
    ports: frozenset[int] = frozenset({80, 443})
    max_bytes: int = 2 * 1024 * 1024
    seconds: float = 15


PUBLIC_WEB = Bounds()


@dataclass(frozen=True, slots=True)
class FetchedPage:
    """What came: `url` is where the last redirect led, `charset` what the server said."""

    url: str
    content_type: str
    charset: str | None
    body: bytes


async def fetch(url: str, bounds: Bounds = PUBLIC_WEB) -> FetchedPage:
    """Fetch a page, following redirects.

    Raises `CallerError` for an address that isn't of the public web, `ToolError` for a page that can't be had,
    `ToolTimeout` for one that takes too long.
    """
    try:
        async with asyncio.timeout(bounds.seconds):
            return await follow(parsed(url), bounds)
    except TimeoutError:
        raise ToolTimeout(f"The page took longer than {bounds.seconds:g} s.") from None
    except (aiohttp.ClientError, OSError) as error:
        raise ToolError("The page can't be reached.") from error


async def follow(url: URL, bounds: Bounds) -> FetchedPage:
    for _ in range(MAX_REDIRECTS + 1):
        step = await one_step(checked(url, bounds), bounds)
        if isinstance(step, FetchedPage):
            return step
        url = step
    raise ToolError(f"The page redirects more than {MAX_REDIRECTS} times.")


async def one_step(url: URL, bounds: Bounds) -> FetchedPage | URL:
    """Make one request; returns the page, or where it redirects to."""
    try:
        async with http_request("GET", url, bounds.reach, headers=HEADERS) as response:
            if response.status in REDIRECTS and "Location" in response.headers:
                return parsed(response.headers["Location"], url)
            if response.status != 200:
                raise ToolError(f"The page answered {response.status}.")
            return await received(response, bounds)
    except NotAllowed:
        raise refused("Only pages of the public web can be fetched.") from None
    except NoSuchHost as error:
        raise ToolError(f"There is no host named {error}.") from error


async def received(response: aiohttp.ClientResponse, bounds: Bounds) -> FetchedPage:
    if response.content_type not in CONTENT_TYPES:
        raise ToolError(f"The page isn't text or HTML but {response.content_type}.")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise ToolError("The page came compressed, though it wasn't asked to.")
    body = bytearray()
    async for chunk in response.content.iter_chunked(65_536):
        body += chunk
        if len(body) > bounds.max_bytes:
            raise ToolError(f"The page is larger than {bounds.max_bytes} bytes.")
    return FetchedPage(str(response.url), response.content_type, response.charset, bytes(body))


# Checks. Each hop of a redirect passes all of them.


def parsed(url: str, base: URL | None = None) -> URL:
    try:
        return base.join(URL(url)) if base else URL(url)
    except ValueError:
        raise refused("This isn't a web address.") from None


def checked(url: URL, bounds: Bounds) -> URL:
    """Return an address whose form is right; raises `CallerError` for another."""
    if url.scheme not in ("http", "https") or not url.raw_host:
        raise refused("Only http and https addresses can be fetched.")
    if url.user is not None or url.password is not None:
        raise refused("An address with a user or password in it isn't fetched.")
    if url.port not in bounds.ports:
        raise refused("Only the ports 80 and 443 can be fetched from.")
    return url


def refused(sentence: str) -> CallerError:
    return CallerError(sentence, details={"url": [sentence]})
