"""Fetch pages of the public web; addresses inside the network can't be reached."""

import asyncio
from dataclasses import dataclass

import aiohttp
from yarl import URL

from assistant.errors import CallerError, ToolError, ToolTimeout
from wire.outbound import PUBLIC, AddressPolicy, NoSuchHost, NotAllowed, http_request

MAX_REDIRECTS = 5
REDIRECTS = frozenset({301, 302, 303, 307, 308})
CONTENT_TYPES = frozenset({"text/html", "text/plain", "application/xhtml+xml"})
PUBLIC_ONLY = "Only pages of the public web can be fetched."
HEADERS = {
    "Accept": ", ".join(sorted(CONTENT_TYPES)),
    # A compressed page could expand to a thousand times its size.
    "Accept-Encoding": "identity",
    "User-Agent": "Mozilla/5.0 (compatible; django-assistant-backend)",
}


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """Limits of a fetch: addresses, ports, bytes, and seconds in all."""

    reach: AddressPolicy = PUBLIC
    ports: frozenset[int] = frozenset({80, 443})
    max_bytes: int = 2 * 1024 * 1024
    seconds: float = 15


PUBLIC_WEB = FetchLimits()


@dataclass(frozen=True, slots=True)
class FetchedPage:
    """A fetched page: `url` is the address after all redirects, `charset` that of the Content-Type header."""

    url: str
    content_type: str
    charset: str | None
    body: bytes


async def fetch(url: str, limits: FetchLimits = PUBLIC_WEB) -> FetchedPage:
    """Fetch a page, following redirects.

    Raises `CallerError` for an address outside the public web, `ToolError` for a page that can't be fetched,
    `ToolTimeout` for one that takes too long.
    """
    try:
        async with asyncio.timeout(limits.seconds):
            return await follow_redirects(parse_url(url), limits)
    except TimeoutError:
        raise ToolTimeout(f"The page took longer than {limits.seconds:g} s.") from None
    except (aiohttp.ClientError, OSError) as error:
        raise ToolError("The page can't be reached.") from error


async def follow_redirects(url: URL, limits: FetchLimits) -> FetchedPage:
    for _ in range(MAX_REDIRECTS + 1):
        result = await send_request(check_url(url, limits), limits)
        if isinstance(result, FetchedPage):
            return result
        url = result
    raise ToolError(f"The page redirects more than {MAX_REDIRECTS} times.")


async def send_request(url: URL, limits: FetchLimits) -> FetchedPage | URL:
    """Send one request, and return the page or the target of its redirect."""
    try:
        async with http_request("GET", url, limits.reach, headers=HEADERS) as response:
            if response.status in REDIRECTS and "Location" in response.headers:
                return parse_url(response.headers["Location"], url)
            if response.status != 200:
                raise ToolError(f"The page answered {response.status}.")
            return await read_page(response, limits)
    except NotAllowed:
        raise url_error(PUBLIC_ONLY) from None
    except NoSuchHost as error:
        raise ToolError(f"There is no host named {error}.") from error


async def read_page(response: aiohttp.ClientResponse, limits: FetchLimits) -> FetchedPage:
    if response.content_type not in CONTENT_TYPES:
        raise ToolError(f"The page isn't text or HTML but {response.content_type}.")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise ToolError("The page is compressed, although the request excluded that.")
    body = bytearray()
    async for chunk in response.content.iter_chunked(65_536):
        body += chunk
        if len(body) > limits.max_bytes:
            raise ToolError(f"The page is larger than {limits.max_bytes} bytes.")
    return FetchedPage(str(response.url), response.content_type, response.charset, bytes(body))


# Checks, which each redirect passes too.


def parse_url(url: str, base: URL | None = None) -> URL:
    try:
        return base.join(URL(url)) if base else URL(url)
    except ValueError:
        raise url_error("This isn't a web address.") from None


def check_url(url: URL, limits: FetchLimits) -> URL:
    """Return a valid address. Raises `CallerError` for another."""
    if url.scheme not in ("http", "https") or not url.raw_host:
        raise url_error("Only http and https addresses can be fetched.")
    if url.user is not None or url.password is not None:
        raise url_error("An address must not contain a user name or password.")
    if url.port not in limits.ports:
        raise url_error("Only the ports 80 and 443 are allowed.")
    return url


def url_error(message: str) -> CallerError:
    return CallerError(message, details={"url": [message]})
