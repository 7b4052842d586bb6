"""Mends fragments that the check refuses: read as a browser would read them, then written so that the check accepts them.

Two steps. A real HTML parser (lexbor) gives the tree that a browser would build, or nh3 the part of it that is allowed to
contexts that are not trusted. Whatever comes out, or the bytes themselves where parsing them could be made to cost far
more than their size, is then balanced: one linear pass that closes what is open and leaves out what the rules of `walk`
forbid where it stands. Only importer of selectolax and nh3.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import nh3
from selectolax.lexbor import LexborDocumentOptions, LexborHTMLParser

from bff.markup.pieces import assemble
from bff.markup.tokens import (
    FLOW,
    FOREIGN,
    SOUP,
    TOKEN_OR_TEXT,
    Rule,
    attributes,
    html_rule,
)
from bff.markup.walk import DEPTH, Found, Token, look, top, walk
from bff.model import Markup, Trust

_DOCUMENT: Final = re.compile(rb"(?is)\s*+(?:<!--.*?-->\s*+)*+<(?:!doctype|html|head|body)(?=[\s/>])")
_FORMATTING: Final = frozenset(b"a b big code em font i nobr s small strike strong tt u".split())
_CLOSE_EACH_OTHER: Final = frozenset(b"p li dd dt option tr td th tbody thead tfoot".split())
_CLOSABLE: Final = _CLOSE_EACH_OTHER | frozenset(
    b"a button caption colgroup h1 h2 h3 h4 h5 h6 nobr optgroup rb rp rt rtc".split()
)
_WITH_CONTENT: Final = frozenset({b"template", b"bff-fragment"})  # left out, content and all
_PLAIN: Final = re.compile(rb"/?[A-Za-z][A-Za-z0-9.:_-]*")
_NAME: Final = re.compile(r"[^\t\n\f\r \"'<>/=\0]+")
_TAGS: Final = frozenset(nh3.ALLOWED_TAGS) | {"main", "section"}
_SCHEMES: Final = {"http", "https", "mailto", "tel"}

_DROPPED: Final = 1 << 30  # a fact beside those of `Open`: the content is left out
_WORK: Final = 10_000_000  # steps that a parser may be made to walk up its stack: a twentieth of a second
_COPIES: Final = 100_000  # formatting elements that it may be made to open again: a tenth of a second

BOM: Final = "\ufeff"  # at its start it would be a byte order mark, to whoever decodes the body by itself
_REFERENCES: Final = 50_000  # nh3's time grows with the square of these in one text: below half a second
_FEW: Final = 300  # tags that cannot be made to cost much


def repaired(body: bytes, *, trust: Trust, embeds: tuple[str, ...], head: bool) -> Markup:
    """The body, made to satisfy the check. Linear in its size; never raises; text that cannot be kept is left out."""
    text = body.decode(errors="replace").lstrip(BOM).replace("\0", "\ufffd").encode()
    if trust == "sanitized":
        text = _sanitized(balanced(text))
    else:
        text, affordable = _weighed(text)
        if affordable:
            text = _parsed(text)
    found = walk(text, embeds)  # what a parser writes is well-formed nearly always
    if found is None:
        text = balanced(text, embeds)
        found = walk(text, embeds)
    if found is None:  # pragma: no cover - a defect in `balanced`; nothing of the body is then safe to write
        return Markup(parts=(), flat=b"", repaired=True)
    return assemble(text, found, head=head, repaired=text != body)


def _sanitized(text: bytes) -> bytes:
    if text.count(b"&") > _REFERENCES:
        text = text.replace(b"&", b"+")
    allowed = {tag: set(names) for tag, names in nh3.ALLOWED_ATTRIBUTES.items()}
    allowed["*"] = {"lang", "title", "dir", "class"}
    return nh3.clean(text.decode(), tags=set(_TAGS), attributes=allowed, url_schemes=_SCHEMES).encode()


# --- what a browser would build ---------------------------------------------------------------------------------------


def _parsed(text: bytes) -> bytes:
    """The tree that a browser builds, written out: of a whole document its body, with the head's own elements before it."""
    options = LexborDocumentOptions.WO_EVENTS
    if not _DOCUMENT.match(text):
        return (LexborHTMLParser(text, is_fragment=True, fragment_tag="template", options=options).html or "").encode()
    document = LexborHTMLParser(text, options=options)
    kept = document.css("head > title, head > meta, head > link[rel~=canonical]")
    inner = document.body.inner_html if document.body else ""
    return "".join([*(node.html or "" for node in kept), inner or ""]).encode()


def _has_end(name: bytes) -> bool:
    return html_rule(name).kind not in {"void", "meta", "link"}


def _weighed(text: bytes) -> tuple[bytes, bool]:
    """The body without a script that it never ends, and whether parsing it costs about what its size suggests.

    Browsers' error handling opens formatting elements again after every block and walks up the open elements on every
    tag, so a few hundred KiB of the right tags become millions of elements. Then it is balanced as it stands.
    """
    if text.count(b"<") <= _FEW and text.lower().rfind(b"<script") <= text.lower().rfind(b"</script"):
        return text, True
    weight = _Weight()
    for token in SOUP.finditer(text):
        if token["raw"] and token["close"] is None and token["raw"].lower() == b"script":
            text = text[: token.start()]
            break
        weight.take(token)
    return text, weight.deepest * weight.tags <= _WORK and weight.widest * weight.tags <= _COPIES


@dataclass(slots=True)
class _Weight:
    """What a body could make a parser do, at most: only the end tag of the innermost element counts as closing one."""

    open: list[bytes] = field(default_factory=list)
    tags: int = 0
    width: int = 0  # open formatting elements
    deepest: int = 0
    widest: int = 0
    foreign: bool = False  # svg and math read raw text elements as markup

    def take(self, token: re.Match[bytes]) -> None:
        hidden = token[0].count(b"<") - 1
        self.tags += 1 + max(hidden, 0)
        name = (token["name"] or b"").lower()
        self.foreign = self.foreign or name in {b"svg", b"math"}
        if hidden > 0 and (token[0].startswith(b"<![") or (token["raw"] and self.foreign)):
            self.open += [b""] * hidden
            self.width += hidden
        elif self.open and name == b"/" + self.open[-1]:
            self.width -= self.open.pop() in _FORMATTING
        elif name and name[:1] != b"/" and name not in _CLOSE_EACH_OTHER and _has_end(name):
            self.open.append(name)
            self.width += name in _FORMATTING
        self.deepest, self.widest = max(self.deepest, len(self.open)), max(self.widest, self.width)


# --- one linear pass that the check accepts ---------------------------------------------------------------------------


def balanced(text: bytes, embeds: tuple[str, ...] = ()) -> bytes:
    """Any UTF-8 without NUL as bytes that `walk` accepts: tags closed in order, what is forbidden left out."""
    strict = b"".join(_strict(text))
    matches = list(TOKEN_OR_TEXT.finditer(strict))
    tokens: list[Token] = TOKEN_OR_TEXT.findall(strict)
    balance = _Balance(tokens, embeds)
    for index, match in enumerate(matches):
        balance.take(index, match[0])
    balance.close(len(balance.stack))
    return b"".join(balance.out).decode().lstrip(BOM).encode()  # what stood before them may have been left out


def _strict(text: bytes) -> Iterator[bytes]:
    """Every token in a form that needs no error handling; what has none is left out."""
    for token in SOUP.finditer(text):
        whole = token[0]
        if token["text"]:
            yield whole.replace(b"<", b"&lt;")
        elif b"</noscript" in whole[1:].lower():  # would end the element around it, where scripts are on
            if token["name"]:
                yield _tag(token["name"], token["attributes"])
        elif token["raw"]:
            if token["close"]:
                raw = token["raw"]
                yield _tag(raw, token["rawattributes"]) + _content(raw, token["content"]) + b"</" + raw + b">"
        elif token["name"]:
            yield whole if _is_token(whole) else _tag(token["name"], token["attributes"])
        elif token["comment"] and _is_token(whole):
            yield whole


def _is_token(text: bytes) -> bool:
    match = TOKEN_OR_TEXT.match(text)
    return match is not None and match.end() == len(text) and not match[6]


def _content(raw: bytes, content: bytes) -> bytes:
    """A script that could hide its own end tag loses the sequence that begins that."""
    return (
        content.replace(b"<!--", b"<\\!--") if raw.lower() == b"script" and b"<script" in content.lower() else content
    )


def _tag(name: bytes, text: bytes) -> bytes:
    """A tag with every attribute named once, quoted and escaped; nothing where its name is not a plain one."""
    if not _PLAIN.fullmatch(name):
        return b""
    if name.startswith(b"/"):
        return b"<" + name + b">"
    kept = {a.name: a.value for a in reversed(attributes(text)) if _NAME.fullmatch(a.name)}
    written = [f' {n}="{_escaped(v)}"' for n, v in reversed(kept.items())]
    return b"<" + name + "".join(written).encode() + b">"


def _escaped(value: str) -> str:
    return value.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")


@dataclass(slots=True, frozen=True)
class _Entry:
    """An open element, and the facts that held before it; without `end` its tags are left out and its content is not."""

    name: bytes
    end: bytes
    context: int


@dataclass(slots=True)
class _Balance:
    """The open elements while tokens are taken in turn."""

    tokens: list[Token]
    embeds: tuple[str, ...]
    out: list[bytes] = field(default_factory=list)
    stack: list[_Entry] = field(default_factory=list)
    opened: Counter[bytes] = field(default_factory=Counter)
    depth: int = 0
    context: int = FLOW
    found: Found = field(default_factory=Found)

    def __post_init__(self) -> None:
        self.context = top(self.tokens, 0)

    def take(self, index: int, text: bytes) -> None:
        name, attributes_, slash = self.tokens[index][2:5]
        if name.startswith(b"/"):
            self._end(name[1:].lower())
        elif not name:
            if not self.context & _DROPPED and self._rule(index):
                self.out.append(text)
        else:
            if slash and not self.context & FOREIGN and name.lower() not in {b"svg", b"math"}:
                text, slash = text[:-2] + b">", b""
                self.tokens[index] = (b"", b"", name, attributes_, b"", b"")
            self._start(index, name.lower(), text)

    def _start(self, index: int, name: bytes, text: bytes) -> None:
        rule = self._rule(index) if not self.context & _DROPPED else None
        if rule is None and not self.context & (_DROPPED | FOREIGN) and (count := self._closable(name)):
            self.close(count)
            rule = self._rule(index)
        if rule is not None and rule.kind == "void":
            self.out.append(text)
        elif rule is not None and self.depth < DEPTH:
            self.out.append(text)
            self._push(_Entry(name, rule.end, self.context), self.context & rule.keep | rule.add)
        elif _has_end(name) or self.context & FOREIGN:
            self._push(_Entry(name, b"", self.context), self.context | (_DROPPED if name in _WITH_CONTENT else 0))

    def _rule(self, index: int) -> Rule | None:
        return look(self.tokens, index, self.context, self.found, self.embeds, outermost=not self.stack)

    def _closable(self, name: bytes) -> int:
        """How many open elements, of those whose end tag may be left out, stand in the way of this one."""
        forbid = html_rule(name).forbid
        for count, entry in enumerate(reversed(self.stack), 1):
            if entry.name not in _CLOSABLE or not entry.end:
                return 0
            if not entry.context & forbid:
                return count
        return 0

    def _push(self, entry: _Entry, context: int) -> None:
        self.stack.append(entry)
        self.opened[entry.name] += 1
        self.depth += bool(entry.end)
        self.context = context

    def _end(self, name: bytes) -> None:
        if self.opened[name]:
            self.close(next(n for n, entry in enumerate(reversed(self.stack), 1) if entry.name == name))

    def close(self, count: int) -> None:
        """End the innermost `count` elements."""
        for _ in range(count):
            entry = self.stack.pop()
            self.opened[entry.name] -= 1
            self.context = entry.context
            if entry.end:
                self.depth -= 1
                self.out.append(b"<" + entry.end + b">")
