"""The second tier in a Redis or Valkey: shared by all processes of all machines.

Records are hashes (`h` its head, `b` its body, `m` its mark) that expire by themselves; purges are one sorted set by mark
(`ledger`), so nothing indexes records and nothing can outlive them. Each call costs at most `PATIENCE`, and so does all that
a page looks for; after one that failed, none is made until the follower has reached the server again.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any, Final

from bff.model import Clock, Headers, Purge
from bff.store.follower import ROWS, Away, Follower
from bff.store.lane import Command, Lane
from bff.store.ledger import Ledger, Row
from bff.store.purges import LIMIT
from bff.store.record import Record, concerned, head, renewed, unpack
from bff.store.tier import Failed, Heard, Tell

PATIENCE: Final = 0.02  # seconds that a call waits for the server
SILENT: Final = 0.05  # seconds after a call that was not answered in time within which nobody else waits for an answer
PREFIX: Final = "bff:"
PURGES: Final = PREFIX + "purges"

_PUT: Final = """redis.call('HSET', KEYS[1], 'h', ARGV[1], 'b', ARGV[2], 'm', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])"""
_TOUCH: Final = """if redis.call('HGET', KEYS[1], 'h') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'h', ARGV[2], 'm', ARGV[3])
return redis.call('PEXPIRE', KEYS[1], ARGV[4])"""
_RELEASE: Final = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
_LOG: Final = """local function write(what, mark) redis.call('ZADD', KEYS[1], string.format('%.0f', mark), what) end
local time = redis.call('TIME')
local mark = (time[1] * 1000 + math.floor(time[2] / 1000)) * 1024
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
if not last then write('', mark) last = mark end
if #ARGV == 1 then return redis.call('ZSCORE', KEYS[1], '') end
mark = math.max(mark, last + 1) + #ARGV - 2
for each = 2, #ARGV do write(ARGV[each], mark - #ARGV + each) end
local over = redis.call('ZCARD', KEYS[1]) - ARGV[1]
if over > 0 then
  local oldest = redis.call('ZRANGE', KEYS[1], 1, over, 'WITHSCORES')
  for each = 1, #oldest, 2 do redis.call('ZREM', KEYS[1], oldest[each]) end
  write('', oldest[#oldest])
end
return string.format('%.0f', mark)"""
"""Adds purges under the next marks, after the floor (the member "") where there is no log; beyond the limit the oldest
are forgotten and the floor raised. A log that is lost begins with a floor above all marks before."""


class RedisTier:
    """A tier (`tier.Tier`) at a `redis://` or `rediss://` URL; belongs to one event loop."""

    def __init__(
        self,
        url: str,
        *,
        failed: Failed,
        tell: Tell,
        patience: float = PATIENCE,
        clock: Clock = time.monotonic,
        wall: Clock = time.time,
    ) -> None:
        self._clock = clock
        self._silent = 0.0  # until when
        self._ledger = Ledger(clock, wall)
        self._reads = Lane(url, patience)
        self._writes = Lane(url, patience)
        self._follower = Follower(self, self._ledger, failed=failed, tell=tell)
        self._holder = secrets.token_hex(8)

    @property
    def reached(self) -> bool:
        return self._follower.reached

    @property
    def settled(self) -> bool:
        return self._follower.settled

    async def start(self) -> None:
        await self._follower.start()

    async def aclose(self) -> None:
        await self._follower.aclose()
        await self._reads.aclose()
        await self._writes.aclose()

    def subscribe(self, heard: Heard) -> None:
        self._ledger.subscribe(heard)

    # --- records ------------------------------------------------------------------------------------------------------

    async def get(self, key: str) -> Record | None:
        """The log is read after the record, so that no purge before this call is overlooked."""
        answers = await self._ask(self._reads, ("HMGET", _record(key), "h", "b", "m"), *_news(self._ledger.mark))
        if answers is None:
            return None
        (packed, body, mark), rows, floor = answers
        if floor is None or len(rows) >= 2 * ROWS:
            return None  # the log is lost, or longer than was read: the follower sees to it
        self._ledger.overhear(_rows(rows), int(float(floor)))
        record = unpack(packed + body) if packed is not None and body is not None else None
        if record is None or record.key != key or not mark or not mark.isdigit():
            return None
        return self._ledger.judged(record, int(mark))

    async def put(self, record: Record, *, keep: float, began: float) -> None:
        mark = self._ledger.known(began)
        if mark is not None and keep > 0:
            values = head(record), record.body, mark, _milliseconds(keep)
            await self._ask(self._writes, ("EVAL", _PUT, 1, _record(record.key), *values))

    async def touch(self, key: str, headers: Headers, born: float, *, keep: float, began: float) -> None:
        mark = self._ledger.known(began)
        answers = await self._ask(self._writes, ("HMGET", _record(key), "h", "m"))
        if mark is None or answers is None or None in answers[0] or keep <= 0:
            return
        packed, before = answers[0]
        record, changed = concerned(packed), renewed(packed, headers, born)
        if record is None or changed is None or self._ledger.judged(record, int(before)) is None:
            return
        values = packed, changed, mark, _milliseconds(keep)
        await self._ask(self._writes, ("EVAL", _TOUCH, 1, _record(key), *values))

    # --- leases and settings ------------------------------------------------------------------------------------------

    async def lease(self, key: str, seconds: float) -> bool:
        answers = await self._ask(self._reads, ("SET", _lease(key), self._holder, "NX", "PX", _milliseconds(seconds)))
        return answers is None or answers[0] is not None

    async def release(self, key: str) -> None:
        await self._ask(self._writes, ("EVAL", _RELEASE, 1, _lease(key), self._holder))

    async def value(self, name: str) -> bytes | None:
        answers = await self._ask(self._reads, ("GET", _value(name)))
        return None if answers is None else answers[0]

    async def set_value(self, name: str, data: bytes, *, keep: float | None = None) -> None:
        expiry: Command = () if keep is None else ("PX", _milliseconds(keep))
        await self._ask(self._writes, ("SET", _value(name), data, *expiry))

    async def add_value(self, name: str, data: bytes) -> bytes:
        answers = await self._ask(self._writes, ("SET", _value(name), data, "NX"), ("GET", _value(name)))
        return data if answers is None or answers[1] is None else bytes(answers[1])

    async def _ask(self, lane: Lane, *commands: Command) -> list[Any] | None:
        if not self._follower.reached:
            self._follower.missed(Away("away"))
            return None
        if self._clock() < self._silent:  # a page looks several times: it waits once
            self._follower.missed(Away("timeout", "no answer in time", lost=False))
            return None
        try:
            return await lane.ask(*commands)
        except Away as error:
            if error.reason == "timeout":
                self._silent = self._clock() + SILENT
            self._follower.missed(error)
            return None

    # --- purges -------------------------------------------------------------------------------------------------------

    async def purge(self, *purges: Purge) -> bool:
        return await self._follower.purge(*purges)

    async def connect(self) -> None:
        """For the follower."""
        await self._reads.connect()
        await self._writes.connect()

    async def read(self, after: int) -> tuple[list[Row], int]:
        """For the follower; begins a new log where there is none."""
        rows, floor = await self._reads.ask(*_news(after))
        if floor is None:
            (floor,) = await self._writes.ask(("EVAL", _LOG, 1, PURGES, LIMIT))
        return _rows(rows), int(float(floor))

    async def write(self, texts: Sequence[str]) -> int:
        """For the follower."""
        (mark,) = await self._writes.ask(("EVAL", _LOG, 1, PURGES, LIMIT, *texts))
        return int(mark)


def _news(after: int) -> tuple[Command, Command]:
    return ("ZRANGEBYSCORE", PURGES, f"({after}", "+inf", "WITHSCORES", "LIMIT", 0, ROWS), ("ZSCORE", PURGES, "")


def _rows(answer: list[Any]) -> list[Row]:
    pairs = zip(answer[::2], answer[1::2], strict=True) if answer and isinstance(answer[0], bytes) else answer
    return [(what.decode(errors="replace"), int(float(score))) for what, score in pairs]


def _milliseconds(seconds: float) -> int:
    return max(1, int(min(seconds, 1e9) * 1000))


def _record(key: str) -> str:
    return f"{PREFIX}record:{key}"


def _lease(key: str) -> str:
    return f"{PREFIX}lease:{key}"


def _value(name: str) -> str:
    return f"{PREFIX}value:{name}"
