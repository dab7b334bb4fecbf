"""HTML as title and text."""

import pytest

from assistant.search.html import decode_html, parse_html
from assistant.search.readers import read_file


class TestHTML:
    @pytest.mark.parametrize(
        ("data", "charset"),
        [
            ("<p>Café".encode(), None),
            ("<p>Café".encode("latin-1"), "latin-1"),
            (b"<meta charset='windows-1252'><p>Caf\xe9", None),
            ("<p>Café".encode(), "punycode"),
            ("<p>Café".encode(), "utf-8-unknown"),
        ],
    )
    def test_is_decoded_as_declared(self, data, charset):
        assert "Café" in decode_html(data, charset)

    @pytest.mark.parametrize("html", [b"", b"<", b"<p>" * 10_000, b"\x00\xff", b"<!DOCTYPE", b"<script>"])
    def test_that_is_broken_raises_nothing(self, html):
        parse_html(html)

    def test_without_a_main_part_is_all_of_its_text(self, tmp_path):
        (tmp_path / "tea.html").write_text("<h1>Tea</h1><div>A<br>drink</div><style>p {}</style>")
        reading = read_file(tmp_path / "tea.html")
        assert (reading.title, "drink" in reading.text, "p {}" in reading.text) == ("Tea", True, False)
