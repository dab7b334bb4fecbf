"""Pages of the public web, fetched so that nothing inside the network can be reached.

A name is looked up once, each of its addresses is checked, and the connection is made to what was checked: a name that
points elsewhere the next moment gains nothing. Each redirect is a new address to check.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Network, ip_address, ip_network

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from assistant.errors import CallerError, ToolError, ToolTimeout

MAX_REDIRECTS = 5
REDIRECTS = frozenset({301, 302, 303, 307, 308})
CONTENT_TYPES = frozenset({"text/html", "text/plain", "application/xhtml+xml"})
HEADERS = {
    "Accept": ", ".join(sorted(CONTENT_TYPES)),
    # A compressed page could be a thousand times as large as what comes over the wire.
    "Accept-Encoding": "identity",
    "User-Agent": "Mozilla/5.0 (compatible; django-assistant-backend)",
}

# https://www.iana.org/assignments/iana-ipv6-special-registry: what is public lies in 2000::/3, less what is for
# tunnels, documentation and the like. Python's own list differs from one version to the next.
PUBLIC_IPV6 = IPv6Network("2000::/3")
NOT_PUBLIC = [
    ip_network(network)
    for network in (
        "0.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT
        "168.63.129.16/32",  # Azure's own service for its machines, at a public address
        "192.0.0.0/24",
        "192.88.99.0/24",  # relays of 6to4
        "2001::/23",  # Teredo and others
        "2001:db8::/32",
        "2002::/16",  # 6to4, which has any IPv4 address inside
        "3fff::/20",
    )
]


def is_public(address: str) -> bool:
    """Tell whether an IP address is on the public internet; anything else that it might be isn't."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    if any(ip in network for network in NOT_PUBLIC if network.version == ip.version):
        return False
    if isinstance(ip, IPv4Address):
        return ip.is_global and not (ip.is_multicast or ip.is_reserved)
    return ip in PUBLIC_IPV6 and ip.scope_id is None


async def look_up(host: str, port: int) -> list[str]:
    """Return the addresses of a name, or the address itself however it is written (127.1, 0x7f.1)."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


@dataclass(frozen=True, slots=True)
class Bounds:
    """What may be fetched: which addresses and ports, how many bytes, for how many seconds in all."""

    allows: Callable[[str], bool] = is_public
    look_up: Callable[[str, int], Awaitable[Sequence[str]]] = look_up
    ports: frozenset[int] = frozenset({80, 443})
    max_bytes: int = 2 * 1024 * 1024
    seconds: float = 15


PUBLIC_WEB = Bounds()


@dataclass(frozen=True, slots=True)
class Page:
    """What came: `url` is where the last redirect led, `charset` what the server said."""

    url: str
    content_type: str
    charset: str | None
    body: bytes


class Checked(AbstractResolver):
    """Answers with the addresses that were checked, whatever the name points to by now."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        """Nothing to let go of."""


async def fetch(url: str, bounds: Bounds = PUBLIC_WEB) -> Page:
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


async def follow(url: URL, bounds: Bounds) -> Page:
    for _ in range(MAX_REDIRECTS + 1):
        addresses = await checked_addresses(url, bounds)
        step = await one_step(url, addresses, bounds)
        if isinstance(step, Page):
            return step
        url = step
    raise ToolError(f"The page redirects more than {MAX_REDIRECTS} times.")


async def one_step(url: URL, addresses: Sequence[str], bounds: Bounds) -> Page | URL:
    """Make one request; returns the page, or where it redirects to."""
    connector = aiohttp.TCPConnector(resolver=Checked(addresses), use_dns_cache=False, force_close=True)
    async with (
        aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, auto_decompress=False
        ) as session,
        session.get(url, headers=HEADERS, allow_redirects=False) as response,
    ):
        if response.status in REDIRECTS and "Location" in response.headers:
            return parsed(response.headers["Location"], url)
        if response.status != 200:
            raise ToolError(f"The page answered {response.status}.")
        return await received(response, bounds)


async def received(response: aiohttp.ClientResponse, bounds: Bounds) -> Page:
    if response.content_type not in CONTENT_TYPES:
        raise ToolError(f"The page isn't text or HTML but {response.content_type}.")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise ToolError("The page came compressed, though it wasn't asked to.")
    body = bytearray()
    async for chunk in response.content.iter_chunked(65_536):
        body += chunk
        if len(body) > bounds.max_bytes:
            raise ToolError(f"The page is larger than {bounds.max_bytes} bytes.")
    return Page(str(response.url), response.content_type, response.charset, bytes(body))


# Checks. Each hop of a redirect passes all of them.


def parsed(url: str, base: URL | None = None) -> URL:
    try:
        return base.join(URL(url)) if base else URL(url)
    except ValueError:
        raise refused("This isn't a web address.") from None


async def checked_addresses(url: URL, bounds: Bounds) -> Sequence[str]:
    """Return the addresses to connect to; raises `CallerError` unless all of them may be."""
    if url.scheme not in ("http", "https") or not url.raw_host:
        raise refused("Only http and https addresses can be fetched.")
    if url.user is not None or url.password is not None:
        raise refused("An address with a user or password in it isn't fetched.")
    if url.port not in bounds.ports:
        raise refused("Only the ports 80 and 443 can be fetched from.")
    addresses = await addresses_of(url.raw_host, url.port, bounds)
    if not addresses or not all(bounds.allows(address) for address in addresses):
        raise refused("Only pages of the public web can be fetched.")
    return addresses


async def addresses_of(host: str, port: int, bounds: Bounds) -> Sequence[str]:
    try:
        return await bounds.look_up(host, port)
    except (OSError, UnicodeError) as error:  # UnicodeError: a part of the name is longer than 63 characters
        raise ToolError(f"There is no host named {host}.") from error


def refused(sentence: str) -> CallerError:
    return CallerError(sentence, details={"url": [sentence]})
