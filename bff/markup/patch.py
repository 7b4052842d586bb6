"""HTML's own partial update as bytes: the wrapper of a slot, its marker, and the template that fills it later.

Pure. The wire format is the project's contract (§3): Chromium applies it natively, `static/bff.js` elsewhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape
from typing import Final

from bff.model import Hole, Markup, Slot
from bff.units import duration

CLOSE: Final = b"</bff-fragment>"
MARK_END: Final = b"<?end>"
NONCE_START: Final = b' nonce="'
PATCH_END: Final = b"</template><wbr hidden>"


@dataclass(frozen=True, slots=True)
class Wrapper:
    """The constant bytes of one slot's wrapper, made when its page is compiled."""

    start: bytes  # <bff-fragment name="…" data-slot="s2" state="
    end: bytes  # attributes of the author's and ">"
    loading: bytes  # the whole start tag of the placeholder
    fresh: bytes  # the whole start tag of an answer that did not come from the store
    load: bytes  # ` load="visible"` where the browser fetches it
    again: bool  # the browser may ask again, so it is always told where
    link: bool  # a click loads it, and its placeholder holds nothing that could be clicked

    def open(
        self,
        state: str,
        *,
        age: float | None = None,
        src: str = "",
        retry_after: int | None = None,
        task: str = "",
        following: str = "",
    ) -> bytes:
        """The start tag for an outcome; `src` is where to fetch it, `task` what `pending` waits for; `omitted` is hidden;
        `following` is a list's next page.
        """
        if state == "fresh" and age is None and not following and not src:
            return self.fresh
        out = self.start + state.encode() + b'"'
        if age is not None:
            out += b' age="%d"' % age
        if src:
            out += b' src="' + escape(src).encode() + b'"'
        if state == "pending":
            out += self.load
            if task:
                out += b' task="' + escape(task).encode() + b'"'
            if retry_after is not None:
                out += b' retry-after="%d"' % retry_after
        if following:
            out += b' next="' + escape(following).encode() + b'"'
        if state == "omitted":
            out += b" hidden"
        return out + self.end


_ACTIVE: Final = re.compile(
    rb"<(?:a|button|input|select|textarea|label|summary|iframe|audio|video)\b", re.IGNORECASE
).search
"""What may not stand in a link (HTML: interactive content)."""


def wrapper(slot: Slot, number: str) -> Wrapper:
    """The wrapper of a slot that is `number` on its page (`s2`)."""
    start = f'<bff-fragment name="{escape(slot.fragment)}" data-slot="{number}" state="'.encode()
    end = f"{_moving(slot)}{slot.attributes}>".encode()
    load = b"" if slot.load == "stream" else f' load="{slot.load}"'.encode()
    return Wrapper(
        start=start,
        end=end,
        loading=start + b'loading" aria-busy="true"' + end,
        fresh=start + b'fresh"' + end,
        load=load,
        again=bool(slot.refresh or slot.live or ' id="' in slot.attributes),  # a page's script finds it by its id
        link=slot.load == "click" and not any(isinstance(each, bytes) and _ACTIVE(each) for each in slot.placeholder),
    )


def _moving(slot: Slot) -> str:
    """What the browser heeds once the slot is there, in all its states; `refresh` in seconds."""
    more = f' more="{slot.more}"' if slot.more else ""
    refresh = f' refresh="{duration(slot.refresh):g}s"' if slot.refresh else ""
    return f"{more}{refresh}{' live' if slot.live else ''}"


def mark(number: str, suffix: str) -> bytes:
    return f'<?start name="{number}.{suffix}">'.encode()


def patch(number: str, suffix: str) -> bytes:
    return f'<template for="{number}.{suffix}">'.encode()


def reserve_rule(number: str, height: str) -> str:
    """The style rule that holds a slot's height until it arrives, and contains its margins when it has."""
    return f"bff-fragment[data-slot={number}]:not([hidden]){{display:flow-root;min-height:{height}}}"


def bare(markup: Markup) -> list[bytes | Slot]:
    """A fragment's markup as it goes out by itself: no nonce attributes; embedded slots are left to the caller."""
    if markup.flat is not None:
        return [markup.flat]
    out: list[bytes | Slot] = []
    parts = [part for part in markup.parts if not isinstance(part, Hole) or part.key == "nonce"]
    for at, part in enumerate(parts):
        if isinstance(part, Hole):
            continue
        if isinstance(part, bytes):
            start = 1 if at and isinstance(parts[at - 1], Hole) else 0  # the quote that closes the nonce
            end = len(NONCE_START) if at + 1 < len(parts) and isinstance(parts[at + 1], Hole) else 0
            out.append(part[start : len(part) - end])
        else:
            out.append(part)
    return out


def link(href: str, rel: str, text: str) -> bytes:
    """A link of the gateway's own, beside what a fragment wrote."""
    return f'<a rel="{rel}" href="{escape(href)}">{escape(text)}</a>'.encode()


_BAR: Final = (
    ".bff-whole{display:none;position:sticky;bottom:0;z-index:9999;padding:.75em;text-align:center;background:Canvas;color:CanvasText}"
    "body:has(bff-fragment[state=loading])>.bff-whole{display:block}"
)


def unfilled(href: str, nonce: str) -> bytes:
    """For who can neither fill markers nor run scripts: where the page is whole. It shows where a slot is still loading then."""
    bar = f'<style nonce="{nonce}">{_BAR}</style>Parts of this page are missing here. '
    return f'<noscript class="bff-whole">{bar}{link(href, "nofollow", "Show all of it").decode()}</noscript>'.encode()


def sandbox(fragment: str, src: str) -> bytes:
    """A sandboxed fragment: a document of its own, without our origin, asked for at the fragment endpoint."""
    return f'<iframe sandbox="allow-scripts" src="{escape(src)}" title="{escape(fragment)}"></iframe>'.encode()
