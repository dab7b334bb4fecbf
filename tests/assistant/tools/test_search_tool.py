import pytest
from django.contrib.auth.models import AnonymousUser

from assistant.errors import CallerError
from assistant.models import Document
from assistant.tools import toolbox

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def _drinks():
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


async def test_says_when_nothing_was_found():
    output = await toolbox.get("search", AnonymousUser()).run({"query": "tea"})
    assert output.text == "Nothing was found for “tea”."
    assert output.data == {"query": "tea", "results": []}


@pytest.mark.parametrize("limit", [0, 21])
async def test_the_number_of_results_is_bounded(limit):
    with pytest.raises(CallerError, match="limit: "):
        await toolbox.get("search", AnonymousUser()).run({"query": "tea", "limit": limit})
