"""What is not YAML, in plain words: where it went wrong, and a remedy that is right."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.config.syntax import told
from bff.config.yaml import parse


def said(text: str) -> tuple[int, int, str, str]:
    (found,) = parse(text, file="x.yaml")[1]
    assert found.code == "syntax"
    return found.line, found.column, found.message.removeprefix("not YAML: "), found.remedy


@pytest.mark.parametrize(
    ("text", "at", "message", "remedy"),
    [
        ("a:\n\tb: 1\n", (2, 1), "a tab stands", "spaces"),
        ("a:\n  b: 1\n\tc: 2\n", (3, 1), "a tab stands", "spaces"),
        ("a:\n  b: 1\n  \tc: 2\n", (3, 3), "a tab stands", "spaces"),
        ("a:\n    b: 1\n   c: 2\n", (3, 4), "indented like no line", "as the keys beside it"),
        ("a:\n    b:\n      c: 1\n  d: 1\n", (4, 3), "indented like no line", "as the keys beside it"),
        ("a: 1\n  b: 2\n", (2, 3), "indented more than line 1", "both alike"),
        ("a: 1\n\n  b: 2\n", (3, 3), "indented more than line 1", "both alike"),
        ("a:\n  - x\n  b: 1\n", (3, 3), "no item of the list", "begin it with - "),
        ("a: {b: 1\nc: 2\n", (1, 4), "the { that begins here is not closed", "close it with }"),
        ("a: [b, c\nd: 1\n", (1, 4), "the [ that begins here is not closed", "close it with ]"),
        ('a: {b: "x, c: "y"}\n', (1, 16), "a comma or } is missing", "quotes before it"),
        ("a: {b: 1}}\n", (1, 10), "something follows the closing }", "close it once"),
        ("path: {x}/y\n", (1, 10), "something follows the closing }", "quotes around all of it"),
        ("a: 'it's'\n", (1, 8), "goes on after its closing quote", "the other kind of quotes"),
        ("a: b: c\n", (1, 5), '": " within a text', "quotes around"),
        ("a:1\nb: 2\n", (1, 1), "no key and value", "a space after the colon"),
        ("a:1\n# so\nb: 2\n", (3, 1), "complete without it", "a space after the colon"),
        ("x:\n  a:1\n  b: 2\n", (2, 3), "no key and value", "a space after the colon"),
        ("b: 2\na\n", (2, 1), "no key and value", "a space after the colon"),
        ('a: "b\nc: 1\n', (1, 4), 'the " that begins here', "close it"),
        ('a: "\\d"\n', (1, 5), "\\d means nothing", "single quotes"),
        ("a: @b\n", (1, 4), "begin with @", "quotes"),
        ("a: *\n", (1, 4), "begin with *", "quotes"),
        ("a: - b\n", (1, 4), "beside its key", "a line of its own"),
        ("a: | x\n", (1, 6), "comment or line break", "check indentation"),
    ],
)
def test_what_is_wrong_is_told_where_it_is(text: str, at: tuple[int, int], message: str, remedy: str) -> None:
    line, column, what, do = said(text)
    assert (line, column) == at
    assert message in what
    assert remedy in do


def test_what_nobody_foresaw_is_told_in_the_parsers_words() -> None:
    assert told("a ? b", "did not find expected key", (1, 3), None) == (
        (1, 3),
        "did not find expected key",
        "check indentation and quotes",
    )
    assert (
        told(": b", "mapping values are not allowed in this context", (1, 1), None).message == "no key stands before it"
    )


@given(st.text(alphabet="ab:-#'\"{}[],&*?|>@\\ \t\n", max_size=40))
def test_whatever_is_written_is_told_in_its_lines(text: str) -> None:
    for found in parse(text, file="x")[1]:
        assert 1 <= found.line <= len(text.splitlines()) + 1
        assert found.column >= 1
        assert found.remedy
