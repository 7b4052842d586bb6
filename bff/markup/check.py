"""The check that every fragment passes before it is written: a verdict that costs microseconds, remembered by its bytes.

Owns the memory of verdicts. Judging is `shapes` and `walk`, rewriting `pieces`, mending `repair`; this puts them together. Knows
nothing of responses: what differs between them is a hole in the `Markup`, which is shared.
"""

from __future__ import annotations

import threading
from typing import Final

from bff.markup.pieces import assemble
from bff.markup.repair import repaired
from bff.markup.shapes import Shapes
from bff.model import Markup, Trust

_Key = tuple[bytes, str, tuple[str, ...], bool]

_OVERHEAD: Final = 512  # bytes of a remembered verdict beside its body and parts, roughly


class Checker:
    """Verdicts on fragments' bytes, remembered for at most `entries` bodies and `memory` bytes.

    The bodies themselves are the keys: hashing one costs a third of a cryptographic digest (0.8 against 3 µs for 2 KiB),
    equality is exact, and a body that needs no rewriting is shared with its `Markup`. Two generations: when the young one
    is full it becomes the old one, whose leftovers go; what is asked for moves on. So nothing is ever scanned.
    """

    def __init__(self, entries: int = 8192, memory: int = 64 * 1024 * 1024) -> None:
        self._entries = entries // 2
        self._memory = memory // 2
        self._young: dict[_Key, Markup] = {}
        self._old: dict[_Key, Markup] = {}
        self._held = 0
        self._lock = threading.Lock()
        self._shapes = Shapes()

    def verdict(
        self, body: bytes, *, trust: Trust = "checked", embeds: tuple[str, ...] = (), head: bool = False
    ) -> Markup | None:
        """The body as `Markup` if it is safe to write as it is, or was repaired before; None: it needs `repair`.

        Linear in the body: 10 µs a KiB where it was never seen, 3 where others of its shape were; sanitized bodies always need
        `repair` first.
        """
        key = (body, trust, embeds, head)
        markup = self._young.get(key)
        if markup is not None:
            return markup
        markup = self._old.get(key)
        if markup is None:
            found = None if trust == "sanitized" else self._shapes.judge(body, embeds)
            if found is None:
                return None
            markup = assemble(body, found, head=head, repaired=False)
        self._remember(key, markup)
        return markup

    def repair(
        self, body: bytes, *, trust: Trust = "checked", embeds: tuple[str, ...] = (), head: bool = False
    ) -> Markup:
        """The body as a browser would understand it, made safe; remembered, so that `verdict` knows it from then on.

        Milliseconds for a large body, so belongs off the event loop; safe to call from any thread. Never raises.
        """
        markup = repaired(body, trust=trust, embeds=embeds, head=head)
        self._remember((body, trust, embeds, head), markup)
        return markup

    def _remember(self, key: _Key, markup: Markup) -> None:
        size = _OVERHEAD + len(key[0]) + (0 if markup.flat is key[0] else markup.size)
        if size > self._memory:
            return
        with self._lock:
            if len(self._young) >= self._entries or self._held + size > self._memory:
                self._old, self._young, self._held = self._young, {}, 0
            self._young[key] = markup
            self._held += size
