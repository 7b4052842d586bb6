"""An event loop in virtual time: where it would wait, its clock jumps to what is due. Knows nothing of what runs on it."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar, TypeVarTuple, Unpack

Args = TypeVarTuple("Args")
Made = TypeVar("Made")


class Leaping(asyncio.SelectorEventLoop):
    """Begins at 0. What is handed to a thread is done in place; what waits for nothing that is due raises `RuntimeError`."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_Impatient(self._leap))

    def time(self) -> float:
        return self._now

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Args]], Made], *args: *Args
    ) -> asyncio.Future[Made]:
        del executor
        future: asyncio.Future[Made] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - whoever awaits it is told
            future.set_exception(error)
        return future

    def _leap(self, seconds: float) -> None:
        self._now += max(seconds, 1e-6)  # smaller steps would be lost in a large sum


class _Impatient(selectors.SelectSelector):
    """Never waits; says how long it would have."""

    def __init__(self, leap: Callable[[float], None]) -> None:
        super().__init__()
        self._leap = leap

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("nothing is due, and something is waited for")
        if not ready and timeout:
            self._leap(timeout)
        return ready
