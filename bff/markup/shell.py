"""Compiles the text of a page, after inheritance, into bytes, holes and slots; says what is wrong with it, all at once.

The author's bytes go out unchanged: a nonce is added to scripts and styles, slots and holes are cut out, and nothing
else. Runs when registrations load. Does not know which fragments exist.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from bff.errors import Finding
from bff.markup.pieces import Piece, merge, nonced
from bff.markup.slots import default_key, read
from bff.markup.tokens import SOUP, Open, attributes, html_rule, values
from bff.markup.walk import meta_key, walk
from bff.model import Hole, Shell, Slot

_TAG: Final = b"bff-fragment"
_CONTROLS: Final = frozenset(b"button input select textarea iframe object embed".split())
_BORDERS: Final = frozenset(
    b"table td th caption button object template".split()
)  # hide an open <p> from what is inside
_NO_WRAPPER: Final = frozenset(b"table colgroup thead tbody tfoot tr select head".split())
_P: Final = int(Open.P)
_SLOT: Final = re.compile(rb"<bff-fragment(?=[\t\n\f\r />])", re.IGNORECASE)
_LAYOUT: Final = 'extend a layout, such as {% extends "site/layouts/default.html" %}'


def compile_shell(html: str, *, file: str, context: str, owner: str) -> tuple[Shell | None, list[Finding]]:
    """A page's text as a `Shell`; None where a finding is an error. Lines and columns count from 1, in `html`."""
    shell, findings = read_shell(html, file=file, context=context, owner=owner)
    return (None if any(finding.severity == "error" for finding in findings) else shell), findings


def read_shell(html: str, *, file: str, context: str, owner: str) -> tuple[Shell, list[Finding]]:
    """As `compile_shell`; where there is an error, the slots with which nothing is wrong, for others to judge."""
    compiler = _Compiler(html.encode(), Report(html.encode(), file, context, owner))
    compiler.run()
    findings = sorted(compiler.report.findings)
    if any(finding.severity == "error" for finding in findings):
        sound = tuple(slot for slot in compiler.slots if slot.index not in compiler.unsound)
        return Shell(parts=(), slots=sound), findings
    return Shell(parts=merge(compiler.out), slots=tuple(compiler.slots)), findings


class Report:
    """Findings in one file, with places as people count them."""

    def __init__(self, text: bytes, file: str, context: str, owner: str) -> None:
        self.findings: list[Finding] = []
        self._text = text
        self._starts = [0, *(m.end() for m in re.finditer(b"\n", text))]
        self._whose = {"file": file, "context": context, "owner": owner}

    def place(self, offset: int) -> tuple[int, int]:
        line = bisect_right(self._starts, offset)
        return line, len(self._text[self._starts[line - 1] : offset].decode(errors="replace")) + 1

    def add(
        self,
        offset: int,
        code: str,
        message: str,
        remedy: str,
        *,
        severity: Literal["error", "warning", "note"] = "error",
    ) -> None:
        line, column = self.place(offset)
        self.findings.append(
            Finding(
                line=line, column=column, code=code, message=message, remedy=remedy, severity=severity, **self._whose
            )
        )

    def warn(self, offset: int, code: str, message: str, remedy: str) -> None:
        self.add(offset, code, message, remedy, severity="warning")


@dataclass(slots=True)
class _Compiler:
    """One pass over the tokens. `open` are the elements whose end tag has not come, loosely: authors leave some out."""

    text: bytes
    report: Report
    out: list[Piece] = field(default_factory=list)
    slots: list[Slot] = field(default_factory=list)
    last: int = 0  # everything before it is written
    open: list[bytes] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)  # "doctype", "html", "head", "body", "charset"
    holes: set[str] = field(default_factory=set)
    slot: Slot | None = None  # the one whose placeholder is being read
    slot_at: int = 0
    slot_from: int = 0
    place: dict[str, Any] = field(default_factory=dict)  # what the slot is told of where it stands
    nested: int = 0  # <bff-fragment> open in it, which is an error
    malformed: bool = False  # said already
    unsound: set[int] = field(default_factory=set)  # slots whose attributes could not be read
    slot_depth: int = 0
    outside: list[Piece] = field(default_factory=list)  # `out` while a placeholder is being read
    explicit: dict[str, int] = field(default_factory=dict)  # `as` → offset

    def run(self) -> None:
        for token in SOUP.finditer(self.text):
            if token.lastgroup != "text":
                self._take(token)
        if self.slot is not None:
            self.report.add(
                self.slot_at,
                "unclosed-fragment",
                "<bff-fragment> is not closed",
                "write </bff-fragment>; HTML has no <bff-fragment/>",
            )
        self._finish()
        self._name_slots()

    def _take(self, token: re.Match[bytes]) -> None:
        whole, offset = token[0], token.start()
        if token["raw"]:
            self._raw(token)
        elif token["name"]:
            name = token["name"].lower()
            if name.startswith(b"/"):
                self._end(name[1:], offset, token.end())
            else:
                self._start(name, token)
        elif token["torn"]:
            self.report.add(offset, "unclosed-tag", "the file ends inside this tag", "close the tag with >")
        elif token["bogus"] and whole[:9].lower() == b"<!doctype":
            self.seen.add("doctype")
        elif whole.startswith(b"<?"):
            self.report.add(offset, "marker", "markers are written by the gateway itself", "remove it")
        elif token["comment"] and not whole.endswith((b"-->", b"--!>", b"<!->")):
            self.report.add(offset, "unclosed-comment", "this comment is not closed", "write -->")

    # --- elements -----------------------------------------------------------------------------------------------------

    def _start(self, name: bytes, token: re.Match[bytes]) -> None:
        self._close_paragraph(name)
        text, offset = token["attributes"], token.start()
        match name:
            case b"bff-fragment":
                self._slot(token)
                return
            case b"html" | b"head" | b"body":
                self._frame(name, token)
            case b"base":
                self.report.add(offset, "base", "<base> would move every URL of every fragment", "remove it")
            case b"meta":
                self._meta(token)
            case b"link" if "canonical" in values(text).get("rel", "").lower().split():
                self._hole("canonical", token.start(), token.end())
        if text:
            self._attributes(text, offset + 1 + len(name), name)
        if self.slot is not None and (name in _CONTROLS or (name == b"a" and "href" in values(text))):
            self._control(name, offset)
        if (
            html_rule(name).kind not in {"void", "meta", "link"}
            and name != b"base"
            and not self._self_closed(name, token)
        ):
            self.open.append(name)

    def _self_closed(self, name: bytes, token: re.Match[bytes]) -> bool:
        return token[0].endswith(b"/>") and not {b"svg", b"math"}.isdisjoint((name, *self.open))

    def _control(self, name: bytes, offset: int) -> None:
        message = f"<{name.decode()}> in a placeholder loses the focus when the fragment arrives"
        self.report.warn(offset, "focus-in-placeholder", message, "leave controls and links to the fragment")

    def _close_paragraph(self, name: bytes) -> None:
        """A block ends an open <p>, end tag or not (section 13.2.6.4.7)."""
        if html_rule(name).forbid & _P and self._in_paragraph():
            del self.open[len(self.open) - 1 - self.open[::-1].index(b"p") :]

    def _in_paragraph(self) -> bool:
        for name in reversed(self.open):
            if name in _BORDERS:
                return False
            if name == b"p":
                return True
        return False

    def _end(self, name: bytes, offset: int, end: int) -> None:
        if name == _TAG:
            self._end_slot(offset, end)
        elif name == b"head":
            self._end_head(offset)
        elif name == b"body":
            self._hole("body", offset, offset)
        if name in self.open and (self.slot is None or name in self.open[self.slot_depth :]):
            del self.open[len(self.open) - 1 - self.open[::-1].index(name) :]

    def _frame(self, name: bytes, token: re.Match[bytes]) -> None:
        self.seen.add(name.decode())
        if name == b"body":
            self._end_head(token.start())  # the end tag of <head> may be left out
        if name != b"html":
            return
        for attribute in attributes(token["attributes"]):
            if attribute.name == "lang" and attribute.value == "{locale}":
                start = self.text.index(b"{locale}", token.start("attributes") + attribute.offset)
                self._cut(start, start + len(b"{locale}"), Hole("lang"))

    def _end_head(self, offset: int) -> None:
        if "head" in self.holes:
            return
        if "title" not in self.holes:
            self.report.warn(offset, "no-title", "the page has no <title>", "write one; a primary's own replaces it")
        for key in ("title", "canonical", "head"):
            self._hole(key, offset, offset)

    def _raw(self, token: re.Match[bytes]) -> None:
        name, text, offset = token["raw"].lower(), token["rawattributes"], token.start()
        if token["close"] is None:
            message = f"<{name.decode()}> is not closed"
            self.report.add(offset, "unclosed-element", message, f"write </{name.decode()}>")
        for found in _SLOT.finditer(token["content"]):
            self._misplaced(token.start("content") + found.start(), f"inside <{name.decode()}>")
        self._attributes(text, token.end("raw"), name)
        if name in {b"script", b"style"}:
            self._nonce(name, token)
        elif name == b"title" and b"svg" not in self.open and self.slot is None:
            self._hole("title", offset, token.end())
            self._hole("canonical", token.end(), token.end(), empty=True)
        elif name in _CONTROLS and self.slot is not None:
            self._control(name, offset)

    def _nonce(self, name: bytes, token: re.Match[bytes]) -> None:
        has = values(token["rawattributes"])
        if name == b"script" and "src" in has and not {"async", "defer"} & has.keys() and has.get("type") != "module":
            message = "this script stops the page until it has arrived"
            self.report.warn(token.start(), "blocking-script", message, "add async, defer or type=module")
        self._cut(
            token.start(), token.end("rawattributes"), *nonced(b"<" + token["raw"], token["rawattributes"], late=False)
        )

    def _attributes(self, text: bytes, start: int, name: bytes) -> None:
        for attribute in attributes(text):
            offset = start + attribute.offset
            if "<bff-fragment" in attribute.value.lower():
                self._misplaced(offset, f"inside an attribute of <{name.decode()}>")
            if attribute.name == "style":
                message = "the page's Content-Security-Policy blocks style attributes"
                self.report.warn(offset, "inline-style", message, "use a class, and a rule in a <style> or style sheet")
            elif attribute.name.startswith("on"):
                message = f"the page's Content-Security-Policy blocks {attribute.name}="
                self.report.warn(offset, "inline-handler", message, "add the listener in a script")

    def _misplaced(self, offset: int, where: str) -> None:
        self.report.add(offset, "misplaced-fragment", f"<bff-fragment> {where} is text, not a slot", "move it out")

    def _meta(self, token: re.Match[bytes]) -> None:
        has = values(token["attributes"])
        if "charset" in has or ("charset" in has.get("content", "") and "http-equiv" in has):
            self.seen.add("charset")
        elif has.get("http-equiv", "").lower() == "refresh":
            self.report.add(
                token.start(), "meta-refresh", "meta refresh reloads the whole page", 'use refresh="30s" on a slot'
            )
        elif (key := meta_key(has)).startswith("meta:"):
            self._hole(key, token.start(), token.end())

    # --- holes and slots ----------------------------------------------------------------------------------------------

    def _cut(self, start: int, end: int, *pieces: Piece) -> None:
        self.out += [self.text[self.last : start], *pieces]
        self.last = end

    def _hole(self, key: str, start: int, end: int, *, empty: bool = False) -> None:
        """A hole once per page, where its element stands; `empty`: only if the page has none of its own further on."""
        if key in self.holes or self.slot is not None or (empty and self._canonical_follows(end)):
            return
        self.holes.add(key)
        self._cut(start, end, Hole(key, self.text[start:end]))

    def _canonical_follows(self, offset: int) -> bool:
        return re.search(rb"<link[^>]*\bcanonical\b", self.text[offset:], re.IGNORECASE) is not None

    def _slot(self, token: re.Match[bytes]) -> None:
        offset = token.start()
        if self.slot is not None:
            self.nested, self.malformed = self.nested + 1, True
            message = "<bff-fragment> inside the placeholder of another"
            self.report.add(offset, "nested-fragment", message, "close the outer one first; fragments nest by `embeds`")
            return
        slot, problems = read(attributes(token["attributes"]))
        for problem in problems:
            self.report.add(token.start("attributes") + problem.offset, problem.code, problem.message, problem.remedy)
            self.unsound.add(len(self.slots) + 1)
        self._context(slot, offset)
        if slot.key:
            if slot.key in self.explicit:
                self.report.add(offset, "duplicate-as", f'as="{slot.key}" is taken', "name each slot differently")
            self.explicit[slot.key] = offset
        line, column = self.report.place(offset)
        self.slot = slot
        self.place = {"in_form": b"form" in self.open, "line": line, "column": column}
        self.slot_at, self.slot_from, self.slot_depth, self.nested = offset, token.end(), len(self.open), 0
        self.malformed = False
        self.out.append(self.text[self.last : offset])
        self.outside, self.out, self.last = self.out, [], token.end()

    def _context(self, slot: Slot, offset: int) -> None:
        if slot.kind == "primary":
            if b"template" in self.open:
                self.report.add(offset, "primary-in-template", "the primary is inside <template>", "move it out")
            if any(other.kind == "primary" for other in self.slots):
                self.report.add(offset, "two-primaries", "the page has a primary already", "keep one")
        if self._in_paragraph():
            self.report.warn(
                offset, "fragment-in-paragraph", "a slot inside <p> is torn out by the first block in it", "use <div>"
            )
        for name in ("a", "button"):
            if name.encode() in self.open:
                message = f"a slot inside <{name}> is torn out by another <{name}> in it"
                self.report.warn(offset, "fragment-in-link", message, "put the link into the fragment")
        if "body" in self.holes:
            message = "a slot after </body> holds up the end of the page"
            self.report.warn(offset, "fragment-after-body", message, "move it before </body>")
        if slot.wrap and self.open and self.open[-1] in _NO_WRAPPER:
            where = self.open[-1].decode()
            self.report.add(offset, "wrapper-not-allowed", f"HTML allows no wrapper in <{where}>", 'add wrap="none"')

    def _end_slot(self, offset: int, end: int) -> None:
        if self.slot is None:
            self.report.add(offset, "stray-end-tag", "</bff-fragment> closes nothing", "remove it")
            return
        if self.nested:
            self.nested -= 1
            return
        inside = merge([*self.out, self.text[self.last : offset]])
        if not self.malformed and walk(self.text[self.slot_from : offset]) is None:
            message = "the placeholder is not well-formed HTML on its own"
            self.report.add(
                self.slot_at, "malformed-placeholder", message, "write every end tag, and nothing for the page's head"
            )
        del self.open[self.slot_depth :]
        placeholder = tuple(piece for piece in inside if not isinstance(piece, Slot))
        slot = replace(self.slot, index=len(self.slots) + 1, placeholder=placeholder, **self.place)
        after = "body" in self.holes
        if after and slot.kind == "optional":  # a marker there would be outside of <body>, and never filled
            slot = replace(slot, kind="core")
        self.slots.append(slot)
        self.outside.append(slot)
        self.out, self.last, self.slot = self.outside, end, None
        if after:  # the page ends behind it
            self.out = [piece for piece in self.out if not (isinstance(piece, Hole) and piece.key == "body")]
            self._cut(end, end, Hole("body"))

    def _finish(self) -> None:
        missing = [name for name in ("doctype", "html", "head", "body") if name not in self.seen]
        if missing:
            tags = ", ".join("<!doctype html>" if name == "doctype" else f"<{name}>" for name in missing)
            self.report.add(0, "incomplete-page", f"the page has no {tags}", _LAYOUT)
        if "charset" not in self.seen:
            message, remedy = "the page has no <meta charset>", "a copy saved as a file wants it, first in <head>"
            self.report.add(0, "no-charset", message, remedy, severity="note")  # the Content-Type says it, too
        self._hole("body", len(self.text), len(self.text))
        self.out.append(self.text[self.last :])

    def _name_slots(self) -> None:
        """`as` where it is given; else the fragment's name, numbered where it is taken."""
        taken = set(self.explicit)
        named: dict[int, Slot] = {}
        for slot in self.slots:
            key = slot.key or default_key(slot.fragment, taken)
            taken.add(key)
            named[slot.index] = slot if slot.key else replace(slot, key=key)
        self.slots = list(named.values())
        self.out = [named[piece.index] if isinstance(piece, Slot) else piece for piece in self.out]
