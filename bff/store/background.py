"""What is written to a tier while nobody waits, and the leases that are given up once it is. Knows no records."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from bff.store.tier import Tier


class Background:
    """The writes to one tier; belongs to one event loop."""

    def __init__(self, tier: Tier) -> None:
        self._tier = tier
        self._writing: dict[str, asyncio.Task[None]] = {}
        self._all: set[asyncio.Task[None]] = set()

    async def lease(self, key: str, seconds: float) -> bool:
        """Whether this process is the one to fetch."""
        return await self._tier.lease(key, seconds)

    def release(self, key: str) -> None:
        """Others may fetch it again, once what was fetched is written."""
        writing = self._writing.get(key)
        if writing is None:
            self._later(self._tier.release(key))
        else:
            writing.add_done_callback(lambda _: self._later(self._tier.release(key)))

    def write(self, key: str, work: Coroutine[Any, Any, None]) -> None:
        """Have this done; a lease on the key is kept until it is."""
        task = self._later(work)
        self._writing[key] = task
        task.add_done_callback(lambda _: self._written(key, task))

    def _written(self, key: str, task: asyncio.Task[None]) -> None:
        if self._writing.get(key) is task:
            del self._writing[key]

    def _later(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._all.add(task)
        task.add_done_callback(self._all.discard)
        return task

    async def aclose(self) -> None:
        """Let what is being written be written."""
        while self._all:
            await asyncio.gather(*self._all, return_exceptions=True)
