"""Connections to the public web, made so that nothing inside the network can be reached.

A name is looked up once, each of its addresses is checked, and the connection is made to what was checked: a name that
points elsewhere the next moment gains nothing. Redirects aren't followed: each is a new address to check.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Network, ip_address, ip_network

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

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


class NotAllowed(Exception):
    """A name has an address that may not be connected to."""


class NoSuchHost(Exception):
    """A name has no address."""


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


def is_loopback(address: str) -> bool:
    return ip_address(address).is_loopback


async def look_up(host: str, port: int) -> list[str]:
    """Return the addresses of a name, or the address itself however it is written (127.1, 0x7f.1)."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


@dataclass(frozen=True, slots=True)
class Reach:
    """Which addresses may be connected to, and how names are looked up."""

    allows: Callable[[str], bool] = is_public
    look_up: Callable[[str, int], Awaitable[Sequence[str]]] = look_up

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses to connect to. Raises `NoSuchHost`, and `NotAllowed` unless all of them may be."""
        try:
            found = await self.look_up(host, port)
        except (OSError, UnicodeError) as error:  # UnicodeError: a part of the name is longer than 63 characters
            raise NoSuchHost(host) from error
        if not found or not all(self.allows(address) for address in found):
            raise NotAllowed(host)
        return found


PUBLIC = Reach()


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


@asynccontextmanager
async def requested(
    method: str, url: URL, reach: Reach, *, headers: Mapping[str, str], content: bytes | None = None
) -> AsyncIterator[aiohttp.ClientResponse]:
    """Make one request, without cookies or proxies, and give its answer, unread and as it came over the wire.

    Raises `NoSuchHost` and `NotAllowed`, and aiohttp's `ClientError` and `OSError` for what fails on the way.
    """
    addresses = await reach.addresses(url.raw_host or "", url.port or 0)
    connector = aiohttp.TCPConnector(resolver=Checked(addresses), use_dns_cache=False, force_close=True)
    async with (
        aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, auto_decompress=False
        ) as session,
        session.request(method, url, headers=headers, data=content, allow_redirects=False) as response,
    ):
        yield response
