"""A real Redis of a test's own: on a free loopback port, in memory alone, stopped and started again as the test likes."""

import asyncio
import contextlib
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from tests.fakes import PATIENCE, free_port

PROGRAMS: Final = ("redis-server", "valkey-server")


class RedisServer:
    """A `redis-server` process; `url` stays the same while it is stopped and started."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, empty, and wait until it answers."""
        program = next(filter(None, map(shutil.which, PROGRAMS)), None)
        if program is None:
            pytest.fail(f"{PROGRAMS[0]} is missing; install it: apt-get install {PROGRAMS[0]}")
        options = ("--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self._folder))
        quiet = asyncio.subprocess.DEVNULL
        self._process = await asyncio.create_subprocess_exec(program, *options, stdout=quiet, stderr=quiet)
        async with asyncio.timeout(PATIENCE):
            while not await self._answers():  # noqa: ASYNC110 - another process's start has no event to wait for
                await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """End it, with everything that it holds."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.kill()
            await process.wait()

    def pause(self) -> None:
        """Let it accept and say nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                writer.write(b"PING\r\n")
                return await reader.readline() == b"+PONG\r\n"
            finally:
                writer.close()
        return False


@contextlib.asynccontextmanager
async def redis_server(folder: Path) -> AsyncIterator[RedisServer]:
    """A running server while the block runs."""
    server = RedisServer(folder)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
