"""The spans of batches: items are part of their batch's, in the background they refer to it."""

from collections.abc import Iterator
from typing import Any

import pytest

from batching.models import Batch
from tests import spans
from tests.batching.background import accept, accepted, content, drain
from tests.batching.conftest import Send
from tests.spans import Spans, attributes

pytestmark = pytest.mark.usefixtures("committed")

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = f"00-{TRACE}-b7ad6b7169203331-01"
ITEMS = [
    {"id": "quagga", "method": "GET", "path": "/api/echo?q=zanzibar"},
    {"id": "b", "method": "GET", "path": "/api/nowhere/zanzibar"},
]


@pytest.fixture
def kept(settings: Any) -> Iterator[Spans]:
    settings.MIDDLEWARE = [spans.MIDDLEWARE, *settings.MIDDLEWARE]
    with spans.record() as them:
        yield them


@pytest.mark.parametrize("query", ["", "?stream=true"])
def test_items_are_spans_of_their_batch(kept: Spans, send: Send, query: str) -> None:
    response = send("POST", f"/api/batch{query}", {"requests": ITEMS}, headers={"traceparent": CALLER})
    if query:
        content(response)
    batch = kept.one("batch")
    assert kept.tree(kept.one("POST api/batch")) == ("POST api/batch", ("batch", ("GET api/echo",), ("GET",)))
    assert {span.context.trace_id for span in kept.all} == {int(TRACE, 16)}
    batch_id = Batch.objects.get().pk
    assert attributes(batch, "batch.id", "batch.items", "batch.succeeded", "batch.failed") == [batch_id, 2, 1, 1]
    said = ("batch.id", "batch.item.position", "http.route", "http.response.status_code")
    assert attributes(kept.one("GET api/echo"), *said) == [batch_id, 0, "api/echo", 200]
    assert attributes(kept.one("GET"), *said) == [batch_id, 1, None, 404]
    assert not any(word in kept.text for word in ("quagga", "zanzibar"))


def test_items_in_the_background_refer_to_their_batch(kept: Spans, send: Send) -> None:
    batch = accepted(accept(send, ITEMS, traceparent=CALLER))
    drain()
    accepting = kept.one("batch")
    assert attributes(accepting, "batch.id", "batch.items") == [batch.pk, 2]
    assert accepting.context.trace_id == int(TRACE, 16)
    items = [kept.one("GET api/echo"), kept.one("GET")]
    for position, item in enumerate(items):
        assert item.parent is None
        assert [link.context.span_id for link in item.links] == [accepting.context.span_id]
        assert attributes(item, "batch.id", "batch.item.position", "batch.item.attempt") == [batch.pk, position, 1]
    assert len({item.context.trace_id for item in [*items, accepting]}) == 3
    assert not any(word in kept.text for word in ("quagga", "zanzibar"))
