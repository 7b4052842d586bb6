"""Strict YAML: a file's text becomes plain text, lists and mappings, with a position for every key and value.

The only importer of PyYAML, used as a parser alone: nothing is constructed, scalars stay the source text they were
written as (`on`, `1:30` and `007` are just text), so that the schema decides what they mean. Duplicate keys, anchors,
aliases, tags and further documents are findings. Knows nothing of what the keys mean. Lines and columns count from 1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from bff.config.syntax import told
from bff.errors import Finding

Tree = Any  # str | list[Tree] | dict[str, Tree]
Loc = tuple[str | int, ...]

MAX_DEPTH: Final = 32  # deeper than any schema here; keeps hostile input off Python's stack
MAX_BYTES: Final = 8 * 1024**2  # some 20,000 fragments in one file
_COMMENT: Final = re.compile(r"[^:]{0,2}:[ \t]+#\S")
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where PyYAML was built with it


class Mark(NamedTuple):
    """Where a value begins, where its key does (itself, in a list), and what lies in it. A tuple: there are many."""

    line: int
    column: int
    key_line: int
    key_column: int
    inner: Any = None  # dict[str, Mark] | list[Mark] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One file, read."""

    file: str
    tree: Tree
    mark: Mark = field(repr=False)

    def at(self, *loc: str | int) -> tuple[int, int]:
        """Line and column of the value at `loc`, or of the nearest thing around it that is there."""
        mark = self._find(loc)[0]
        return mark.line, mark.column

    def key(self, *loc: str | int) -> tuple[int, int]:
        """Line and column of the key at `loc`; of the item itself, in a list."""
        mark, found = self._find(loc)
        return (mark.key_line, mark.key_column) if found else (mark.line, mark.column)

    def place(self, loc: Loc, *, key: bool = False) -> tuple[str, int, int]:
        """File, line and column of the value at `loc`, or of its key."""
        return (self.file, *(self.key(*loc) if key else self.at(*loc)))

    def places(self, *loc: str | int) -> Iterator[tuple[int, int]]:
        """Line and column of every key and value at `loc` and in it."""
        mark, found = self._find(loc)
        marks = [mark] if found else []
        while marks:
            mark = marks.pop()
            yield mark.line, mark.column
            yield mark.key_line, mark.key_column
            marks += mark.inner.values() if isinstance(mark.inner, dict) else mark.inner or ()

    def _find(self, loc: Iterable[str | int]) -> tuple[Mark, bool]:
        """The mark at `loc`; a dotted key may be written nested."""
        mark = self.mark
        steps = [*loc][::-1]
        while steps:
            step = steps.pop()
            match mark.inner, step:
                case dict() as inner, str() if step in inner:
                    mark = inner[step]
                case dict(), str() if "." in step:
                    steps += step.split(".")[::-1]
                case list() as inner, int() if step < len(inner):
                    mark = inner[step]
                case _:
                    return mark, False
        return mark, True


def read(path: Path, *, shown: str = "") -> tuple[Document | None, list[Finding]]:
    """The file at `path`; `shown` is its name in findings. No document where it cannot be read or is not YAML at all."""
    file = shown or str(path)
    try:
        raw = path.read_bytes() if path.is_file() else None
    except OSError as error:
        return None, [
            _finding(file, (1, 1), "unreadable", f"cannot be read: {error.strerror}", "check its permissions")
        ]
    if raw is None:
        what = "is not a file" if path.exists() else "does not exist"
        return None, [_finding(file, (1, 1), "unreadable", f"{path.name} {what}", f"put a YAML file at {path}")]
    if len(raw) > MAX_BYTES:
        return None, [_finding(file, (1, 1), "too-large", "has more than 8 MiB", "split it into more contexts")]
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = _position(raw[: error.start].decode("utf-8", "replace"))
        return None, [_finding(file, (line, column), "not-utf-8", "is not UTF-8", "save the file with UTF-8 encoding")]
    return parse(text, file=file)


def parse(text: str, *, file: str) -> tuple[Document | None, list[Finding]]:
    """The one document in `text`; an empty one is an empty mapping."""
    builder = _Builder(_LOADER(text).get_event, file, text)
    try:
        tree, mark = builder.document()
    except yaml.MarkedYAMLError as error:
        return None, [*builder.findings, _syntax(file, text, error)]
    except yaml.reader.ReaderError as error:
        line, column = _position(text.encode()[: error.position].decode("utf-8", "replace"))
        message = f"not YAML: the character U+{ord(error.character) if isinstance(error.character, str) else error.character:04X} is not allowed"
        return None, [*builder.findings, _finding(file, (line, column), "syntax", message, "remove it")]
    except _TooDeep as error:
        return None, [*builder.findings, _finding(file, error.at, "syntax", "nested too deeply", "flatten it")]
    return Document(file=file, tree=tree, mark=mark), builder.findings


class _TooDeep(Exception):
    def __init__(self, at: tuple[int, int]) -> None:
        self.at = at


class _Builder:
    """Builds the tree from the parser's events: a quarter of the time that nodes take, and nothing left to collect."""

    def __init__(self, event: Callable[[], Any], file: str, text: str) -> None:
        self.next = event
        self.file = file
        self.text = text
        self.findings: list[Finding] = []
        self.depth = 0

    def document(self) -> tuple[Tree, Mark]:
        self.next()  # the stream's start
        if isinstance(self.next(), yaml.StreamEndEvent):
            return {}, Mark(1, 1, 1, 1, {})
        made = self.node(self.next(), None)
        self.next()  # the document's end
        further = self.next()
        if isinstance(further, yaml.DocumentStartEvent):
            self.report(further, "several-documents", "a second document begins here", "keep one document per file")
        return made

    def node(self, event: Any, key: tuple[int, int] | None) -> tuple[Tree, Mark]:
        mark = event.start_mark
        at: tuple[int, int] = (mark.line + 1, mark.column + 1)
        kind = type(event)
        if (
            kind is yaml.ScalarEvent and event.tag is None and event.anchor is None
        ):  # nearly all: no call more than needed
            return event.value, _mark(Mark, (*at, *(key or at), None))
        if event.anchor is not None:
            self.anchored(event)
        if kind is yaml.AliasEvent:
            return "", Mark(*at, *(key or at))
        if event.tag is not None:
            self.report(
                event, "yaml-tag", f"the tag {event.tag} is not allowed", "leave it out; the schema knows the type"
            )
        if kind is yaml.ScalarEvent:
            return event.value, Mark(*at, *(key or at))
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _TooDeep(at)
        tree, inner = self.mapping() if kind is yaml.MappingStartEvent else self.sequence()
        self.depth -= 1
        return tree, Mark(*at, *(key or at), inner)

    def mapping(self) -> tuple[dict[str, Tree], dict[str, Mark]]:
        tree: dict[str, Tree] = {}
        marks: dict[str, Mark] = {}
        following = self.next
        while type(event := following()) is not yaml.MappingEndEvent:
            name, began = self.node(event, None)
            value, mark = self.node(following(), began[:2])
            if not isinstance(name, str):
                self.report(event, "bad-key", "a key must be text", 'quote text that begins with "{" or "["')
            elif name == "<<":
                self.report(event, "merge-key", "merge keys are not allowed", "write the values out")
            elif name in tree:
                line = marks[name].key_line
                self.report(event, "duplicate-key", f"duplicate key {name!r}, first on line {line}", "keep one of them")
            else:
                tree[name], marks[name] = value, mark
                if not value:
                    self.commented(name, mark)
        return tree, marks

    def sequence(self) -> tuple[list[Tree], list[Mark]]:
        tree, marks = [], []
        while type(event := self.next()) is not yaml.SequenceEndEvent:
            value, mark = self.node(event, None)
            tree.append(value)
            marks.append(mark)
        return tree, marks

    def commented(self, name: str, mark: Mark) -> None:
        """Tell of `contact: #team`, whose value is a comment: it is not what anybody means."""
        rest = self.lines[mark.key_line - 1][mark.key_column - 1 + len(name) :]
        if _COMMENT.match(rest):
            message, remedy = f"{name} has no value but a comment", 'put quotes around text that begins with "#"'
            told = _finding(self.file, (mark.key_line, mark.key_column), "comment", message, remedy)
            self.findings.append(replace(told, severity="warning"))

    @cached_property
    def lines(self) -> list[str]:
        """The text's, split once: a large file may hold many empty values."""
        return self.text.splitlines()

    def anchored(self, event: Any) -> None:
        sign, what = ("*", "alias") if isinstance(event, yaml.AliasEvent) else ("&", "anchor")
        self.report(event, f"yaml-{what}", f"the {what} {sign}{event.anchor} is not allowed", "write the value out")

    def report(self, event: Any, code: str, message: str, remedy: str) -> None:
        self.findings.append(_finding(self.file, _at(event), code, message, remedy))


_mark: Final[Callable[[type[Mark], tuple[Any, ...]], Mark]] = tuple.__new__  # what `Mark(…)` does, without its detour


def _at(event: Any) -> tuple[int, int]:
    mark = event.start_mark
    return mark.line + 1, mark.column + 1


def _position(before: str) -> tuple[int, int]:
    """Line and column of what follows this text."""
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def _syntax(file: str, text: str, error: yaml.MarkedYAMLError) -> Finding:
    at, began = (
        (mark.line + 1, mark.column + 1) if mark else None for mark in (error.problem_mark, error.context_mark)
    )
    said = told(text, str(error.problem), at or began or (1, 1), began)
    return _finding(file, said.at, "syntax", f"not YAML: {said.message}", said.remedy)


def _finding(file: str, at: tuple[int, int], code: str, message: str, remedy: str) -> Finding:
    return Finding(file=file, line=at[0], column=at[1], code=code, message=message, remedy=remedy)
