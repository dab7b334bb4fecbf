"""Files read by `add_documents`."""

import sys
from io import StringIO

import pytest
from django.core.management import call_command

from assistant.search.query import search
from tests.assistant.search.files import add, rows, write_pdf


@pytest.mark.django_db
class TestReading:
    def test_text_is_named_after_its_file(self, folder):
        (folder / "tea.txt").write_text("A drink.\r\nHot.")
        assert "docs/tea.txt: added." in add("docs/tea.txt")
        assert rows() == [("docs/tea.txt", "tea", "A drink.\nHot.")]

    def test_markdown_has_its_first_heading_as_title(self, folder):
        (folder / "tea.md").write_text("Draft\n\n## All about tea ##\n\nA drink.\n")
        add("docs")
        assert rows() == [("docs/tea.md", "All about tea", "Draft\n\n## All about tea ##\n\nA drink.")]

    def test_html_is_its_main_text(self, folder):
        paragraphs = "".join(f"<p>Tea is a drink, and this is sentence {n} about it.</p>" for n in range(9))
        (folder / "tea.html").write_text(
            "<html><head><title>Tea</title><script>var x = 'script';</script></head><body>"
            f"<nav><a href='/'>Menu entry</a></nav><article><h1>Tea</h1>{paragraphs}</article></body></html>"
        )
        add("docs")
        ((_, title, text),) = rows()
        assert title == "Tea"
        assert "this is sentence 8 about it" in text
        assert "script" not in text
        assert "Menu" not in text

    def test_pdf_is_its_text(self, folder):
        write_pdf(folder / "tea.pdf", "Tea is a drink.")
        add("docs")
        assert rows() == [("docs/tea.pdf", "tea", "Tea is a drink.")]

    def test_pdf_that_anyone_may_open_is_read(self, folder):
        write_pdf(folder / "tea.pdf", "Tea is a drink.", user_password="", owner_password="secret")
        add("docs")
        assert len(rows()) == 1

    def test_text_may_be_utf_16_or_have_a_mark(self, folder):
        (folder / "a.txt").write_text("Čaj", encoding="utf-16")
        (folder / "b.txt").write_text("Čaj", encoding="utf-8-sig")
        add("docs")
        assert [text for *_, text in rows()] == ["Čaj", "Čaj"]

    def test_folders_are_read_through_but_not_what_is_hidden(self, folder):
        for name in ("a.txt", "deep/er/b.md", ".git/c.txt", "d.png", ".e.txt"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("A drink.")
        add("docs")
        assert [source for source, *_ in rows()] == ["docs/a.txt", "docs/deep/er/b.md"]

    def test_what_was_added_is_found_with_its_address_and_credit(self, folder):
        (folder / "all about.md").write_text("# Tea\n\nA drink.")
        add("docs", url_prefix="https://example.com/docs/", credit="Ada, CC0")
        (hit,) = search("tea")
        assert (hit.url, hit.credit) == ("https://example.com/docs/all%20about.md", "Ada, CC0")


@pytest.mark.django_db
class TestFailing:
    def test_files_are_named_one_by_one_and_stop_nothing(self, folder):
        (folder / "a-binary.txt").write_bytes(b"\x89PNG\x00\xff")
        (folder / "b-nul.txt").write_bytes(b"tea\x00")
        (folder / "c-empty.txt").write_text(" \n")
        (folder / "d-broken.pdf").write_bytes(b"%PDF-1.4 nothing more")
        write_pdf(folder / "e-encrypted.pdf", "Tea", user_password="secret")
        write_pdf(folder / "f-scanned.pdf")
        (folder / "g-empty.html").write_text("<html><script>1</script></html>")
        (folder / "h-tea.txt").write_text("A drink.")
        said = add("docs", "nowhere", "docs/h-tea.png")
        assert said.splitlines() == [
            "docs/a-binary.txt: not added, it isn't text in UTF-8.",
            "docs/b-nul.txt: not added, it is binary.",
            "docs/c-empty.txt: not added, there is no text in it.",
            "docs/d-broken.pdf: not added, it isn't a PDF that can be read.",
            "docs/e-encrypted.pdf: not added, it is encrypted.",
            "docs/f-scanned.pdf: not added, there is no text in it.",
            "docs/g-empty.html: not added, there is no text in it.",
            "docs/h-tea.txt: added.",
            "nowhere: not added, it doesn't exist.",
            "docs/h-tea.png: not added, it doesn't exist.",
            "9 of 10 files couldn't be added.",
        ]
        assert len(rows()) == 1

    def test_a_kind_that_is_not_known_is_named(self, folder):
        (folder / "tea.png").write_bytes(b"")
        assert "docs/tea.png: not added, it isn't one of .htm, .html, .md, .pdf, .txt." in add("docs/tea.png")
        assert "docs: not added, it isn't one of" in add("docs")

    @pytest.mark.parametrize("options", [{"credit": "x" * 301}, {"url_prefix": "no address"}])
    def test_what_cannot_be_stored_is_said(self, folder, options):
        (folder / "tea.txt").write_text("A drink.")
        assert "docs/tea.txt: not added, E" in add("docs", **options)
        assert rows() == []


class Terminal(StringIO):
    def isatty(self):
        return True


@pytest.mark.django_db
class TestCommand:
    def test_shows_a_bar_in_a_terminal_in_place_of_lines(self, folder, capsys):
        (folder / "tea.txt").write_text("A drink.")
        terminal = Terminal()
        call_command("add_documents", "docs", stdout=terminal)
        assert terminal.getvalue() == ""
        assert "Adding files" in capsys.readouterr().out
        assert len(rows()) == 1

    @pytest.mark.parametrize("missing", ["rich.progress", "trafilatura"])
    def test_does_without_what_is_not_installed(self, folder, monkeypatch, missing):
        monkeypatch.setitem(sys.modules, missing, None)
        (folder / "tea.html").write_text("<title>Tea</title><p>A drink.</p>")
        call_command("add_documents", "docs", stdout=Terminal())
        assert rows() == [("docs/tea.html", "Tea", "A drink.")]

    def test_names_what_pdf_needs(self, folder, monkeypatch):
        monkeypatch.setitem(sys.modules, "pypdf", None)
        write_pdf(folder / "tea.pdf", "Tea")
        assert "PDF needs pypdf: pip install django-assistant-backend[documents]." in add("docs")
