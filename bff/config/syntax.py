"""What is wrong with text that is no YAML, in the words of whoever wrote it: where it went wrong, and what to write instead.

A parser says where it gave up; that is often a line too late, and never says why. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

Position = tuple[int, int]
"""Line and column, from 1."""

_NO_COLON: Final = ("there is no key and value", "write key: value, with a space after the colon")
_PLAIN: Final = {
    "did not find expected '-' indicator": (
        "this is no item of the list above it",
        "begin it with - , or indent it less",
    ),
    "did not find expected <document start>": ("what stands before this line is complete without it", _NO_COLON[1]),
    "block sequence entries are not allowed in this context": (
        "a list begins beside its key",
        "write [a, b], or each - on a line of its own below the key",
    ),
}
_QUOTE: Final = "put quotes around the text"
_PAIR: Final = re.compile(r":(\s|$)")


class Told(NamedTuple):
    """Where, what, and what to do."""

    at: Position
    message: str
    remedy: str


def told(text: str, problem: str, at: Position, began: Position | None) -> Told:
    """The parser's `problem` at `at`, in plain words; `began`: where what it was reading began, if it says so."""
    lines = text.splitlines()
    return (
        _tabs(lines, at) or _said(lines, problem, at, began or at) or Told(at, problem, "check indentation and quotes")
    )


def _tabs(lines: Sequence[str], at: Position) -> Told | None:
    if _char(lines, at) == "\t" and not _line(lines, at[0])[: at[1] - 1].strip(" "):
        return Told(at, "a tab stands where indentation is", "indent with spaces alone")
    return None


def _said(lines: Sequence[str], problem: str, at: Position, began: Position) -> Told | None:
    match problem:
        case _ if problem in _PLAIN:
            return Told(at, *_PLAIN[problem])
        case "could not find expected ':'":
            return Told(began, *_NO_COLON)
        case "mapping values are not allowed in this context":
            return _second_colon(lines, at)
        case "did not find expected key":
            return _after(lines, at)
        case "did not find expected ',' or '}'" | "did not find expected ',' or ']'":
            return _open(problem[-2], at, began)
        case "found unexpected end of stream":
            return Told(began, f"the {_char(lines, began)} that begins here is never closed", "close it")
        case "found unknown escape character":
            escape = _line(lines, at[0])[at[1] - 1 :][:2]
            return Told(
                at, f"{escape} means nothing in double quotes", "use single quotes, or write the backslash twice"
            )
        case "found character that cannot start any token" | "did not find expected alphabetic or numeric character":
            return Told(began, f"text cannot begin with {_char(lines, began)}", _QUOTE)
    return None


def _second_colon(lines: Sequence[str], at: Position) -> Told:
    """A colon where no key is expected: in a text, after a line without one, or below a key that has its value."""
    number = at[0]
    if _PAIR.search(_line(lines, number)[: at[1] - 1]):
        return Told(at, 'there is ": " within a text', _QUOTE)
    above = next((n for n in range(number - 1, 0, -1) if _line(lines, n).strip()), 0)
    if above and not _PAIR.search(_line(lines, above)):
        return Told(_start(lines, above), *_NO_COLON)
    wrong = (
        f"it is indented more than line {above}, which has its value already" if above else "no key stands before it"
    )
    return Told(_start(lines, number), wrong, "indent both alike")


def _after(lines: Sequence[str], at: Position) -> Told | None:
    """Something where a key was expected: a line indented like none above, or more text behind a closed value."""
    before = _line(lines, at[0])[: at[1] - 1].rstrip()
    if not before:
        return Told(at, "it is indented like no line above that it could belong to", "indent it as the keys beside it")
    if before[-1] in "\"'":
        return Told(at, "a text goes on after its closing quote", "put the other kind of quotes around all of it")
    if before[-1] in "]}":
        return Told(at, f"something follows the closing {before[-1]}", "put quotes around all of it, or close it once")
    return None


def _open(end: str, at: Position, began: Position) -> Told:
    begin = "{" if end == "}" else "["
    if at[0] > began[0]:
        return Told(began, f"the {begin} that begins here is not closed", f"close it with {end}, or {_QUOTE}")
    return Told(at, f"a comma or {end} is missing here", "write it, or mend the quotes before it")


def _start(lines: Sequence[str], number: int) -> Position:
    line = _line(lines, number)
    return number, len(line) - len(line.lstrip(" ")) + 1


def _line(lines: Sequence[str], number: int) -> str:
    return lines[number - 1] if number <= len(lines) else ""


def _char(lines: Sequence[str], at: Position) -> str:
    return _line(lines, at[0])[at[1] - 1 : at[1]]
