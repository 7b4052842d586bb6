"""Verdicts by shape: what most answers of a fragment differ in is their text, and text alone changes no verdict.

Owns the memory of shapes. A body's shape is the body without the text between its tags; `walk` judges, and of two bodies
with one shape the second for both, where text can make no difference. Knows nothing of responses.
"""

from __future__ import annotations

import re
from typing import Final

from bff.markup.tokens import TOKEN
from bff.markup.walk import Found, readable, walk

ENTRIES: Final = 1024
LONGEST: Final = 8192  # bytes of a shape that is remembered
_BETWEEN: Final = re.compile(rb">[^<]++<")

_Key = tuple[bytes, tuple[str, ...]]


class Shapes:
    """At most `ENTRIES` shapes with what was found in a body of each; of one that was met once only that."""

    def __init__(self) -> None:
        self._known: dict[_Key, Found | None] = {}

    def judge(self, body: bytes, embeds: tuple[str, ...]) -> Found | None:
        """As `walk`, in a fifth of the time where bodies of this shape have come before."""
        last = body.rfind(b"<") + 1  # up to there, every `>` is followed by a `<`: the search is linear
        shape = _BETWEEN.sub(b"><", body[:last]) + body[last:]
        key = shape, embeds
        found = self._known.get(key)
        if found is not None:
            return found if readable(body) else None
        found = walk(body, embeds)
        if found is not None and len(shape) <= LONGEST:
            met = key in self._known  # learning a shape costs as much as a walk: not for one that comes once
            if len(self._known) >= ENTRIES:
                self._known.clear()
            self._known[key] = found if met and _free(shape, found) else None
        return found


def _free(shape: bytes, found: Found) -> bool:
    """Whether text between the tags of an accepted body of this shape makes no difference, in place and to its tokens.

    Where each `<` begins a tag or comment of its own, each of those ends at its only `>`: so they are whole whatever
    stands between them. Not so in raw text elements, and between the parts of a table.
    """
    if found.texts:
        return False
    tokens = TOKEN.findall(shape)
    return len(tokens) == shape.count(b"<") and not any(token[0] or token[5] for token in tokens)
