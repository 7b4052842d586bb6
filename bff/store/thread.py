"""One thread that does things in their order, for an event loop that never waits for them. Knows nothing of what it does."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

T = TypeVar("T")

WAITING: Final = 1024  # things that wait at most


class Full(Exception):
    """Too much is waiting already."""


class Thread:
    """Runs from its making to `close`. `idle` is called about once in `period` seconds, between two things."""

    def __init__(self, name: str, idle: Callable[[], None] = lambda: None, period: float = 1.0) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._idle = idle
        self._period = period
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def ask(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Have something done; what it gives or raises is the future's. Raises `Full`.

        Whoever cancels the future does not want it done any more; it may be done nevertheless.
        """
        if self._queue.qsize() >= WAITING:
            raise Full
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put((work, future))
        return future

    def close(self) -> asyncio.Future[None]:
        """Do what waits, then end."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._queue.put(((lambda: None), future))
        self._queue.put(None)
        return future

    def _run(self) -> None:
        due = time.monotonic() + self._period
        while True:
            with contextlib.suppress(queue.Empty):
                asked = self._queue.get(timeout=max(0.0, due - time.monotonic()))
                if asked is None:
                    return
                self._do(*asked)
            if time.monotonic() >= due:
                self._idle()
                due = time.monotonic() + self._period

    def _do(self, work: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        if future.cancelled():
            return
        try:
            result, error = work(), None
        except Exception as raised:  # noqa: BLE001 - it is raised where it was asked for
            result, error = None, raised
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(_settle, future, result, error)


def _settle(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
