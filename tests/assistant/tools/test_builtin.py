"""The built-in tools `search` and `current_time`."""

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import AnonymousUser

from assistant.errors import CallerError
from assistant.models import Document
from assistant.tools import toolbox


@pytest.fixture
def _drinks(transactional_db):
    Document.objects.create(source="a", title="Tea", text="A drink.", url="https://example.com/tea", credit="Ada, CC0")
    Document.objects.create(source="b", title="Coffee", text="Not tea, but a drink too.")


@pytest.mark.usefixtures("_drinks")
async def test_reads_as_a_numbered_list_and_as_data():
    output = await toolbox.get("search", AnonymousUser()).run({"query": "What is tea?"})
    assert output.text == (
        "1. Tea - A drink.\n   https://example.com/tea\n   Ada, CC0\n2. Coffee - Not tea, but a drink too."
    )
    first = output.data["results"][0]
    assert {name: value for name, value in first.items() if name != "score"} == {
        "title": "Tea",
        "url": "https://example.com/tea",
        "snippet": "A drink.",
        "text": "A drink.",
        "source": "a",
        "credit": "Ada, CC0",
        "matched": 1.0,
    }
    assert first["score"] > output.data["results"][1]["score"] > 0


@pytest.mark.django_db(transaction=True)
async def test_says_when_nothing_was_found():
    output = await toolbox.get("search", AnonymousUser()).run({"query": "tea"})
    assert output.text == "Nothing was found for “tea”."
    assert output.data == {"query": "tea", "results": []}


@pytest.mark.parametrize("limit", [0, 21])
async def test_the_number_of_results_is_bounded(limit):
    with pytest.raises(CallerError, match="limit: "):
        await toolbox.get("search", AnonymousUser()).run({"query": "tea", "limit": limit})


async def test_tells_the_time_in_a_zone():
    output = await toolbox.get("current_time", AnonymousUser()).run({"zone": "Asia/Kolkata"})
    told = datetime.fromisoformat(output.data["time"])
    assert told.utcoffset() == timedelta(hours=5, minutes=30)
    assert abs(told - datetime.now(UTC)) < timedelta(minutes=1)
    assert output.text == f"{told:%A}, {output.data['time']} in Asia/Kolkata"


async def test_is_utc_unless_told_otherwise():
    assert (await toolbox.get("current_time", AnonymousUser()).run({})).data["zone"] == "UTC"


@pytest.mark.parametrize(
    "zone", ["Mars/Olympus", "", "../../etc/passwd", "/etc/localtime", "Europe", "a" * 5000, "U\x00"]
)
async def test_an_unknown_zone_is_the_callers_mistake(zone):
    with pytest.raises(CallerError) as refused:
        await toolbox.get("current_time", AnonymousUser()).run({"zone": zone})
    assert list(refused.value.details) == ["zone"]
