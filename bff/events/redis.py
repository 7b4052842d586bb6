"""Open edX's event bus on Redis Streams, as edx-event-bus-redis writes it: one stream a topic, `<prefix>-<topic>`.

A message's fields are the event's attributes under their plain names (`type`, `id`, `source`, `time`…) and `event_data`,
the payload. Read by XREAD, so that every reader has every message and none is acknowledged to anybody. One of the two
importers of redis. A position is the id of the last message read.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Final

import anyio
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from bff.events.bus import Batch, Bus, Message

BLOCK: Final = 5.0  # seconds one XREAD waits at most
PATIENCE: Final = 2.0  # seconds for an answer beyond that, and for a connection
AT_ONCE: Final = 256  # messages a stream
START: Final = "0-0"  # before every message

_PAYLOAD: Final = b"event_data"


def open_bus(url: str, prefix: str) -> Bus:
    """`redis://[[user]:password@]host[:port]/db`, or `rediss://` over TLS."""
    return RedisBus(url, prefix)


class RedisBus:
    """One connection to a Redis or Valkey."""

    def __init__(self, url: str, prefix: str) -> None:
        self._prefix = f"{prefix}-" if prefix else ""
        self._redis = Redis.from_url(
            url,
            protocol=2,
            socket_connect_timeout=PATIENCE,
            socket_timeout=None,  # ours: the library's goes through asyncio.wait_for, which may lose a cancellation
            retry=Retry(NoBackoff(), 0),
            single_connection_client=True,
        )

    async def read(self, topics: Sequence[str], after: Mapping[str, str]) -> AsyncGenerator[Batch, None]:
        positions: dict[str, str] = {}
        missed: list[str] = []
        for topic in topics:
            with anyio.fail_after(PATIENCE):
                positions[topic], complete = await self._start(self._prefix + topic, after.get(topic))
            if not complete:
                missed.append(topic)
        yield Batch(positions=positions, missed=missed)
        names = {(self._prefix + topic).encode(): topic for topic in topics}
        streams: dict[Any, Any] = {name: positions[topic] for name, topic in names.items()}
        while True:
            with anyio.fail_after(BLOCK + PATIENCE):
                answer: Any = await self._redis.xread(streams, count=AT_ONCE, block=int(BLOCK * 1000))
            if not answer:
                continue
            for name, entries in answer:
                streams[name] = entries[-1][0]
            yield Batch(
                messages=[_message(fields) for _, entries in answer for _, fields in entries],
                positions={names[name]: entries[-1][0].decode() for name, entries in answer},
            )

    async def _start(self, stream: str, after: str | None) -> tuple[str, bool]:
        """Where to begin, and whether every message since `after` is still there: streams are trimmed, and flushed."""
        newest: Any = await self._redis.xrevrange(stream, count=1)
        last = newest[0][0].decode() if newest else START
        if after is None:
            return last, True
        position = _parsed(after)
        if position is None or position > _number(last):
            return START, False  # the stream is another one than that which was read
        oldest: Any = await self._redis.xrange(stream, count=1)
        trimmed = after != START and bool(oldest) and _number(oldest[0][0].decode()) > position
        return after, not trimmed

    async def aclose(self) -> None:
        await self._redis.aclose()


def _message(fields: Mapping[bytes, bytes] | None) -> Message:
    """A message deleted between being listed and being read has no fields, and says nothing."""
    told = dict(fields or {})
    body = told.pop(_PAYLOAD, b"")
    attributes = {name.decode(errors="replace"): value.decode(errors="replace") for name, value in told.items()}
    return Message(attributes=attributes, body=body)


def _number(position: str) -> tuple[int, int]:
    milliseconds, _, sequence = position.partition("-")
    return int(milliseconds), int(sequence or 0)


def _parsed(position: str) -> tuple[int, int] | None:
    try:
        return _number(position)
    except ValueError:
        return None
