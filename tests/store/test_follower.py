import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bff.model import Purge
from bff.store.follower import BATCH, Away, Follower
from bff.store.ledger import Ledger, Row
from tests.fakes import until

pytestmark = pytest.mark.anyio

TAG = Purge(kind="tag", value="course:1")


class Slow:
    """A log that writes when it is let."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.fails = False
        self.rows: list[Row] = []
        self.asked: list[list[str]] = []
        self.reads = 0

    async def connect(self) -> None: ...

    async def read(self, after: int) -> tuple[list[Row], int]:
        self.reads += 1
        return [row for row in self.rows if row[1] > after], 1

    async def write(self, texts: Sequence[str]) -> int:
        self.asked.append([*texts])
        await self.open.wait()
        if self.fails:
            raise Away("busy", lost=False)
        first = self.rows[-1][1] + 1 if self.rows else 2
        self.rows += [(text, first + place) for place, text in enumerate(texts)]
        return self.rows[-1][1]


@asynccontextmanager
async def following(log: Slow) -> AsyncIterator[Follower]:
    def told(*_: Any, **__: Any) -> None: ...

    follower = Follower(log, Ledger(asyncio.get_running_loop().time, time.time), failed=told, tell=told)
    await follower.start()
    try:
        yield follower
    finally:
        await follower.aclose()


async def test_what_is_being_written_is_not_written_again() -> None:
    """A second time would get a later mark: what was fetched in between would count as purged."""
    log = Slow()
    async with following(log) as follower:
        log.open.clear()
        writing = asyncio.ensure_future(follower.purge(TAG))
        await until(lambda: log.asked, "it is being written")
        before = log.reads
        await until(lambda: log.reads > before + 1 or len(log.asked) > 1, "what is owed was looked at")
        log.open.set()
        assert await writing
        await until(lambda: log.reads > before + 4, "it has been looked at again")
        assert len(log.asked) == 1


async def test_what_could_not_be_written_is_written_when_it_can() -> None:
    log = Slow()
    async with following(log) as follower:
        log.fails = True
        assert not await follower.purge(TAG)
        log.fails = False
        await until(lambda: log.rows, "it is written")


async def test_very_many_are_written_some_at_a_time() -> None:
    log = Slow()
    async with following(log) as follower:
        many = [Purge(kind="tag", value=str(number)) for number in range(BATCH + 1)]
        assert await follower.purge(*many, TAG, many[0])
        assert [len(texts) for texts in log.asked] == [BATCH, 2]
        log.fails = True
        assert not await follower.purge(*many)
        assert [len(texts) for texts in log.asked][2] == BATCH
