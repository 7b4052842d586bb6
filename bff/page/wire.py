"""What a browser gets over the wire: a composition as HTML. What programs get is `forms`.

Each writer's `advance` gives the bytes that can be sent now, joined into one; it is called again whenever slots have
ended. Writers do no I/O and keep no time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from html import escape
from typing import Final, Protocol

from bff.markup.patch import CLOSE, MARK_END, PATCH_END, link, mark, patch, sandbox, unfilled
from bff.model import Hole, Markup, Outcome, Reason, Result, Slot
from bff.page.compose import Composition, Running
from bff.page.lists import onward, whole


class Writer(Protocol):
    """One form of a page."""

    media_type: bytes
    complete: bool  # everything has been written

    def advance(self) -> bytes:
        """What can be sent now; b"" where something must be waited for first."""


_TAG: Final = re.compile(r"[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*")


def language(locale: str) -> bytes:
    """The first language tag of a locale, or of an Accept-Language header that stands for one (RFC 5646); b"" for none."""
    match = _TAG.match(locale)
    return match[0].encode() if match is not None else b""


class HtmlWriter:
    """The page as HTML: in place what is there when the stream reaches it, the rest as markers and late templates."""

    media_type = b"text/html; charset=utf-8"

    def __init__(
        self,
        composition: Composition,
        *,
        nonce: str,
        suffix: str,
        ordered: bool = False,
        tail: Callable[[], bytes] | None = None,
    ) -> None:
        """`tail` gives what stands just before </body> (the overlay of `bff dev`)."""
        self._composition = composition
        self._plan = composition.planned.plan
        self._nonce = nonce.encode()
        self._suffix = suffix
        self._ordered = ordered
        self._tail = tail
        self._at = 0
        self._late: list[Running] = []
        self._marked = 0
        self._fills = False  # something is filled in late
        self._out: list[bytes] = []
        self._inside: tuple[int, ...] = ()
        self._started: dict[Running, list[Running]] = {}
        self._lang = language(composition.visit.locale)
        self.complete = False

    def advance(self) -> bytes:
        for running in self._composition.take():
            if running.marked:
                self._late.append(running)
        if self._ordered:
            self._begin_embedded()
        self._walk()
        self._patch()
        if self._marked == 0 and self._at == self._plan.body:
            self._finish()
        out = b"".join(self._out)
        self._out.clear()
        return out

    def _walk(self) -> None:
        """Write up to the first slot that must be waited for, or to where late templates go."""
        parts, out, end = self._plan.parts, self._out, self._plan.body
        slots = self._composition.slots
        for at in range(self._at, end):
            part = parts[at]
            if isinstance(part, bytes):
                out.append(part)
            elif isinstance(part, Hole):
                self._hole(part)
            elif not self._place(slots[part.index]):
                self._at, self._inside = at, part.inside
                running = slots[part.index]
                # where it has ended, it is what it embeds that is awaited
                self._composition.blocked = running if running.result is None else None
                return
        self._at, self._inside = max(self._at, end), ()
        self._composition.blocked = None

    def _hole(self, hole: Hole) -> None:
        if hole.key == "nonce":
            self._out.append(self._nonce)
        elif hole.key == "lang":
            self._out.append(self._lang)
        elif hole.key != "body":
            self._out.append(self._head_of_primary(hole))

    def _head_of_primary(self, hole: Hole) -> bytes:
        primary = self._plan.primary
        result = self._composition.slots[primary.index].result if primary is not None else None
        head: Mapping[str, bytes] = result.markup.head if result is not None and result.markup is not None else {}
        if hole.key != "head":
            return head.get(hole.key, hole.default)
        held = {part.key for part in self._plan.parts if isinstance(part, Hole)}
        return b"".join(element for key, element in head.items() if key not in held)

    def _place(self, running: Running) -> bool:
        """Write a slot where it stands; False where the stream must wait for it."""
        result = running.result
        if result is not None:
            if self._ordered and not self._settled(running):
                return False
            self._slot(running, result)
            return True
        if running.plan.core or self._ordered or not running.plan.slot.wrap:
            return False
        self._mark(running)
        return True

    def _mark(self, running: Running) -> None:
        number, out = running.plan.number, self._out
        running.marked = self._fills = True
        self._marked += 1
        out.append(mark(number, self._suffix))
        if running.interim is not None:
            self._slot(running, running.interim)
        else:
            out.append(running.plan.wrapper.loading)
            self._placeholder(running.plan.slot)
            out.append(CLOSE)
        out.append(MARK_END)

    def _placeholder(self, slot: Slot) -> None:
        for part in slot.placeholder:
            if isinstance(part, bytes):
                self._out.append(part)
            else:
                self._hole(part)

    def _slot(self, running: Running, result: Result) -> None:
        """The slot's element with what it became; without a wrapper, what it became alone."""
        plan, out = running.plan, self._out
        wrap, markup = plan.slot.wrap, result.markup
        if wrap:
            asked = result.outcome is Outcome.PENDING or (plan.wrapper.again and result.reason is not Reason.WHEN)
            src = running.call.src if running.call is not None and asked else ""
            out.append(
                plan.wrapper.open(
                    result.outcome.value,
                    age=result.age,
                    src=src,
                    retry_after=result.retry_after,
                    task=result.task,
                    following=result.next,
                )
            )
        if wrap and result.outcome is Outcome.PENDING:
            self._pending(running, result)
            if result.task:
                out += [b"<noscript>", link(result.task, "nofollow", "How far it is"), b"</noscript>"]
        elif markup is None:
            pass
        elif plan.fragment is not None and plan.fragment.trust == "sandboxed":
            out.append(sandbox(plan.slot.fragment, running.call.src if running.call is not None else ""))
        else:
            self._markup(running, markup)
            if result.next and plan.slot.more and running.call is not None:
                planned = self._composition.planned
                to = onward(planned.plan.page, planned.given, plan.slot, running.call, result.next)
                out.append(link(to, "next", "More"))
        if wrap:
            out.append(CLOSE)

    def _pending(self, running: Running, result: Result) -> None:
        """The placeholder; where a click loads the slot and there is nothing in it to click, it is the link itself."""
        linked = running.plan.wrapper.link and not result.task and running.call is not None
        if linked and running.call is not None:
            self._out.append(f'<a rel="nofollow" href="{escape(running.call.src)}">'.encode())
        self._placeholder(running.plan.slot)
        if linked:
            self._out.append(b"</a>")

    def _markup(self, running: Running, markup: Markup) -> None:
        if markup.flat is not None:
            self._out.append(markup.flat)
            return
        embedded = iter(self._inner(running, markup))
        for part in markup.parts:
            if isinstance(part, bytes):
                self._out.append(part)
            elif isinstance(part, Hole):
                self._hole(part)
            else:
                self._embedded(next(embedded))

    def _inner(self, running: Running, markup: Markup) -> list[Running]:
        """The slots in what a slot became, started when this is asked for the first time."""
        found = self._started.get(running)
        if found is None:
            found = self._composition.embed(running, [part for part in markup.parts if isinstance(part, Slot)])
            self._started[running] = found
        return found

    def _begin_embedded(self) -> None:
        """Start what the answers embed that have come, wherever the stream is: in order, nothing is filled in later."""
        for running in self._composition.slots:  # grows by what it starts
            markup = self._shown(running)
            if markup is not None and markup.flat is None:
                self._inner(running, markup)

    def _settled(self, running: Running) -> bool:
        """Whether a slot has ended, and everything that it embeds."""
        markup = self._shown(running)
        if markup is None or markup.flat is not None:
            return running.result is not None
        return all(self._settled(each) for each in self._inner(running, markup))

    @staticmethod
    def _shown(running: Running) -> Markup | None:
        """The markup that is written of a slot: a sandboxed one is an address, and embeds nothing here."""
        fragment, result = running.plan.fragment, running.result
        return None if result is None or (fragment is not None and fragment.trust == "sandboxed") else result.markup

    def _embedded(self, running: Running) -> None:
        if running.result is not None:
            self._slot(running, running.result)
        elif running.plan.slot.wrap and not self._ordered:
            self._mark(running)

    def _patch(self) -> None:
        """Write the templates of late slots whose marker lies inside what is open now."""
        waiting: list[Running] = []
        for running in self._late:
            if running.result is None or running.plan.inside[: len(self._inside)] != self._inside:
                waiting.append(running)
                continue
            self._out.append(patch(running.plan.number, self._suffix))
            self._slot(running, running.result)
            self._out.append(PATCH_END)
            self._marked -= 1
        self._late = waiting

    def _finish(self) -> None:
        parts, out = self._plan.parts, self._out
        if self._fills:
            href = whole(self._plan.page, self._composition.planned.given)
            out.append(unfilled(href, self._nonce.decode()))
        if self._tail is not None:
            out.append(self._tail())
        for part in parts[self._at :]:
            if isinstance(part, bytes):
                out.append(part)
            elif isinstance(part, Hole):
                self._hole(part)
        self._at = len(parts)
        self.complete = True
