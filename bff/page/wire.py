"""What a browser or an app gets over the wire: a composition as HTML, NDJSON or one JSON document.

Each writer's `advance` gives the bytes that can be sent now, joined into one; it is called again whenever slots have
ended. Writers do no I/O and keep no time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from html import escape
from typing import Any, Final, Protocol

from bff.markup.patch import CLOSE, MARK_END, PATCH_END, bare, link, mark, patch, sandbox
from bff.model import Clock, Hole, Markup, Outcome, Reason, Result, Slot
from bff.page.compose import Composition, Running
from bff.page.lists import onward
from bff.upstream.sources.content import rfc3339


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
        self._out: list[bytes] = []
        self._inside: tuple[int, ...] = ()
        self._lang = language(composition.visit.locale)
        self.complete = False

    def advance(self) -> bytes:
        for running in self._composition.take():
            if running.marked:
                self._late.append(running)
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
        while self._at < end:
            part = parts[self._at]
            if isinstance(part, bytes):
                out.append(part)
            elif isinstance(part, Hole):
                self._hole(part)
            elif not self._place(slots[part.index]):
                self._inside = part.inside
                self._composition.blocked = slots[part.index]
                return
            self._at += 1
        self._inside = ()
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
            self._slot(running, result)
            return True
        if running.plan.core or self._ordered or not running.plan.slot.wrap:
            return False
        self._mark(running)
        return True

    def _mark(self, running: Running) -> None:
        number, out = running.plan.number, self._out
        running.marked = True
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
        if plan.slot.wrap:
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
        if result.outcome is Outcome.PENDING and plan.slot.wrap:
            self._pending(running, result)
            if result.task:
                out += [b"<noscript>", link(result.task, "nofollow", "How far it is"), b"</noscript>"]
        elif result.markup is not None and plan.fragment is not None and plan.fragment.trust == "sandboxed":
            out.append(sandbox(plan.slot.fragment, running.call.src if running.call is not None else ""))
        elif result.markup is not None:
            self._markup(running, result.markup)
            if result.next and plan.slot.more and running.call is not None:
                planned = self._composition.planned
                to = onward(planned.plan.page, planned.given, plan.slot, running.call, result.next)
                out.append(link(to, "next", "More"))
        if plan.slot.wrap:
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
        embedded = iter(self._composition.embed(running, [part for part in markup.parts if isinstance(part, Slot)]))
        for part in markup.parts:
            if isinstance(part, bytes):
                self._out.append(part)
            elif isinstance(part, Hole):
                self._hole(part)
            else:
                self._embedded(next(embedded))

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
        if self._tail is not None:
            out.append(self._tail())
        for part in parts[self._at :]:
            if isinstance(part, bytes):
                out.append(part)
            elif isinstance(part, Hole):
                self._hole(part)
        self._at = len(parts)
        self.complete = True


def line(running: Running, result: Result, *, final: bool = True) -> dict[str, Any]:
    """One slot as the JSON forms give it (contract §3); what there is nothing of is absent."""
    fragment, call = running.plan.fragment, running.call
    source = "" if fragment is None else fragment.source
    html = _html(result.markup) if result.markup is not None and source != "json" else None
    found = {
        "slot": running.plan.number,
        "as": running.plan.slot.key,
        "fragment": running.plan.slot.fragment,
        "outcome": result.outcome.value,
        "reason": result.reason.value,
        "status": result.status,
        "age": result.age,
        "as_of": _spoke(result),
        "ms": round(result.seconds * 1000, 1),
        "html": html,
        "data": json.loads(result.data) if result.data is not None and source == "json" else None,
        "assets": running.plan.assets,
        "src": call.src if call is not None and result.outcome is Outcome.PENDING else None,
        "task": result.task or None,
        "next": result.next or None,
        "tags": list(result.tags) or None,
        "retry_after": result.retry_after,
        "parent": running.parent.plan.number if running.parent is not None else None,
    }
    out = {key: value for key, value in found.items() if value is not None}
    return out if final else out | {"final": False}


def _spoke(result: Result) -> str | None:
    wall = result.as_of or result.date
    return rfc3339(wall) if wall is not None else None


def _html(markup: Markup) -> str:
    """The markup as an app gets it: no nonces, and embedded slots left out (they have lines of their own)."""
    return b"".join(part for part in bare(markup) if isinstance(part, bytes)).decode()


def encode(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


class _JsonForm:
    """What both JSON forms share: embedded slots are started when the answer that holds them arrives."""

    def __init__(self, composition: Composition, clock: Clock) -> None:
        self._composition = composition
        self._clock = clock
        self._told = False
        self.complete = False

    def _finished(self) -> list[Running]:
        """The slots that ended since the last call, embedded ones included."""
        composition = self._composition
        found: list[Running] = []
        queue = composition.take()
        if not self._told:  # what the store held has ended without ever arriving
            self._told = True
            queue = [running for running in composition.slots if running.result is not None]
        while queue:
            running = queue.pop(0)
            found.append(running)
            markup = running.result.markup if running.result is not None else None
            if markup is not None and markup.flat is None:
                embedded = composition.embed(running, [part for part in markup.parts if isinstance(part, Slot)])
                queue.extend(each for each in embedded if each.result is not None)
        return found

    def _milliseconds(self) -> float:
        return round((self._clock() - self._composition.began) * 1000, 1)


class NdjsonWriter(_JsonForm):
    """The plan, then a line per slot as it ends, then the end."""

    media_type = b"application/x-ndjson"

    def __init__(self, composition: Composition, clock: Clock) -> None:
        super().__init__(composition, clock)
        self._begun = False

    def advance(self) -> bytes:
        lines: list[Any] = []
        if not self._begun:
            self._begun = True
            lines.append(self._plan())
            lines += [line(r, r.interim, final=False) for r in self._running_on() if r.interim is not None]
        lines += [line(running, running.result) for running in self._finished() if running.result is not None]
        if self._composition.pending == 0 and not self._composition.arrived:
            lines.append({"done": True, "ms": self._milliseconds()})
            self.complete = True
        return b"".join(encode(each) + b"\n" for each in lines)

    def _running_on(self) -> list[Running]:
        return [r for r in self._composition.slots if r.result is None]

    def _plan(self) -> dict[str, Any]:
        composition = self._composition
        return {
            "page": composition.planned.plan.page.name,
            "principal": composition.visit.principal is not None,
            "slots": [
                {
                    "slot": running.plan.number,
                    "as": running.plan.slot.key,
                    "fragment": running.plan.slot.fragment,
                    "params": running.call.params if running.call is not None else {},
                }
                for running in composition.slots
            ],
        }


class JsonWriter(_JsonForm):
    """One document, when every slot has ended."""

    media_type = b"application/json"

    def __init__(self, composition: Composition, clock: Clock) -> None:
        super().__init__(composition, clock)
        self._slots: dict[str, Any] = {}

    def advance(self) -> bytes:
        for running in self._finished():
            if running.result is not None:
                self._slots[running.plan.slot.key] = line(running, running.result)
        if self._composition.pending or self._composition.arrived:
            return b""
        self.complete = True
        composition = self._composition
        order = [running.plan.slot.key for running in composition.slots]
        return encode(
            {
                "page": composition.planned.plan.page.name,
                "principal": composition.visit.principal is not None,
                "slots": {key: self._slots[key] for key in order if key in self._slots},
                "ms": self._milliseconds(),
            }
        )
