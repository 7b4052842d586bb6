"""Which elements are open at a place of a shell: decides where a late template may be written. Pure.

A template is applied only where its parent is an ancestor of its marker (measured in Chromium). Shells are checked when
they load, so counting start and end tags is enough; an element whose end tag is left out counts as open until its
parent ends, which can only make a template wait longer than it had to.
"""

from __future__ import annotations

import re
from typing import Final

_TAG: Final = re.compile(
    rb"<!--.*?-->|<(script|style|textarea|title)\b[^>]*>.*?</\1\s*>|<(/?)([a-zA-Z][^\s/>]*)(?:\"[^\"]*\"|'[^']*'|[^'\">])*>",
    re.DOTALL | re.IGNORECASE,
)
_VOID: Final = frozenset(b"area base br col embed hr img input link meta param source track wbr".split())


class Elements:
    """A stack of open elements, fed with markup from the document's start."""

    def __init__(self) -> None:
        self._stack: list[tuple[bytes, int]] = []
        self._count = 0
        self._rest = b""

    def feed(self, markup: bytes) -> None:
        """Read more of the document; a tag cut by a hole (a nonce in an attribute) is read when it is complete."""
        text = self._rest + markup
        cut = text.rfind(b"<")
        self._rest = text[cut:] if cut >= 0 and b">" not in text[cut:] else b""
        for match in _TAG.finditer(text, 0, len(text) - len(self._rest)):
            name = match[3]
            if name is not None:
                self._see(name.lower(), closing=bool(match[2]))

    def _see(self, name: bytes, *, closing: bool) -> None:
        if not closing:
            if name not in _VOID:
                self._count += 1
                self._stack.append((name, self._count))
            return
        for at in range(len(self._stack) - 1, -1, -1):
            if self._stack[at][0] == name:
                del self._stack[at:]
                return

    @property
    def open(self) -> tuple[int, ...]:
        return tuple(number for _, number in self._stack)
