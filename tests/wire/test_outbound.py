"""Which addresses are of the public web, and that no other is connected to."""

from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

from wire.outbound import PUBLIC, AddressPolicy, NoSuchHost, NotAllowed, http_request, is_public


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",  # noqa: S104  # nothing is bound to it
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.100.100.200",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",
        "169.254.169.254",
        "169.254.170.2",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:8.8.8.8",
        "::ffff:127.0.0.1",
        "::ffff:0:127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::808:808",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:10::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:808:808::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "2606:4700::1111%eth0",
        "fec0::1",
        "ff02::1",
        "localhost",
        "127.1",
        "2130706433",
        "",
    ],
)
def test_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "93.184.216.34", "172.32.0.1", "2606:4700::1111", "2a00:1450:4001:81b::200e"]
)
def test_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "localhost", "[::1]", "10.0.0.1", "169.254.169.254"])
async def test_nothing_else_is_connected_to(host: str) -> None:
    with pytest.raises(NotAllowed):
        async with http_request("GET", URL(f"http://{host}:9/"), PUBLIC, headers={}):
            pass


async def test_a_name_that_points_elsewhere_the_next_moment_gains_nothing() -> None:
    asked = []

    async def look_up(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.0.0.1"]

    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "http://10.0.0.1/"}, text=request.host)

    application = web.Application()
    application.router.add_post("/", answer)
    async with TestServer(application) as server:
        url = URL(f"http://site.example:{server.port}/")
        async with http_request(
            "POST", url, AddressPolicy("127.0.0.1".__eq__, look_up), headers={}, content=b"x"
        ) as response:
            assert (response.status, await response.text()) == (302, f"site.example:{server.port}")
    assert asked == ["site.example"]


@pytest.mark.parametrize("found", [[], ["8.8.8.8", "10.0.0.1"]])
async def test_each_address_of_a_name_has_to_be_allowed(found: list[str]) -> None:
    async def look_up(*_: Any) -> list[str]:
        return found

    with pytest.raises(NotAllowed):
        await AddressPolicy(look_up=look_up).addresses("site.example", 80)


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "nowhere.invalid"])
async def test_a_host_that_does_not_exist_is_told_apart(host: str) -> None:
    with pytest.raises(NoSuchHost):
        await PUBLIC.addresses(host, 80)
