"""Ten thousand generated bodies: none brings a 5xx, and nothing that was refused is stored."""

import json
from typing import Any

import pytest
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assistant.models import Conversation, Message
from tests.upstream import Upstream, reply

pytestmark = [pytest.mark.usefixtures("db"), pytest.mark.slow]

HOSTILE = ["\x00", "\ud800", "\udfff\ud800", "\u2028", "\ufeff", "\u202e", "a\u0301" * 50, "\U0001f468\u200d\U0001f469"]
hostile_text = st.text(max_size=40) | st.sampled_from(HOSTILE)
numbers = st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from([10**400, -(10**400)])
scalars = st.none() | st.booleans() | numbers | hostile_text
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(hostile_text, inner, max_size=4), max_leaves=12
)
ids = st.sampled_from(["default", "researcher", "nobody", "conv_x", ""]) | hostile_text
chats = st.fixed_dictionaries(
    {"message": hostile_text | anything},
    optional={"agent_id": ids | anything, "conversation_id": ids | anything, "stream": anything, "extra": anything},
)
nested = st.integers(1, 3_000).map(lambda depth: "[" * depth + "]" * depth)
written = st.one_of(chats, anything).map(lambda value: json.dumps(value, ensure_ascii=True))
texts = st.one_of(
    written,
    nested,
    st.sampled_from(["1e999", "-1e999", "NaN", '{"message": 1e999}', '{"message": "a", "message": "b"}', "9" * 5_000]),
    st.tuples(written, st.integers(0, 30)).map(lambda pair: pair[0][: pair[1]]),
    st.text(max_size=60),
)
bodies = texts.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=60)


@pytest.fixture
def upstream_thread(settings: Any) -> Any:
    with Upstream(reply("Fine")).in_thread() as server:
        settings.ASSISTANT_MODEL = "openai:test"
        settings.OPENAI_BASE_URL = server.url
        yield server


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(bodies, min_size=25, max_size=25))
def test_no_body_brings_a_5xx_and_nothing_refused_is_stored(upstream_thread: Upstream, some: list[bytes]) -> None:
    client = Client(raise_request_exception=False)
    before = Message.objects.count()
    asked = []
    for body in some:
        response = client.generic("POST", "/api/agent/chat", body, content_type="application/json")
        assert response.status_code < 500, response.content
        if response.status_code == 200:
            asked.append(json.loads(body)["message"])
        else:
            assert set(response.json()) <= {"error", "code", "details"}
    stored = Message.objects.order_by("created_at").values_list("prompt", flat=True)[before:]
    assert list(stored) == asked
    assert Conversation.objects.count() == before + len(asked)
