"""How to learn that the browser has gone: from our own server, or from `receive` on any other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import anyio

OnClosed = Callable[[Callable[[], None]], None]
"""Registers what to call when the client's connection is lost before the response has ended."""


@asynccontextmanager
async def closing(
    scope: MutableMapping[str, Any], receive: Callable[[], Awaitable[MutableMapping[str, Any]]]
) -> AsyncIterator[OnClosed]:
    """A way to register for the client's going. Our server calls back; on others a task watches `receive`."""
    register = scope.get("extensions", {}).get("bff.closed")
    if register is not None:
        yield register
        return
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
