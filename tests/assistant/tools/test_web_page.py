import asyncio
import gzip
import sys

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from django.contrib.auth.models import AnonymousUser

from assistant.errors import CallerError, ToolError, ToolTimeout
from assistant.tools import builtin, toolbox, web_page
from assistant.tools.web_page import PUBLIC_ONLY, FetchLimits, fetch
from wire.outbound import AddressPolicy

PAGE = "<html><head><title>Tea</title></head><body><article><p>Tea is a drink.</p></article></body></html>"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://①②⑦.⓪.⓪.①/",
        "http://localhost/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://0/",
        "http://8.8.8.8:8080/",
        "http://8.8.8.8:22/",
        "https://user:password@8.8.8.8/",
        "https://user@8.8.8.8/",
        "ftp://8.8.8.8/",
        "file:///etc/passwd",
        "gopher://8.8.8.8/",
        "javascript:alert(1)",
        "//8.8.8.8/",
        "/etc/passwd",
        "http://",
        "http://[::1",
        "http://8.8.8.8:99999/",
        "",
    ],
)
async def test_refuses_what_is_not_the_public_web(url):
    with pytest.raises(CallerError) as refused:
        await fetch(url)
    assert list(refused.value.details) == ["url"]


@pytest.mark.parametrize("host", ["127.0.0.1.", "LOCALHOST.", "[fe80::1%25lo]"])
async def test_reaches_nothing_here_where_the_system_reads_a_name_its_own_way(host):
    with pytest.raises((CallerError, ToolError)):
        await fetch(f"http://{host}/")


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "nowhere.invalid"])
async def test_says_that_a_host_does_not_exist(host):
    with pytest.raises(ToolError, match="There is no host named"):
        await fetch(f"http://{host}/")


class Site:
    """A server on this machine that stands for the web and is fetched by any name but inside.example."""

    def __init__(self):
        self.app = web.Application()
        self.server = TestServer(self.app)
        self.looked_up = []
        self.request = None

    async def fetch(self, path="/", **limits):
        await self.server.start_server()
        limits = FetchLimits(
            AddressPolicy("127.0.0.1".__eq__, self.look_up), ports=frozenset({self.server.port}), **limits
        )
        return await fetch(f"http://site.example:{self.server.port}{path}", limits)

    async def look_up(self, host, port):
        self.looked_up.append(host)
        return ["10.0.0.1"] if host == "inside.example" else ["127.0.0.1"]

    def answers(self, path="/", *, headers=None, **response):
        async def answer(request):
            self.request = request
            filled = {name: value.replace("PORT", str(self.server.port)) for name, value in (headers or {}).items()}
            return web.Response(headers=filled, **response)

        self.app.router.add_get(path, answer)


@pytest.fixture
async def site():
    site = Site()
    yield site
    await site.server.close()


async def test_fetches_a_page_from_the_address_that_was_checked(site):
    site.answers(text=PAGE, content_type="text/html")
    page = await site.fetch()
    assert page.body.decode() == PAGE
    assert (page.content_type, page.charset) == ("text/html", "utf-8")
    assert site.request.host == f"site.example:{site.server.port}"


async def test_a_name_is_looked_up_once(site):
    site.answers(text=PAGE, content_type="text/html")
    await site.fetch()
    assert site.looked_up == ["site.example"]


async def test_one_address_that_is_not_public_is_one_too_many():
    async def look_up(host, port):
        return ["8.8.8.8", "10.0.0.1"]

    with pytest.raises(CallerError, match=PUBLIC_ONLY):
        await fetch("http://site.example/", FetchLimits(AddressPolicy(look_up=look_up)))


async def test_sends_no_cookies_and_heeds_no_proxy(site, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    site.answers("/here", text=PAGE, content_type="text/html")
    site.answers(status=302, headers={"Location": "/here", "Set-Cookie": "a=b; Path=/"})
    page = await site.fetch()
    assert page.url == f"http://site.example:{site.server.port}/here"
    assert "Cookie" not in site.request.headers


@pytest.mark.parametrize(
    "target",
    [
        "http://inside.example:PORT/",
        "http://site.example:22/",
        "http://user@site.example:PORT/",
        "file:///etc/passwd",
        "http://[::1",
    ],
)
async def test_each_redirect_is_checked(site, target):
    site.answers(status=302, headers={"Location": target})
    with pytest.raises(CallerError):
        await site.fetch()


async def test_redirects_end_somewhere(site):
    site.answers(status=302, headers={"Location": "/"})
    with pytest.raises(ToolError, match="redirects more than 5 times"):
        await site.fetch()
    assert len(site.looked_up) == 6


@pytest.mark.parametrize(
    ("response", "sentence"),
    [
        ({"text": "no", "status": 404}, "answered 404"),
        ({"body": b"%PDF", "content_type": "application/pdf"}, "isn't text or HTML but application/pdf"),
        ({"text": "x" * 1001, "content_type": "text/plain"}, "larger than 1000 bytes"),
        (
            {
                "body": gzip.compress(b"x" * 10_000_000),
                "headers": {"Content-Encoding": "gzip", "Content-Type": "text/html"},
            },
            "compressed",
        ),
    ],
)
async def test_a_page_that_cannot_be_had_is_the_tools_failure(site, response, sentence):
    site.answers(**response)
    with pytest.raises(ToolError, match=sentence):
        await site.fetch(max_bytes=1000)


async def test_a_page_that_takes_too_long_is_given_up(site):
    ended = asyncio.Event()

    async def dawdle(request):
        await ended.wait()
        return web.Response()

    site.app.router.add_get("/", dawdle)
    with pytest.raises(ToolTimeout, match="longer than 0"):
        await site.fetch(seconds=0.2)
    ended.set()


async def test_a_server_that_hangs_up_is_the_tools_failure(site):
    async def hang_up(request):
        request.transport.abort()
        return web.Response()

    site.app.router.add_get("/", hang_up)
    with pytest.raises(ToolError, match="can't be reached"):
        await site.fetch()


@pytest.mark.parametrize(
    ("page", "title", "text"),
    [
        (web_page.FetchedPage("u", "text/html", None, PAGE.encode()), "Tea", "Tea is a drink."),
        (web_page.FetchedPage("u", "text/plain", "latin-1", "Caf\xe9".encode("latin-1")), "", "Caf\xe9"),
        (web_page.FetchedPage("u", "text/plain", "punycode", b"plain"), "", "plain"),
    ],
)
def test_a_page_reads_as_its_title_and_main_text(page, title, text):
    read = builtin.extract_page(page)
    assert (read.title, read.text) == (title, text)
    assert str(read) == f"{title or 'Untitled'}\nu\n\n{text}"


class TestTool:
    @pytest.fixture(autouse=True)
    def _switched_on(self, settings):
        settings.ASSISTANT_FETCH_URL = True

    async def test_refuses_what_is_not_the_public_web(self):
        with pytest.raises(CallerError, match=PUBLIC_ONLY):
            await toolbox.get("fetch_url", AnonymousUser()).run({"url": "http://127.0.0.1/"})

    async def test_names_what_it_needs(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "trafilatura", None)
        with pytest.raises(ToolError, match="fetch_url needs trafilatura: pip install"):
            await toolbox.get("fetch_url", AnonymousUser()).run({"url": "https://example.com/"})
