"""A composition for programs: as NDJSON, a line per slot as it ends, or as one JSON document. See `wire.Writer`."""

from __future__ import annotations

import json
from collections import deque
from typing import Any, Final

from bff.markup.patch import bare, sandbox
from bff.model import Clock, Markup, Outcome, Reason, Result, Slot
from bff.page.compose import Composition, Running
from bff.upstream.sources.content import rfc3339

PIECE: Final = 64 * 1024
"""Bytes after which lines are sent before more are made: a reader that does not read costs one piece and its largest line."""


def line(running: Running, result: Result, *, final: bool = True) -> bytes:
    """One slot as the JSON forms give it (contract §3), without line breaks; what there is nothing of is absent.

    A context's data is passed on as it was written: its numbers stay what they are, and nothing is parsed twice.
    """
    plan, call = running.plan, running.call
    pending = result.outcome is Outcome.PENDING
    found = {
        "slot": plan.number,
        "as": plan.slot.key,
        "fragment": plan.slot.fragment,
        "outcome": result.outcome.value,
        "reason": result.reason.value,
        "status": result.status,
        "age": result.age,
        "as_of": _spoke(result),
        "ms": round(result.seconds * 1000, 1),
        "html": _html(running, result),
        "assets": plan.assets,
        "src": call.src if call is not None and pending else None,
        "load": plan.slot.load if result.reason is Reason.LOAD else None,
        "task": result.task or None,
        "next": result.next or None,
        "tags": list(result.tags) or None,
        "retry_after": result.retry_after,
        "parent": running.parent.plan.number if running.parent is not None else None,
        "final": None if final else False,
    }
    out = encode({key: value for key, value in found.items() if value is not None})
    data = result.data if _is_json(running) else None
    return out if data is None else b'%b,"data":%b}' % (out[:-1], _one_line(data))


def _is_json(running: Running) -> bool:
    return running.plan.fragment is not None and running.plan.fragment.source == "json"


def _one_line(data: bytes) -> bytes:
    """JSON text without its line breaks, which can only stand between its tokens (RFC 8259 §2, §7)."""
    return data.replace(b"\n", b" ").replace(b"\r", b" ")


def _spoke(result: Result) -> str | None:
    wall = result.as_of or result.spoke
    return rfc3339(wall) if wall is not None else None


def _html(running: Running, result: Result) -> str | None:
    """The markup as an app gets it: no nonces, and embedded slots left out (they have lines of their own).

    A sandboxed fragment is its frame, as on a page: an app that shows it must not give it its own origin.
    """
    if result.markup is None or _is_json(running):
        return None
    if _is_sandboxed(running):
        return sandbox(running.plan.slot.fragment, running.call.src if running.call is not None else "").decode()
    return b"".join(part for part in bare(result.markup) if isinstance(part, bytes)).decode()


def _is_sandboxed(running: Running) -> bool:
    return running.plan.fragment is not None and running.plan.fragment.trust == "sandboxed"


def _embeds(running: Running) -> list[Slot]:
    """The slots in what a slot became."""
    markup: Markup | None = running.result.markup if running.result is not None else None
    if markup is None or markup.flat is not None or _is_sandboxed(running):
        return []
    return [part for part in markup.parts if isinstance(part, Slot)]


def encode(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


class _JsonForm:
    """What both JSON forms share: embedded slots are started when the answer that holds them arrives."""

    def __init__(self, composition: Composition, clock: Clock) -> None:
        self._composition = composition
        self._clock = clock
        self._told = False
        self.complete = False

    def _arrived(self) -> list[Running]:
        """The slots that ended since the last call."""
        arrived = self._composition.take()
        if not self._told:  # what the store held has ended without ever arriving
            self._told = True
            return [running for running in self._composition.slots if running.result is not None]
        return arrived

    def _embedded(self, running: Running) -> list[Running]:
        """The slots that its answer embeds, started."""
        slots = _embeds(running)
        return self._composition.embed(running, slots) if slots else []

    def _milliseconds(self) -> float:
        return round((self._clock() - self._composition.began) * 1000, 1)


class NdjsonWriter(_JsonForm):
    """The plan, then a line per slot as it ends, then the end."""

    media_type = b"application/x-ndjson"

    def __init__(self, composition: Composition, clock: Clock) -> None:
        super().__init__(composition, clock)
        self._begun = False
        self._queue: deque[Running] = deque()  # ended, and not written yet

    def advance(self) -> bytes:
        """Lines up to about `PIECE` bytes; the composition is ready again at once where more have been left."""
        lines: list[bytes] = []
        if not self._begun:
            self._begun = True
            lines.append(encode(self._plan()))
            lines += self._interim(self._composition.slots)
        self._queue.extend(self._arrived())
        self._write(lines)
        if self._queue:
            self._composition.ready = True
        elif self._composition.pending == 0 and not self._composition.arrived:
            lines.append(encode({"done": True, "ms": self._milliseconds()}))
            self.complete = True
        return b"".join(each + b"\n" for each in lines)

    def _write(self, lines: list[bytes]) -> None:
        size = 0
        while self._queue and size < PIECE:
            running = self._queue.popleft()
            if running.result is None:
                continue
            lines.append(line(running, running.result))
            size += len(lines[-1])
            embedded = self._embedded(running)
            lines += self._interim(embedded)
            self._queue.extend(each for each in embedded if each.result is not None)

    def _interim(self, slots: list[Running]) -> list[bytes]:
        """The stale copies that show until the fresh ones are there."""
        return [line(each, each.interim, final=False) for each in slots if each.interim and each.result is None]

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
        self._slots: dict[str, bytes] = {}

    def advance(self) -> bytes:
        queue = deque(self._arrived())
        while queue:
            running = queue.popleft()
            if running.result is not None:
                self._slots[running.plan.slot.key] = line(running, running.result)
                queue.extend(each for each in self._embedded(running) if each.result is not None)
        if self._composition.pending or self._composition.arrived:
            return b""
        self.complete = True
        return self._document()

    def _document(self) -> bytes:
        composition = self._composition
        top = {"page": composition.planned.plan.page.name, "principal": composition.visit.principal is not None}
        keys = [running.plan.slot.key for running in composition.slots]
        slots = b",".join(b"%b:%b" % (encode(key), self._slots.pop(key)) for key in keys if key in self._slots)
        return b'%b,"slots":{%b},"ms":%b}' % (encode(top)[:-1], slots, encode(self._milliseconds()))
