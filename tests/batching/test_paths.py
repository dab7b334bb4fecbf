import pytest
from hypothesis import given
from hypothesis import strategies as st

from batching.items.paths import AllowedPaths, BadPath, Target

GOOD = [
    ("/api/x", "/api/x", ""),
    ("/api/x?a=1&b=%20c", "/api/x", "a=1&b=%20c"),
    ("/api/caf%C3%A9", "/api/café", ""),
    ("/api/café?q=é ü", "/api/café", "q=%C3%A9%20%C3%BC"),
    ("/api/a b", "/api/a b", ""),
    ("/api/%61", "/api/a", ""),
    ("/api/a%2Fb", "/api/a/b", ""),
    ("/api/...", "/api/...", ""),
    ("/api/x?next=//evil", "/api/x", "next=//evil"),
    ("/api/x?url=http://a/../b", "/api/x", "url=http://a/../b"),
    ("/api/%252e%252e/x", "/api/%2e%2e/x", ""),
    ("/api/100%", "/api/100%", ""),
]
BAD = [
    *("", "api/x", "http://host/api/x", "//host/api/x", "/api//x", "/api/%2F/x", "/api/\\x", "/api/%5Cx"),
    *("/api/x#y", "/api/x?a#b", "/api/x\n", "/api/x\r\nHost: y", "/api/%0d%0a", "/api/%00", "/api/\x7f", "/api/x?\x00"),
    *(
        "/api/../admin",
        "/api/%2e%2e/admin",
        "/api/.%2E/admin",
        "/api/./x",
        "/api/x/..",
        "/api/%2e",
        "/api/%ff",
        "/api/%c3",
    ),
    *("/", "/apix", "/admin/", "/API/x", "/other", "/ap%69x", "\\api\\x", " /api/x", "/\u2028api/x"),
]


@pytest.mark.parametrize(("text", "path_info", "query"), GOOD)
def test_a_path_is_taken_as_a_server_would(text: str, path_info: str, query: str) -> None:
    assert AllowedPaths(["/api/"]).target(text) == Target(path_info, query)


@pytest.mark.parametrize("text", BAD)
def test_a_path_that_leads_out_is_refused(text: str) -> None:
    with pytest.raises(BadPath):
        AllowedPaths(["/api/"]).target(text)


@pytest.mark.parametrize("text", ["/sub/api/x", "/api/x", "/s%75b/api/x"])
def test_the_projects_own_prefix_may_be_left_out(text: str) -> None:
    assert AllowedPaths(["/api/"], "/sub").target(text).path_info == "/api/x"


@pytest.mark.parametrize("text", ["/sub/admin/", "/sub", "/sub/", "/subapi/x", "/sub/sub/api/x"])
def test_the_projects_own_prefix_opens_nothing(text: str) -> None:
    with pytest.raises(BadPath):
        AllowedPaths(["/api/"], "/sub").target(text)


@pytest.mark.parametrize(("prefix", "text"), [("/v1", "/v1"), ("/v1", "/v1/x"), ("/v1/", "/v1/"), ("/", "/x")])
def test_a_prefix_ends_at_a_slash(prefix: str, text: str) -> None:
    assert AllowedPaths(["/api/", prefix]).target(text).path_info == text
    with pytest.raises(BadPath):
        AllowedPaths(["/api/", "/v1"]).target("/v10")


@given(st.text(alphabet="/.%2eEfF5cC\\?#ab\x00 é"))
def test_nothing_that_is_accepted_leads_out(tail: str) -> None:
    try:
        target = AllowedPaths(["/api/"]).target(f"/api/{tail}")
    except BadPath:
        return
    assert target.path_info.startswith("/api/")
    assert not {".", ".."} & set(target.path_info.split("/"))
    assert "//" not in target.path_info
    assert "\\" not in target.path_info
    assert target.query.isascii()
