"""Outbound HTTP requests that can't reach the internal network (SSRF).

A host name is resolved once, each of its addresses is checked, and the connection goes to a checked address: a name
that resolves to another address a moment later gains nothing. Redirects aren't followed: each is a new URL to check.
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

# https://www.iana.org/assignments/iana-ipv6-special-registry: public addresses are in 2000::/3, except those for
# tunnels, documentation and the like. Python's own list differs between versions.
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
    """The policy doesn't allow an address of the host."""


class NoSuchHost(Exception):
    """The host name has no address."""


def is_public(address: str) -> bool:
    """Tell whether a text is an IP address on the public internet."""
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
    """Return the addresses of a host name, or an address in its usual form (127.1 and 0x7f.1 are 127.0.0.1)."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """Which addresses a request may connect to, and how host names are resolved."""

    allows: Callable[[str], bool] = is_public
    look_up: Callable[[str, int], Awaitable[Sequence[str]]] = look_up

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        """Return a host's addresses. Raises `NoSuchHost`, and `NotAllowed` unless the policy allows all of them."""
        try:
            found = await self.look_up(host, port)
        except (OSError, UnicodeError) as error:  # UnicodeError: a part of the name is longer than 63 characters
            raise NoSuchHost(host) from error
        if not found or not all(self.allows(address) for address in found):
            raise NotAllowed(host)
        return found


PUBLIC = AddressPolicy()


class CheckedResolver(AbstractResolver):
    """Resolves to the checked addresses, even if the name resolves to others by now."""

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
        """Close nothing."""


@asynccontextmanager
async def http_request(
    method: str, url: URL, policy: AddressPolicy, *, headers: Mapping[str, str], content: bytes | None = None
) -> AsyncIterator[aiohttp.ClientResponse]:
    """Send one request, without cookies or proxies, and yield its response, with the body unread and not decompressed.

    Raises `NoSuchHost` and `NotAllowed`, and aiohttp's `ClientError` and `OSError` if the request fails.
    """
    addresses = await policy.addresses(url.raw_host or "", url.port or 0)
    connector = aiohttp.TCPConnector(resolver=CheckedResolver(addresses), use_dns_cache=False, force_close=True)
    async with (
        aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, auto_decompress=False
        ) as session,
        session.request(method, url, headers=headers, data=content, allow_redirects=False) as response,
    ):
        yield response
