"""`bff.config.yaml`: text stays as it was written, everything has a place, and what is not plain YAML is told."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.config.yaml import MAX_BYTES, MAX_DEPTH, parse, read


def told(text: str) -> list[tuple[int, int, str]]:
    return [(f.line, f.column, f.code) for f in parse(text, file="x.yaml")[1]]


def test_scalars_keep_their_source_text() -> None:
    document, found = parse("a: on\nb: 1:30\nc: 007\nd: 'quoted'\ne:\nf: [no, 1.50, ~]\n", file="x.yaml")
    assert document is not None
    assert found == []
    assert document.tree == {"a": "on", "b": "1:30", "c": "007", "d": "quoted", "e": "", "f": ["no", "1.50", "~"]}


def test_flow_and_block_style_are_the_same() -> None:
    flow, _ = parse("a: {b: [1, {c: d}]}", file="x")
    block, _ = parse("a:\n  b:\n    - 1\n    - c: d\n", file="x")
    assert flow is not None
    assert block is not None
    assert flow.tree == block.tree


@pytest.mark.parametrize("text", ["", "\n# nothing\n", "---\n..."])
def test_an_empty_file_is_an_empty_mapping_or_text(text: str) -> None:
    document, found = parse(text, file="x")
    assert document is not None
    assert not document.tree
    assert found == []


def test_everything_has_a_place() -> None:
    document, _ = parse("a: 1\nb:\n  c: [x, {d: y}]\n  é: 1\n", file="x.yaml")
    assert document is not None
    assert (document.at("a"), document.key("a")) == ((1, 4), (1, 1))
    assert (document.at("b"), document.key("b")) == ((3, 3), (2, 1))
    assert document.at("b", "c", 1, "d") == (3, 14)
    assert document.key("b", "c", 0) == (3, 7)
    assert document.place(("b", "é"), key=True) == ("x.yaml", 4, 3)


@pytest.mark.parametrize("loc", [("b", "zzz"), ("b", "c", 7), ("b", "c", "x"), ("a", "deeper")])
def test_what_is_not_there_has_the_place_of_what_is_around_it(loc: tuple[str | int, ...]) -> None:
    document, _ = parse("a: 1\nb:\n  c: [x]\n", file="x")
    assert document is not None
    around = document.at(*loc[:-1])
    assert document.at(*loc) == around
    assert document.key(*loc) == around


def test_a_dotted_key_may_be_written_nested() -> None:
    document, _ = parse("policy: {timeout: {total: 1s}, cache.fresh: 2s}", file="x")
    assert document is not None
    assert document.at("policy", "timeout.total") == (1, 27)
    assert document.key("policy", "cache.fresh") == (1, 32)
    assert document.at("policy", "timeout.connect") == (1, 19)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a: 1\na: 2\n", [(2, 1, "duplicate-key")]),
        ("a: &x 1\n", [(1, 4, "yaml-anchor")]),
        ("a: &x {b: 1}\nc: *x\n", [(1, 4, "yaml-anchor"), (2, 4, "yaml-alias")]),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", [(1, 4, "yaml-anchor"), (3, 7, "yaml-alias"), (3, 3, "merge-key")]),
        ("a: !!int 1\n", [(1, 4, "yaml-tag")]),
        ("a: ! 1\n", [(1, 4, "yaml-tag")]),
        ("a: !!python/object:os.system x\n", [(1, 4, "yaml-tag")]),
        ("? [a]\n: 1\n", [(1, 3, "bad-key")]),
        ("{a: 1}: 2\n", [(1, 1, "bad-key")]),
        ("a: 1\n---\nb: 2\n", [(2, 1, "several-documents")]),
        ("a: [1\nb: 2\n", [(1, 4, "syntax")]),
        ("a: b: c\n", [(1, 5, "syntax")]),
        ("a:\n  b: #team\n  c: # none\n  d:\n  'e': #team\n", [(2, 3, "comment"), (5, 3, "comment")]),
        ("a: 1\n\tb: 2\n", [(2, 1, "syntax")]),
        ("é: 1\nb: \x08\n", [(2, 4, "syntax")]),
        ("a: {b: &x 1, b: 2, c: *x}", [(1, 8, "yaml-anchor"), (1, 14, "duplicate-key"), (1, 23, "yaml-alias")]),
    ],
)
def test_what_is_not_plain_is_told_at_its_place(text: str, found: list[tuple[int, int, str]]) -> None:
    assert told(text) == found


def test_the_first_of_duplicates_stands() -> None:
    document, found = parse("a: 1\nb: 2\na: 3", file="x")
    assert document is not None
    assert document.tree == {"a": "1", "b": "2"}
    assert "first on line 1" in found[0].message


def test_findings_before_a_syntax_error_are_told_too() -> None:
    assert told("a: &x 1\nb: [\n") == [(1, 4, "yaml-anchor"), (3, 1, "syntax")]


def test_a_syntax_error_says_where_its_reason_began() -> None:
    (finding,) = parse("a: 'never\nclosed\n", file="x")[1]
    assert finding.message == "not YAML: the ' that begins here is never closed"
    assert (finding.line, finding.column) == (1, 4)


def test_deep_nesting_does_not_reach_the_stack() -> None:
    assert parse("[" * MAX_DEPTH + "]" * MAX_DEPTH, file="x")[1] == []
    assert told("[" * 5000) == [(1, MAX_DEPTH + 1, "syntax")]


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_file_is_read_with_or_without_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(b"\xef\xbb\xbfa: 1\n")
    document, found = read(file, shown="a.yaml")
    assert document is not None
    assert (document.tree, document.file, found) == ({"a": "1"}, "a.yaml", [])


def test_a_file_that_is_not_utf_8_is_told_where(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(b"a: 1\nb: \xff\n")
    document, (finding,) = read(file)
    assert document is None
    assert (finding.file, finding.line, finding.column, finding.code) == (str(file), 2, 4, "not-utf-8")


@pytest.mark.parametrize(("name", "says"), [("missing.yaml", "does not exist"), ("", "is not a file")])
def test_no_file_is_a_finding(tmp_path: Path, name: str, says: str) -> None:
    document, (finding,) = read(tmp_path / name)
    assert document is None
    assert finding.code == "unreadable"
    assert says in finding.message


def test_a_name_that_no_file_can_have_is_a_finding(tmp_path: Path) -> None:
    (finding,) = read(tmp_path / ("x" * 300))[1]
    assert finding.code == "unreadable"


def test_a_huge_file_is_a_finding(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    with file.open("wb") as sink:
        sink.truncate(MAX_BYTES + 1)
    assert [f.code for f in read(file)[1]] == ["too-large"]


@given(st.text(st.sampled_from("ab:{}[],&*!<>-? \n\t'\"|#\x00\x85\u2028é"), max_size=60))
def test_no_text_is_a_traceback(text: str) -> None:
    document, found = parse(text, file="x")
    assert document is not None or found


def test_the_lines_of_a_file_with_many_empty_values_are_told_apart_once() -> None:
    split = []

    def called(_: FrameType, event: str, what: Any) -> None:
        if event == "c_call" and what.__name__ == "splitlines":
            split.append(what)

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        document, found = parse("".join(f"a{n}:\n" for n in range(100)), file="x")
    finally:
        sys.setprofile(before)
    assert document is not None
    assert (len(document.tree), found, len(split)) == (100, [], 1)
