"""A composition for programs: as NDJSON, a line per slot as it ends, or as one JSON document. See `wire.Writer`."""

from __future__ import annotations

import json
from typing import Any

from bff.markup.patch import bare
from bff.model import Clock, Markup, Outcome, Result, Slot
from bff.page.compose import Composition, Running
from bff.upstream.sources.content import rfc3339


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
