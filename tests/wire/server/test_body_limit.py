"""A body may be as large as its view takes, wherever the view is mounted."""

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views import View

from tests.processes import PATIENCE, Served
from tests.wire.server.serving import own
from wire.server.body_limit import view_max_body_bytes

MIB = 2**20
APPLICATION = """
import django
from django.conf import settings
from django.conf.urls.i18n import i18n_patterns
from django.core.asgi import get_asgi_application
from django.http import HttpResponse
from django.urls import include, path, register_converter
from django.views import View

settings.configure(
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["django.middleware.locale.LocaleMiddleware"],
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="x",
)
django.setup()

class Large(View):
    @classmethod
    def max_body_bytes(cls):
        return 4 * 2**20

    def post(self, request, **parameters):
        return HttpResponse(str(len(request.read())))

class Small(Large):
    @classmethod
    def max_body_bytes(cls):
        return 1

class Undecided(Large):
    @classmethod
    def max_body_bytes(cls):
        raise KeyError("settings")

class Broken:
    regex = "broken"

    def to_python(self, value):
        raise KeyError(value)

register_converter(Broken, "broken")
mounted = include([path("large", Large.as_view())])
urlpatterns = [
    path("x/y/", mounted),
    path("captured/<slug:tenant>/", mounted),
    path("slash/", Large.as_view()),
    path("plain", lambda request: HttpResponse(str(len(request.read())))),
    path("small", Small.as_view()),
    path("undecided", Undecided.as_view()),
    path("<broken:value>/large", Large.as_view()),
    *i18n_patterns(path("translated/", mounted)),
]
application = get_asgi_application()
"""

LARGE = ["/x/y/large", "/x/y/large?a=b", "/x%2Fy/large", "/captured/any/large", "/slash/", "/de/translated/large"]
OTHERS = ["/plain", "/small", "/undecided", "/missing", "/slash", "/x/y/large/", "/broken/large", "/xx/translated/a"]


@pytest.fixture(scope="module")
def it(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with own(tmp_path_factory.mktemp("limits"), APPLICATION) as served:
        yield served


def status(it: Served, where: str, size: int, *, chunked: bool = False) -> int:
    data: Any = b"x" * size
    return requests.post(it.url + where, data=iter([data]) if chunked else data, timeout=PATIENCE).status_code


@pytest.mark.server
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("where", LARGE)
def test_a_body_may_be_as_large_as_its_view_takes(it: Served, where: str, chunked: bool) -> None:
    assert status(it, where, 4 * MIB, chunked=chunked) == 200
    assert status(it, where, 4 * MIB + 1, chunked=chunked) == 413


@pytest.mark.server
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("where", OTHERS)
def test_a_body_for_anything_else_has_the_common_limit(it: Served, where: str, chunked: bool) -> None:
    assert status(it, where, 2 * MIB, chunked=chunked) != 413
    assert status(it, where, 2 * MIB + 1, chunked=chunked) == 413


class Large(View):
    @classmethod
    def max_body_bytes(cls) -> int:
        return 4 * MIB

    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse()


urlpatterns = [path("large", Large.as_view())]


@pytest.mark.urls(__name__)
@pytest.mark.parametrize(
    ("forced", "root_path", "target", "limit"),
    [
        (None, "", b"/large", 4 * MIB),
        (None, "/root", b"/root/large", 4 * MIB),
        (None, "/root/", b"/root/large", 4 * MIB),
        (None, "/root", b"/large", 4 * MIB),
        ("/forced", "/root", b"/forced/large", 4 * MIB),
        ("/forced", "/root", b"/root/large", 0),
        (None, "/root", b"/rooted/large", 0),
        (None, "", b"\xff%ff", 0),
    ],
)
def test_the_path_is_that_below_the_scripts_name(
    settings: Any, forced: str | None, root_path: str, target: bytes, limit: int
) -> None:
    settings.FORCE_SCRIPT_NAME = forced
    assert view_max_body_bytes(target, root_path) == limit
