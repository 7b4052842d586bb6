"""Commands to a Redis, many at once over one connection: whatever is asked in one turn of the loop goes in one write.

One of the importers of redis; maps its exceptions to `Away`. A connection that has failed is not used again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError

from bff.store.follower import Away

Command = tuple[str | bytes | int | float, ...]
Asked = tuple[tuple[Command, ...], asyncio.Future[list[Any]]]

WAITING: Final = 1024  # commands that wait at most; what comes beyond is not worth waiting for
AT_ONCE: Final = 64
CONNECTING: Final = 1.0  # seconds to reach a server; nobody but the follower waits for that


class Lane:
    """One connection; `patience`: seconds that anybody waits for an answer."""

    def __init__(self, url: str, patience: float) -> None:
        self._patience = patience
        self._redis = Redis.from_url(
            url,
            protocol=2,
            socket_connect_timeout=CONNECTING,
            retry=Retry(NoBackoff(), 0),
            max_connections=1,
        )
        self._waiting: deque[Asked] = deque()
        self._task: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Reach the server, which must then answer in time."""
        try:
            async with asyncio.timeout(CONNECTING):
                await self._redis.connection_pool.disconnect()
                await self._send([("PING",)])
            async with asyncio.timeout(self._patience):
                await self._send([("PING",)])
        except (RedisError, OSError, ValueError) as error:
            raise _away(error) from None

    async def ask(self, *commands: Command) -> list[Any]:
        """The answers to commands, in their order. Raises `Away`, after `patience` at the latest."""
        if len(self._waiting) >= WAITING:
            raise Away("busy", "too many commands are waiting", lost=False)
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._waiting.append((commands, future))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
        try:
            async with asyncio.timeout(self._patience):
                return await future
        except TimeoutError:
            raise Away("timeout", f"no answer within {self._patience} s", lost=False) from None

    async def _run(self) -> None:
        """Send what waits until nothing does."""
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
                await self._exchange([(commands, future) for commands, future in batch if not future.done()])
        finally:
            self._task = None

    async def _exchange(self, batch: list[Asked]) -> None:
        try:
            async with asyncio.timeout(self._patience):
                answers = await self._send([command for commands, _ in batch for command in commands])
        except Exception as error:  # noqa: BLE001 - whatever ends a connection, everyone who waits on it is told
            _fail(batch, _away(error))
            await self._drop()
            return
        except asyncio.CancelledError:
            _fail(batch, Away("away", "closed"))
            raise
        for commands, future in batch:
            mine, answers = answers[: len(commands)], answers[len(commands) :]
            _give(future, mine)

    async def _send(self, commands: list[Command]) -> list[Any]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            return await pipe.execute(raise_on_error=False)

    async def _drop(self) -> None:
        with contextlib.suppress(RedisError, OSError):
            await self._redis.connection_pool.disconnect()

    async def aclose(self) -> None:
        """End; whoever waits is told."""
        while self._task is not None:  # the library may swallow a cancellation
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=0.1)
        _fail(self._waiting, Away("away", "closed"))
        self._waiting.clear()
        with contextlib.suppress(RedisError, OSError):
            await self._redis.aclose()


def _give(future: asyncio.Future[list[Any]], answers: list[Any]) -> None:
    if future.done():
        return
    wrong = next((answer for answer in answers if isinstance(answer, Exception)), None)
    if wrong is None:
        future.set_result(answers)
    else:
        future.set_exception(_away(wrong))


def _fail(batch: Iterable[Asked], error: Away) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)


def _away(error: Exception) -> Away:
    match error:
        case OutOfMemoryError():
            return Away("full", str(error), lost=False)
        case TimeoutError():
            return Away("timeout", "no answer in time", lost=False)
        case ResponseError() if str(error).startswith("WRONGTYPE"):  # somebody else's value; the server is there
            return Away("corrupt", str(error), lost=False)
        case _:
            return Away("away", str(error) or type(error).__name__)
