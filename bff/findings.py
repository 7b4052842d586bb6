"""Findings on their way to a reader: as text, as JSON, or as annotations of a forge's change view. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final, Literal

from bff.errors import Finding

Form = Literal["text", "json", "github"]
_COMMANDS: Final[Mapping[str, str]] = {"error": "error", "warning": "warning", "note": "notice"}
_RANK: Final[Mapping[str, int]] = {"error": 0, "warning": 1, "note": 2}


def relative(findings: Iterable[Finding], to: Path) -> list[Finding]:
    """The same findings, each once, sorted by place, with files as seen from `to` where they lie below it."""
    near = dict.fromkeys(replace(finding, file=_near(finding.file, to)) for finding in findings)
    return sorted(near, key=lambda f: (_RANK[f.severity] == 2, f.file, f.line, f.column, _RANK[f.severity], f.message))


def _near(file: str, to: Path) -> str:
    path = Path(file)
    return str(path.relative_to(to)) if path.is_relative_to(to) else file


def lines(findings: Sequence[Finding], counts: Mapping[str, int], form: Form) -> Iterable[str]:
    """What `bff check` prints: all findings, and (but for annotations) a summary."""
    match form:
        case "text":
            yield from map(str, findings)
            yield summary(findings, counts)
        case "json":
            found = [asdict(finding) for finding in findings]
            yield json.dumps({"findings": found, **counts, **_totals(findings)}, indent=2, ensure_ascii=False)
        case "github":
            yield from map(_annotation, findings)


def failing(findings: Iterable[Finding]) -> bool:
    """Whether any is more than a note: exit code 1."""
    return any(finding.severity != "note" for finding in findings)


def summary(findings: Sequence[Finding], counts: Mapping[str, int]) -> str:
    """`6 contexts, 14 fragments, 3 pages: no errors, 1 warning, 2 notes`."""
    here = ", ".join(_count(number, word) for word, number in counts.items())
    there = ", ".join(_count(number, word) for word, number in _totals(findings).items())
    return f"{here}: {there}"


def _totals(findings: Iterable[Finding]) -> dict[str, int]:
    totals = dict.fromkeys(("errors", "warnings", "notes"), 0)
    for finding in findings:
        totals[f"{finding.severity}s"] += 1
    return totals


def _count(number: int, words: str) -> str:
    return f"{number or 'no'} {words[:-1] if number == 1 else words}"


def _annotation(finding: Finding) -> str:
    where = f"file={_escaped(finding.file)},line={finding.line},col={finding.column},title={_escaped(finding.code)}"
    told = finding.message + (f" — {finding.remedy}" if finding.remedy else "")
    return f"::{_COMMANDS[finding.severity]} {where}::{_escaped(told, value=False)}"


def _escaped(text: str, *, value: bool = True) -> str:
    """As workflow commands want it: a property's value may hold neither `,` nor `:`."""
    for mark, code in (("%", "%25"), ("\r", "%0D"), ("\n", "%0A"), *(((":", "%3A"), (",", "%2C")) if value else ())):
        text = text.replace(mark, code)
    return text
