"""The second tier in an SQLite file: outlives the process, shared by the workers of one machine.

Two threads do what is asked, one reads and one writes, so that the event loop waits for no disk. What cannot be written is
counted and left; memory serves. Leases are counted on the machine's monotonic clock, which no jump of the wall clock moves.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from bff.model import Clock, Headers, Purge
from bff.store import statements
from bff.store.database import Database, Work
from bff.store.follower import ROWS, Away, Follower
from bff.store.ledger import Ledger, Row, mark_at
from bff.store.record import Record, concerned, head, renewed, unpack
from bff.store.thread import Full, Thread
from bff.store.tier import Failed, Heard, Tell

T = TypeVar("T")

PATIENCE: Final = 0.25  # seconds that a read waits: a disk that is asleep is slower than a context
WRITING: Final = 2.0  # seconds that a write waits, for which no page waits
BOUND: Final = 1024**3  # bytes of records; those that would be of use for the shortest time leave first
CLEANING: Final = 2.0  # seconds between two cleanings
BATCHES: Final = 8  # of records that one cleaning deletes at most


class SqliteTier:
    """A tier (`tier.Tier`) in the file at `path`; belongs to one event loop."""

    def __init__(
        self,
        path: Path,
        *,
        failed: Failed,
        tell: Tell,
        patience: float = PATIENCE,
        bound: int = BOUND,
        clock: Clock = time.monotonic,
        wall: Clock = time.time,
    ) -> None:
        self._path = path
        self._tell = tell
        self._patience = patience
        self._bound = bound
        self._wall = wall
        self._ledger = Ledger(clock, wall)
        self._follower = Follower(self, self._ledger, failed=failed, tell=tell)
        self._holder = secrets.token_hex(8)
        self._reader: _Hand
        self._writer: _Hand
        self._hands: tuple[_Hand, ...] = ()  # those to be closed

    @property
    def reached(self) -> bool:
        return self._follower.reached

    @property
    def settled(self) -> bool:
        return self._follower.settled

    async def start(self) -> None:
        loop = asyncio.get_running_loop()

        def broken(why: str) -> None:
            told = partial(self._tell, "store_set_aside", level="error", file=f"{self._path}.broken", error=why)
            loop.call_soon_threadsafe(told)

        self._reader = _Hand("store-reads", Database(self._path, broken), lambda _: None)
        self._writer = _Hand("store-writes", Database(self._path, broken), self._clean)
        self._hands = self._reader, self._writer
        await self._follower.start()

    async def aclose(self) -> None:
        """Everything that waits to be written is written."""
        await self._follower.aclose()
        hands, self._hands = self._hands, ()
        for hand in hands:
            await hand.close()

    def subscribe(self, heard: Heard) -> None:
        self._ledger.subscribe(heard)

    def _clean(self, database: Database) -> None:
        """A little at a time: leases wait for the same thread."""
        with contextlib.suppress(Away):
            for _ in range(BATCHES):
                if not database.run(statements.clean(self._wall(), time.monotonic(), self._bound)):
                    return

    # --- records ------------------------------------------------------------------------------------------------------

    async def get(self, key: str) -> Record | None:
        found = await self._read(statements.get(key, self._wall(), self._ledger.mark))
        if found is None or len(found[1]) == ROWS:  # a longer log than was read: the follower sees to it
            return None
        row, rows, floor = found
        self._ledger.overhear(rows, floor)
        record = None if row is None else unpack(row[1] + row[2])
        return None if row is None or record is None else self._ledger.judged(record, row[0])

    async def put(self, record: Record, *, keep: float, began: float) -> None:
        mark = self._ledger.known(began)
        if mark is not None and keep > 0:
            until = self._wall() + keep
            await self._write(statements.put(record.key, mark, until, head(record), record.body))

    async def touch(self, key: str, headers: Headers, born: float, *, keep: float, began: float) -> None:
        mark = self._ledger.known(began)
        found = await self._read(statements.described(key))
        if mark is None or found is None or keep <= 0:
            return
        before, packed = found
        record, changed = concerned(packed), renewed(packed, headers, born)
        if record is not None and changed is not None and self._ledger.judged(record, before) is not None:
            await self._write(statements.renew(key, packed, mark, self._wall() + keep, changed))

    # --- leases and settings ------------------------------------------------------------------------------------------

    async def lease(self, key: str, seconds: float) -> bool:
        asked = statements.lease(key, self._holder, time.monotonic(), seconds)
        return await self._write(asked, self._patience) is not False

    async def release(self, key: str) -> None:
        await self._write(statements.release(key, self._holder))

    async def value(self, name: str) -> bytes | None:
        return await self._read(statements.value(name, self._wall()))

    async def set_value(self, name: str, data: bytes, *, keep: float | None = None) -> None:
        await self._write(statements.set_value(name, data, None if keep is None else self._wall() + keep))

    async def add_value(self, name: str, data: bytes) -> bytes:
        kept = await self._write(statements.add_value(name, data, self._wall()))
        return data if kept is None else kept

    async def _read(self, work: Work[T]) -> T | None:
        return await self._try(self._reader, work, self._patience)

    async def _write(self, work: Work[T], patience: float = WRITING) -> T | None:
        return await self._try(self._writer, work, patience)

    async def _try(self, hand: _Hand, work: Work[T], patience: float) -> T | None:
        """What that gives; None, and counted, where it comes to nothing. Only what cannot be read is away."""
        if not self._follower.reached:
            self._follower.missed(Away("away"))
            return None
        try:
            return await hand.ask(work, patience)
        except Away as error:
            error.lost = error.lost and hand is self._reader
            self._follower.missed(error)
            return None

    # --- purges -------------------------------------------------------------------------------------------------------

    async def purge(self, *purges: Purge) -> bool:
        return await self._follower.purge(*purges)

    async def connect(self) -> None:
        """For the follower."""
        await self._reader.ask(statements.log(0), WRITING)

    async def read(self, after: int) -> tuple[list[Row], int]:
        """For the follower."""
        return await self._reader.ask(statements.log(after), WRITING)

    async def write(self, texts: Sequence[str]) -> int:
        """For the follower."""
        try:
            return await self._writer.ask(statements.write_log(texts, mark_at(self._wall())), WRITING)
        except Away as error:
            error.lost = False
            raise


class _Hand:
    """A thread with its own connection to the file."""

    def __init__(self, name: str, database: Database, idle: Callable[[Database], None]) -> None:
        self._database = database
        self._thread = Thread(name, partial(idle, database), CLEANING)

    async def ask(self, work: Work[T], patience: float) -> T:
        """Do something with the file, within so many seconds. Raises `Away`."""
        try:
            async with asyncio.timeout(patience):
                return await self._thread.ask(partial(self._database.run, work))
        except Full:
            raise Away("busy", "too much is waiting", lost=False) from None
        except TimeoutError:
            raise Away("timeout", f"not done within {patience} s", lost=False) from None

    async def close(self) -> None:
        self._thread.ask(self._database.close)
        await self._thread.close()
