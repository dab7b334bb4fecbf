from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batching.records.masking import MASK, is_secret, mask, mask_address, mask_query

SECRET = [
    *(
        "authorization",
        "Authorization",
        "Proxy-Authorization",
        "cookie",
        "Set-Cookie",
        "password",
        "Password",
        "new_password",
    ),
    *("token", "access_token", "accessToken", "refreshToken", "X-Auth-Token", "csrftoken", "csrfmiddlewaretoken"),
    *("secret", "client_secret", "clientSecret", "SECRET_KEY", "api_key", "apiKey", "api-key", "APIKey", "X-API-Key"),
    *("private_key", "credentials", "passphrase", "sessionid", "session_id", "aws_secret_access_key", "jwt"),
]
PLAIN = [
    *("input_tokens", "max_output_tokens", "tokens", "total_tokens", "key", "keyboard", "author", "message", "session"),
    *("tokenizer", "secretary", "passage", "id", "name", "monkey", "", "é", "cookiecutter", "api", "private"),
]


@pytest.mark.parametrize("name", SECRET)
def test_credentials_are_known_by_their_names(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize("name", PLAIN)
def test_other_names_are_left_alone(name: str) -> None:
    assert not is_secret(name)


def test_credentials_are_masked_at_any_depth_whatever_they_are() -> None:
    body: Any = {"a": [{"password": "x"}, {"b": {"token": {"deep": 1}}}], "n": 1, "secret": None}
    assert mask(body) == {"a": [{"password": MASK}, {"b": {"token": MASK}}], "n": 1, "secret": MASK}


def test_what_no_database_can_hold_is_replaced() -> None:
    assert mask({"a\x00": ["\ud800b"]}) == {"a\ufffd": ["\ufffdb"]}


def test_no_depth_is_too_deep() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert mask(deep)


@pytest.mark.parametrize(
    ("address", "stored"),
    [
        ("/api/x", "/api/x"),
        ("/api/x?a=1&token=t&b", f"/api/x?a=1&token={MASK}&b"),
        ("/api/x?api%5Fkey=t", f"/api/x?api%5Fkey={MASK}"),
        ("https://h/cb?code=1&access_token=t", f"https://h/cb?code=1&access_token={MASK}"),
    ],
)
def test_credentials_in_a_query_are_masked(address: str, stored: str) -> None:
    assert mask_address(address) == stored


def test_credentials_in_a_form_are_masked() -> None:
    assert mask_query("user=a&password=b") == f"user=a&password={MASK}"


@given(st.recursive(st.text() | st.integers() | st.none(), lambda one: st.lists(one) | st.dictionaries(st.text(), one)))
def test_the_original_is_left_as_it_was(value: Any) -> None:
    before = repr(value)
    mask(value)
    assert repr(value) == before
