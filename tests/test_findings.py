"""Findings for people, programs and reviews."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from bff.errors import Finding
from bff.findings import failing, lines, relative, summary

COUNTS = {"contexts": 2, "fragments": 1, "pages": 0}


def finding(severity: Literal["error", "warning", "note"] = "error", file: str = "/x/a.yaml", line: int = 3) -> Finding:
    return Finding(
        file=file,
        line=line,
        column=5,
        code="bad-value",
        message="path: 50% wrong",
        remedy="write\nit, right",
        context="shop",
        owner="team-shop",
        severity=severity,
    )


def test_what_two_pages_share_is_told_once() -> None:
    found = relative([finding(), finding(), finding(line=4)], Path("/"))
    assert [(each.file, each.line) for each in found] == [("x/a.yaml", 3), ("x/a.yaml", 4)]


def test_files_below_the_working_directory_are_told_from_there_and_others_in_full() -> None:
    near, far = relative([finding(file="/x/y/a.yaml"), finding(file="/z/a.yaml")], Path("/x"))
    assert {near.file, far.file} == {"y/a.yaml", "/z/a.yaml"}


def test_findings_are_sorted_by_place_with_notes_at_the_end() -> None:
    found = relative([finding("note", line=1), finding("warning", line=9), finding("error", line=2)], Path("/"))
    assert [each.severity for each in found] == ["error", "warning", "note"]


def test_text_is_a_line_each_and_a_summary() -> None:
    told = list(lines([finding()], COUNTS, "text"))
    assert told == [
        "/x/a.yaml:3:5: error: path: 50% wrong — write\nit, right [shop, team-shop]",
        "2 contexts, 1 fragment, no pages: 1 error, no warnings, no notes",
    ]


def test_json_is_one_document() -> None:
    (told,) = lines([finding("warning")], COUNTS, "json")
    document = json.loads(told)
    assert document["contexts"] == 2
    assert document["warnings"] == 1
    assert document["findings"][0]["remedy"] == "write\nit, right"


def test_github_annotations_are_escaped() -> None:
    told = list(lines([finding(file="a,b:c.yaml"), finding("note")], COUNTS, "github"))
    assert told[0] == (
        "::error file=a%2Cb%3Ac.yaml,line=3,col=5,title=bad-value::path: 50%25 wrong — write%0Ait, right"
    )
    assert told[1].startswith("::notice ")


def test_a_finding_without_a_remedy() -> None:
    bare = Finding(file="a", line=1, column=1, code="x", message="m")
    assert list(lines([bare], COUNTS, "github")) == ["::error file=a,line=1,col=1,title=x::m"]


def test_notes_fail_nothing() -> None:
    assert not failing([finding("note")])
    assert failing([finding("note"), finding("warning")])
    assert failing([finding("error")])


def test_a_summary_counts() -> None:
    found = [finding("error"), finding("error"), finding("note")]
    assert summary(found, {"contexts": 1}) == "1 context: 2 errors, no warnings, 1 note"
