"""Encoded forms of what is in the store: what is asked for a second time in a content coding is kept in it, beside its entry.

Owns which answers those are; the store owns how long they live (docs/decisions/0026). An answer that is more than the
stored bytes themselves (in a frame, with other fragments in it, without its nonces) is encoded each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bff.gateway.compress import encoded, relabelled, wanted
from bff.gateway.problems import Answer
from bff.store.entry import Entry
from bff.store.memory import MemoryStore


async def suited(
    answer: Answer, headers: Sequence[tuple[bytes, bytes]], entry: Entry | None, store: MemoryStore
) -> Answer:
    """An answer as the client of these headers prefers it; `entry` is what it may have been made of."""
    coding = wanted(answer, headers)
    kind = _kind(answer.body, entry)
    if coding is None or entry is None or not kind:
        return await encoded(answer, coding)
    name = f"{kind} {coding}"
    form = entry.forms.get(name) if entry.forms else None
    if form is not None:
        return replace(answer, headers=relabelled(answer.headers, coding, len(form)), body=form)
    made = await encoded(answer, coding)
    if made is answer:  # not worth it
        return made
    if entry.forms is None:
        entry.forms = {}
    elif len(made.body) < len(answer.body):
        store.pack(entry, name, made.body)
    return made


def _kind(body: bytes, entry: Entry | None) -> str:
    """Which of an entry's two texts a body is; "" for neither."""
    if entry is not None and body is entry.data:
        return "data"
    return "html" if entry is not None and entry.markup is not None and body is entry.markup.flat else ""
