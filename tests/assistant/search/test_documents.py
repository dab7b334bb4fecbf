"""Documents: split into passages, stored, replaced."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.models import Document
from assistant.search.documents import split_passages
from tests.assistant.search.files import add, rows


@pytest.mark.django_db
class TestAgain:
    def test_replaces_what_was_added_before(self, folder):
        (folder / "tea.txt").write_text("A drink.")
        add("docs")
        (folder / "tea.txt").write_text("An infusion.")
        add("docs")
        assert rows() == [("docs/tea.txt", "tea", "An infusion.")]

    def test_removes_passages_that_are_no_more(self, folder):
        Document.objects.create(source="docs/tea.txt#notes.txt", title="Another file", text="Its own.")
        (folder / "tea.txt").write_text("A drink.\n\n" * 1_000)
        assert "as 3 passages" in add("docs")
        assert [title for _, title, _ in rows()] == ["Another file", "tea", "tea (2)", "tea (3)"]
        (folder / "tea.txt").write_text("A drink.")
        add("docs")
        assert [source for source, *_ in rows()] == ["docs/tea.txt#notes.txt", "docs/tea.txt"]

    def test_the_number_of_queries_does_not_grow_with_the_passages(self, folder, django_assert_max_num_queries):
        (folder / "tea.txt").write_text("A drink.\n\n" * 100_000)
        add("docs")
        with django_assert_max_num_queries(6):
            add("docs")
        assert len(rows()) > 200


class TestPassages:
    def test_a_short_text_is_one(self):
        assert split_passages("Tea.") == ["Tea."]

    def test_end_where_a_heading_begins_if_they_can(self):
        text = f"# One\n\n{'a. ' * 900}\n\n# Two\n\n{'b. ' * 900}"
        assert [part[:5] for part in split_passages(text)] == ["# One", "# Two"]

    @pytest.mark.parametrize("mark", ["\n\n", "\n", ". ", " "])
    def test_end_where_a_paragraph_a_line_a_sentence_or_a_word_does(self, mark):
        parts = split_passages(mark.join(["x" * 30] * 500))
        assert all(part.strip(".").endswith("x" * 30) for part in parts)

    @given(st.text(alphabet="ab. \n#", max_size=300))
    def test_lose_no_word_and_are_never_too_long(self, text):
        parts = split_passages(text, size=20)
        assert all(0 < len(part) <= 20 for part in parts)
        assert "".join("".join(parts).split()) == "".join(text.split())
