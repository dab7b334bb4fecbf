import time

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assistant.models import Document
from assistant.search.query import search


def put(*documents, **fields):
    """Store documents from (title, text)."""
    Document.objects.bulk_create(Document(source=title, title=title, text=text, **fields) for title, text in documents)


def titles(query, **limits):
    return [hit.title for hit in search(query, **limits)]


@pytest.fixture
def encyclopedia():
    put(
        ("Machine learning", "A field of artificial intelligence whose algorithms learn from data."),
        ("Slot machine", "A gambling machine that takes coins, one machine beside the other."),
        ("Learning", "Animals learn, and so do some machines: learning is acquiring knowledge."),
        ("Ada Lovelace", "An English mathematician who wrote the first program for a machine."),
        ("Grace Hopper", "An American computer scientist and admiral."),
        ("Python", "A programming language named after a troupe of comedians."),
        ("Monty Python", "A troupe of British comedians."),
        ("Language", "What people speak. Every language has words, and a language has a grammar."),
        ("Antonín Dvořák", "A Czech composer."),
    )


@pytest.mark.django_db
@pytest.mark.usefixtures("encyclopedia")
class TestOrder:
    @pytest.mark.parametrize(
        ("query", "first"),
        [
            ("machine learning", "Machine learning"),
            ("who was Ada Lovelace", "Ada Lovelace"),
            ("Python programming language", "Python"),
            ("What is a programming language?", "Python"),
            ("dvorak", "Antonín Dvořák"),
            ("DVOŘÁK", "Antonín Dvořák"),
            ("the comedians of Monty Python", "Monty Python"),
        ],
    )
    def test_what_has_all_words_comes_first_and_titles_count_most(self, query, first):
        assert titles(query)[0] == first

    def test_words_are_found_in_other_forms(self):
        assert "Slot machine" in titles("gamble")

    def test_the_limit_holds(self):
        assert len(search("machine")) == 4
        assert len(search("machine", limit=2)) == 2

    def test_scores_fall(self):
        scores = [hit.score for hit in search("machine learning")]
        assert scores == sorted(scores, reverse=True)
        assert scores[-1] > 0


@pytest.mark.django_db
@pytest.mark.usefixtures("encyclopedia")
class TestMatched:
    def test_is_the_share_of_the_words_that_a_document_has(self):
        found = {hit.title: hit.matched for hit in search("Which mathematician wrote Python programs?")}
        assert found == {"Ada Lovelace": 0.75, "Python": 0.5, "Monty Python": 0.25}

    def test_leaves_stop_words_out(self):
        assert [hit.matched for hit in search("who was Grace Hopper?")] == [1.0]


@pytest.mark.django_db
class TestQuery:
    @pytest.mark.parametrize("query", ["", "   ", "?!", '"', "()", "*", "\x00", "\ud800", "__", "'; DROP TABLE x; --"])
    def test_without_words_or_matches_finds_nothing(self, query):
        put(("Tea", "A drink."))
        assert search(query) == []

    @pytest.mark.parametrize(
        "query",
        [
            'tea"',
            "tea*",
            "title:tea",
            "tea NOT drink",
            "(tea",
            "tea & !drink",
            "^tea",
            "-tea",
            "tea:*",
            "tea\x00",
            "{tea}",
        ],
    )
    def test_has_no_syntax(self, query):
        put(("Tea", "A drink."))
        assert titles(query) == ["Tea"]

    @settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.one_of(st.text(), st.text(alphabet="aé \"'*():^-+&|!<>\\%_~{}[]AND OR NOT NEAR\x00\ud800", max_size=40)))
    def test_may_be_any_text(self, query):
        assert search(query) == []

    def test_may_be_long(self):
        put(("Tea", "A drink."))
        assert titles("tea " + "word " * 10_000) == ["Tea"]
        assert titles("t" * 100_000 + " tea") == []


@pytest.mark.django_db
class TestHit:
    def test_has_what_the_document_has(self):
        put(("Tea", "A drink."), url="https://example.com/tea", credit="Ada, CC0")
        (hit,) = search("tea")
        assert (hit.title, hit.text, hit.snippet) == ("Tea", "A drink.", "A drink.")
        assert (hit.url, hit.credit, hit.source) == ("https://example.com/tea", "Ada, CC0", "Tea")

    def test_the_snippet_is_the_part_of_the_text_that_fits(self):
        put(("Long", "Something else. " * 200 + "\n\nThe old samovar is here. " + "And more words. " * 200))
        (hit,) = search("samovar")
        assert "The old samovar is here. And more words." in hit.snippet
        assert 150 < len(hit.snippet) < 500

    def test_the_snippet_of_what_matches_by_its_title_is_the_beginning(self):
        put(("Samovar", "It boils water. " + "It is large. " * 100))
        assert search("samovar")[0].snippet.startswith("It boils water.")

    def test_of_a_very_long_document_is_bounded_and_quick(self):
        put(("Long", "tea " * 100_000))
        began = time.monotonic()
        (hit,) = search("tea")
        assert (len(hit.text), len(hit.snippet) < 500) == (4_000, True)
        assert time.monotonic() - began < 5


@pytest.mark.django_db
class TestIndex:
    def test_follows_each_change_of_a_document(self):
        document = Document.objects.create(source="a", title="Tea", text="A drink.")
        document.text = "An infusion."
        document.save()
        assert (titles("drink"), titles("infusion")) == ([], ["Tea"])
        Document.objects.update(title="Coffee")
        assert (titles("tea"), titles("coffee")) == ([], ["Coffee"])
        Document.objects.all().delete()
        assert titles("coffee infusion") == []

    def test_follows_an_upsert(self):
        put(("Tea", "A drink."))
        Document.objects.bulk_create(
            [Document(source="Tea", title="Coffee", text="Black.")],
            update_conflicts=True,
            unique_fields=["source"],
            update_fields=["title", "text"],
        )
        assert (titles("tea drink"), titles("coffee")) == ([], ["Coffee"])

    def test_takes_a_text_of_any_size(self):
        put(("Long", " ".join(f"word{number}" for number in range(300_000))))
        assert titles("word77") == ["Long"]


@pytest.mark.django_db(transaction=True)
def test_the_migration_indexes_what_is_there_and_can_be_taken_back():
    put(("Tea", "A drink."))
    executor = MigrationExecutor(connection)
    executor.migrate([("assistant", "0001_initial")])
    put(("Coffee", "A drink."))
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())
    assert sorted(titles("drink")) == ["Coffee", "Tea"]
