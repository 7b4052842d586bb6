"""`bff.config.origins`: a text put together from marked pieces knows where each of its characters was written."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from bff.config.origins import marked, unmarked

ROOT = Path("/root")


def test_every_line_is_found_where_it_was_written() -> None:
    text = marked("<p>\n  a", "x/a.html", 7, 5) + marked("b\nc", "y/b.html", 1, 1) + marked("d", "x/a.html", 9, 3)
    source = unmarked(text, root=ROOT, file="/root/x/page.html")
    assert source.text == "<p>\n  ab\ncd"
    assert source.at(1, 2) == ("/root/x/a.html", 7, 6)
    assert source.at(2, 3) == ("/root/x/a.html", 8, 3)
    assert source.at(2, 4) == ("/root/y/b.html", 1, 1)
    assert source.at(3, 1) == ("/root/y/b.html", 2, 1)
    assert source.at(3, 2) == ("/root/x/a.html", 9, 3)


def test_what_has_no_mark_is_of_the_page() -> None:
    source = unmarked("plain", root=ROOT, file="page.html")
    assert (source.text, source.at(1, 3)) == ("plain", ("page.html", 1, 3))


def test_text_without_a_mark_before_marked_text() -> None:
    source = unmarked("12\n" + marked("ab", "x/a.html", 4, 1), root=ROOT, file="page.html")
    assert (source.at(1, 2), source.at(2, 2)) == (("page.html", 1, 2), ("/root/x/a.html", 4, 2))


@given(st.lists(st.text("ab\n:", max_size=8), min_size=1, max_size=5))
def test_every_character_leads_back_to_itself(texts: list[str]) -> None:
    source = unmarked("".join(marked(t, str(n), 1, 1) for n, t in enumerate(texts)), root=ROOT, file="page")
    assert source.text == "".join(texts)
    places = [
        (n, line, column, char)
        for n, t in enumerate(texts)
        for line, row in enumerate(t.split("\n"), 1)
        for column, char in enumerate(row, 1)
    ]
    shown = [
        (line, column, char)
        for line, row in enumerate(source.text.split("\n"), 1)
        for column, char in enumerate(row, 1)
    ]
    for (number, line, column, char), (shown_line, shown_column, shown_char) in zip(places, shown, strict=True):
        assert char == shown_char
        assert source.at(shown_line, shown_column) == (str(ROOT / str(number)), line, column)
