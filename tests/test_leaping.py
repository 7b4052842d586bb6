"""Time that jumps to what is due."""

from __future__ import annotations

import asyncio
from threading import current_thread

import pytest

from bff.leaping import Leaping


def test_an_hour_is_over_at_once_and_things_happen_in_their_order() -> None:
    seen: list[tuple[str, float]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for name, when in (("late", 3600.0), ("early", 0.25), ("between", 1800.0)):
            loop.call_at(when, lambda name=name: seen.append((name, round(loop.time(), 3))))  # type: ignore[misc] # mypy infers no lambda with a default
        await asyncio.sleep(3601)

    with asyncio.Runner(loop_factory=Leaping) as runner:
        runner.run(main())
    assert seen == [("early", 0.25), ("between", 1800.0), ("late", 3600.0)]


def test_work_for_a_thread_is_done_in_place() -> None:
    def fail() -> None:
        raise LookupError("nothing there")

    async def main() -> None:
        assert await asyncio.to_thread(current_thread) is current_thread()
        with pytest.raises(LookupError, match="nothing there"):
            await asyncio.get_running_loop().run_in_executor(None, fail)
        assert asyncio.get_running_loop().time() < 0.001

    with asyncio.Runner(loop_factory=Leaping) as runner:
        runner.run(main())


def test_waiting_for_nothing_is_an_error_and_no_standstill() -> None:
    loop = Leaping()
    with pytest.raises(RuntimeError, match="nothing is due"):
        loop.run_until_complete(loop.create_future())
    loop.close()
