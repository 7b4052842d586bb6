"""How to learn that the browser has gone on a server other than our own, which calls back by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import anyio

OnClosed = Callable[[Callable[[], None]], None]
"""Registers what to call when the client's connection is lost before the response has ended."""


@asynccontextmanager
async def closing(receive: Callable[[], Awaitable[MutableMapping[str, Any]]]) -> AsyncIterator[OnClosed]:
    """A way to register for the client's going: a task watches `receive`."""
    calls: list[Callable[[], None]] = []

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        for call in calls:
            call()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        yield calls.append
        tasks.cancel_scope.cancel()
