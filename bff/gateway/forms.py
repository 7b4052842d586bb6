"""What is made of stored bytes for those who ask for them alone: encoded forms and ETags, kept in the store beside the entry.

Owns which answers those are; the store owns how long they live (docs/decisions/0026). What is asked for a second time in a
content coding is kept in it. An answer that is more than the stored bytes themselves (in a frame, with other fragments in
it, without its nonces) is encoded, and read for its ETag, each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b

from bff.gateway.compress import Idle, encoded, relabelled, wanted
from bff.gateway.problems import Answer
from bff.store.entry import Entry
from bff.store.memory import MemoryStore


def etag(body: bytes, entry: Entry | None) -> bytes:
    """A body's ETag; where it is what `entry` holds, it is read once (64 KiB take as long as a hundred hits)."""
    kind = _kind(body, entry)
    if entry is None or not kind:
        return _digest(body)
    made = entry.etags.get(kind) if entry.etags else None
    if made is None:
        made = _digest(body)
        entry.etags = {**(entry.etags or {}), kind: made}
    return made


def _digest(body: bytes) -> bytes:
    return b'W/"%b"' % blake2b(body, digest_size=12).hexdigest().encode()


async def suited(
    answer: Answer,
    headers: Sequence[tuple[bytes, bytes]],
    entry: Entry | None,
    store: MemoryStore,
    idle: Idle | None = None,
) -> Answer:
    """An answer as the client of these headers prefers it; `entry` is what it may have been made of, `idle` lends compressors."""
    coding = wanted(answer, headers)
    kind = _kind(answer.body, entry)
    if coding is None or entry is None or not kind:
        return await encoded(answer, coding, idle)
    name = f"{kind} {coding}"
    form = entry.forms.get(name) if entry.forms else None
    if form is not None:
        return replace(answer, headers=relabelled(answer.headers, coding, len(form)), body=form)
    made = await encoded(answer, coding, idle)
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
