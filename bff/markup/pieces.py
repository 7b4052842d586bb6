"""An accepted body as `Markup`: nonces into scripts and styles, `async` onto scripts that would hold up the page's parser,
the page's head elements taken out, embedded fragments cut to slots.

Trusts `walk`: judges nothing itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from bff.markup.slots import default_key
from bff.markup.tokens import SPACE, START, TOKEN, TOKEN_OR_TEXT, attributes
from bff.markup.walk import Found
from bff.model import BARE, FORMED, NONCE, WRAPPED, Hole, Markup, Slot

Piece = bytes | Hole | Slot


def assemble(body: bytes, found: Found, *, head: bool, repaired: bool) -> Markup:
    """`head`: the title, meta elements and canonical link at its top are kept for the page's head, not dropped."""
    if not found.special:
        parts: tuple[Piece, ...] = (body,) if body else ()
        return Markup(parts=parts, flat=body, repaired=repaired, unfit=_unfit(found))
    cut = _Cut(body, found, list((TOKEN_OR_TEXT if found.texts else TOKEN).finditer(body)))
    parts = merge(cut.pieces(0, len(body), list(found.special)))
    return Markup(
        parts=parts,
        flat=_flat(parts),
        head=cut.head if head else {},
        repaired=repaired,
        unfit=_unfit(found),
    )


def _unfit(found: Found) -> int:
    """The places that it would break."""
    return (WRAPPED if found.tabular else 0) | (FORMED if found.form else 0) | (BARE if found.rooted else 0)


def _flat(parts: tuple[Piece, ...]) -> bytes | None:
    match parts:
        case ():
            return b""
        case (bytes() as only,):
            return only
        case _:
            return None


def merge(pieces: Iterable[Piece]) -> tuple[Piece, ...]:
    """No empty bytes, and no two bytes side by side."""
    merged: list[Piece] = []
    run: list[bytes] = []
    for piece in pieces:
        if isinstance(piece, bytes):
            run.append(piece)
            continue
        if joined := b"".join(run):
            merged.append(joined)
        run.clear()
        merged.append(piece)
    if joined := b"".join(run):
        merged.append(joined)
    return tuple(merged)


@dataclass(slots=True)
class _Cut:
    body: bytes
    found: Found
    tokens: Sequence[re.Match[bytes]]
    head: dict[str, bytes] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)
    count: int = 0

    def pieces(self, start: int, end: int, indexes: Sequence[int]) -> list[Piece]:
        """The body from `start` to `end`, rewritten at the tokens of `indexes`."""
        out: list[Piece] = []
        last = start
        for index in indexes:
            token, what = self.tokens[index], self.found.special[index]
            if token.start() < last:
                continue  # inside an embedded fragment's placeholder, written with it
            out.append(self.body[last : token.start()])
            if isinstance(what, Slot):
                slot, last = self._embed(index, what, indexes)
                out.append(slot)
            elif what == "nonce":
                match = START.match(self.body, token.end(1))
                text = match[0] if match else b""
                out += nonced(b"<" + token[1], text, late=token[1].lower() == b"script")
                last = token.end(1) + len(text)
            else:
                last = token.end()
                if what != "drop":
                    self.head.setdefault(what, token[0])
        out.append(self.body[last:end])
        return out

    def _embed(self, index: int, slot: Slot, indexes: Sequence[int]) -> tuple[Slot, int]:
        """The slot with its placeholder, and where its end tag ends; embedded fragments never nest."""
        close = next(
            i for i in range(index, len(self.tokens)) if (self.tokens[i][3] or b"").lower() == b"/bff-fragment"
        )
        start, end = self.tokens[index].end(), self.tokens[close].start()
        inner = merge(self.pieces(start, end, [i for i in indexes if index < i < close]))
        self.count += 1
        key = slot.key if slot.key and slot.key not in self.keys else default_key(slot.fragment, self.keys)
        self.keys.add(key)
        placeholder = tuple(piece for piece in inner if not isinstance(piece, Slot))
        linked = replace(slot, index=self.count, key=key, kind="optional", placeholder=placeholder)
        return linked, self.tokens[close].end()


def nonced(opening: bytes, text: bytes, *, late: bool) -> list[Piece]:
    """A script's or style's start tag with the response's nonce, up to its `>`: `opening` is `<script`, `text` its attributes.

    The nonce stands first, where it counts. `late`: a classic script with `src` would stop the parser, and a module wait
    for the end of the stream; async makes them wait for nothing.
    """
    found = attributes(text)
    has = {a.name: a.value.strip().lower() for a in reversed(found)}
    if "nonce" in has:
        ends = [a.offset for a in found[1:]] + [len(text)]
        kept = [text[a.offset : end].strip(SPACE) for a, end in zip(found, ends, strict=True) if a.name != "nonce"]
        text = b"".join(b" " + one for one in kept)
    if late and "async" not in has and ("src" in has or has.get("type") == "module"):
        text = text.rstrip(SPACE) + b" async"
    return [opening + b' nonce="', NONCE, b'"' + text]
