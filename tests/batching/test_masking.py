import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batching.records.masking import MASK, is_secret, mask, mask_address, mask_query, preserve, restore, sanitize

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
    assert mask(f"{name}=v") == f"{name}={MASK}"


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


@given(st.text(st.characters(exclude_categories=[])))
def test_every_text_is_restored_from_what_a_database_can_hold(text: str) -> None:
    kept = preserve({text: [text]})
    assert restore(kept) == {text: [text]}
    assert sanitize(kept) == kept


@given(st.recursive(st.text() | st.integers() | st.none(), lambda one: st.lists(one) | st.dictionaries(st.text(), one)))
def test_the_original_is_left_as_it_was(value: Any) -> None:
    before = repr(value)
    mask(value)
    assert repr(value) == before


@pytest.mark.parametrize(
    "name", ["clientsecret", "newPassword", "newpassword", "bearer", "passwort", "last_access_token", "user[password]"]
)
def test_joined_and_foreign_names_are_known(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize(
    "body",
    [
        {"time_to_first_token": 0.21, "max_tokens": 5, "token": 3, "seconds_per_token": 0.1},
        {
            "content": [
                {"token": "Hi", "logprob": -0.1, "top_logprobs": [{"token": "Ho", "logprob": -2, "bytes": [72]}]}
            ]
        },
        '{"token": "Hi", "logprob": -0.1} {"token": 3}',
        '{"usage": {"time_to_first_token": "0.2"}, "text": "cut he',
        "A secret is kept. Token counts: 3. Basic authentication.",
    ],
)
def test_the_measures_and_tokens_of_a_model_stay_readable(body: Any) -> None:
    assert mask(body) == body


@pytest.mark.parametrize(
    "text",
    [
        '{"password": "hidden-1"}',
        '[{"deep": "{\\"password\\": \\"hidden-1\\"}"}]',
        '"{\\"api_key\\": \\"hidden-1\\"}"',
        'data: {"password": "hidden-1"}\n\n',
        '{"a": 1}\n{"password": "a\\"hidden-1"}\n',
        '{"message": "{\\"clientsecret\\":\\"hidden-1\\"} is cut he',
        '{"password": "hidden-1 is cut',
        "{'passwort': 'hidden-1'}",
        '{"credentials": {"user": "hidden-1"}} x',
        "user=a&newPassword=hidden-1",
        "user%5Bpassword%5D=hidden-1&a=1",
        "see https://example.org/cb?code=1&access_token=hidden-1 there",
        "https://example.org/cb#access_token=hidden-1",
        "https://ada:hidden-1@example.org/",
        'multipart\r\n--x\r\nContent-Disposition: form-data; name="password"\r\n\r\nhidden-1\r\n--x--\r\n',
        '--x\nContent-Disposition: form-data; name="pin"\nContent-Type: text/plain\n\nhidden-1\nhidden-1\n--x--',
        "Authorization: Bearer hidden-1",
        "it was sent as Bearer abcd.hidden-1",
        "password: hidden-1",
    ],
)
def test_credentials_in_a_text_are_masked(text: str) -> None:
    masked = mask({"text": text})["text"]
    assert "hidden-1" not in masked
    assert MASK in masked


def test_a_form_keeps_its_other_fields() -> None:
    body = '--x\r\nContent-Disposition: form-data; name="note"\r\n\r\nkept\r\n--x\r\nContent-Disposition: form-data; '
    body += 'name="password"; filename="a"\r\n\r\nhidden-1\r\n--x--\r\n'
    assert mask(body) == body.replace("hidden-1", MASK)


def test_the_value_of_a_named_pair_is_masked() -> None:
    pairs = [{"name": "password", "value": "p"}, {"key": "a", "value": "b"}, {"value": ["t"], "name": "X-Api-Key"}]
    assert mask(pairs) == [{**pairs[0], "value": MASK}, pairs[1], {"value": MASK, "name": "X-Api-Key"}]


def test_json_in_a_query_is_masked() -> None:
    assert mask_address("/api/x?q=%7B%22password%22%3A%22p%22%7D&a=1") == f"/api/x?q={MASK}&a=1"


@pytest.mark.parametrize(
    "text",
    [
        *('"password":' * 20_000, "a=" * 50_000, "name: \n" * 30_000, '\\"token\\":' * 20_000, "\\" * 200_000),
        *("content-disposition: " * 10_000, "content-disposition: name=a\n" * 10_000, "bearer " * 30_000),
        *("://a:" * 30_000, "-" * 100_000, '"' * 100_000, "[" * 100_000),
    ],
)
def test_masking_takes_linear_time(text: str) -> None:
    began = time.process_time()
    mask(text)
    assert time.process_time() - began < 2
