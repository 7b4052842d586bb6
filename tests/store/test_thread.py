import asyncio
import threading

import pytest

from bff.store.thread import WAITING, Full, Thread
from tests.fakes import until

pytestmark = pytest.mark.anyio


async def test_things_are_done_in_their_order_and_the_loop_goes_on() -> None:
    thread, gate = Thread("test"), threading.Event()
    done: list[int] = []
    first = thread.ask(lambda: done.append(1) if gate.wait(10) else None)
    second = thread.ask(lambda: done.append(2))
    for _ in range(100):
        await asyncio.sleep(0)  # the loop turns while the thread waits
    assert done == []
    gate.set()
    await first
    await second
    assert done == [1, 2]
    await thread.close()


async def test_what_is_raised_is_raised_where_it_was_asked() -> None:
    thread = Thread("test")
    with pytest.raises(ZeroDivisionError):
        await thread.ask(lambda: 1 / 0)
    assert await thread.ask(lambda: 7) == 7
    await thread.close()


async def test_what_nobody_waits_for_is_not_done() -> None:
    thread, gate, done = Thread("test"), threading.Event(), []
    busy = thread.ask(lambda: gate.wait(10))
    unwanted = thread.ask(lambda: done.append(1))
    unwanted.cancel()
    busy.cancel()
    gate.set()
    await thread.close()
    assert done == []


async def test_too_much_is_refused() -> None:
    thread, gate = Thread("test"), threading.Event()
    thread.ask(lambda: gate.wait(10))
    while thread._queue.qsize() < WAITING:
        thread.ask(lambda: None)
    with pytest.raises(Full):
        thread.ask(lambda: None)
    gate.set()
    await thread.close()


async def test_idle_things_are_done_even_where_there_is_always_something_to_do() -> None:
    times = []
    thread = Thread("test", lambda: times.append(1), period=0.01)
    await until(lambda: times, "idle is called")
    count = len(times)
    for _ in range(1000):
        await thread.ask(lambda: None)
        if len(times) > count + 1:
            break
        await asyncio.sleep(0.001)
    assert len(times) > count + 1
    await thread.close()


def test_a_loop_that_is_gone_is_not_told() -> None:
    gate = threading.Event()

    async def leave() -> Thread:
        thread = Thread("test")
        thread.ask(lambda: gate.wait(10))
        return thread

    thread = asyncio.run(leave())
    gate.set()
    thread._queue.put(None)
    thread._thread.join(10)
    assert not thread._thread.is_alive()
