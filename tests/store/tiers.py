"""Tiers under test: a Redis server of one's own, a file of one's own, and what they have told."""

import asyncio
import contextlib
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from bff.store.record import Record
from bff.store.redis import RedisTier
from bff.store.sqlite import SqliteTier
from tests.fakes import free_port, until

PATIENT: Final = 5.0
"""Seconds a tier waits under test where slowness is not what is tested."""


def record(key: str = "a/b?x=1", body: bytes = b"body", **changes: Any) -> Record:
    given: dict[str, Any] = {
        "key": key,
        "fragment": "a/b",
        "version": "v1",
        "status": 200,
        "headers": ((b"content-type", b"text/html"), (b"etag", b'"1"')),
        "body": body,
        "born": time.time(),
        "tags": ("course:1", "all"),
    }
    return Record(**{**given, **changes})


class RedisServer:
    """A redis-server on loopback."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        program = shutil.which("redis-server") or shutil.which("valkey-server")
        assert program, "the store's tests need a real server: apt-get install redis-server"
        self._process = subprocess.Popen(
            [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self._folder), *options],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 10
        while b"PONG" not in self.said(b"PING"):
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.01)

    def said(self, *words: bytes) -> bytes:
        """What the server says to one command."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as sock:
            sock.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words))
            return sock.recv(1 << 16)
        return b""

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self._process is not None:
            self.resume()
            self._process.kill()
            self._process.wait()
            self._process = None


@dataclass
class Told:
    """What a tier has counted and said."""

    failures: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)

    def tell(self, event: str, *, level: str = "info", **fields: Any) -> None:
        self.events.append(event)


T = TypeVar("T", RedisTier, SqliteTier)


@dataclass
class Place(Generic[T]):
    """Somewhere to keep things; each tier opened on it is as another process."""

    make: Callable[..., T]
    told: Told = field(default_factory=Told)
    _stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    async def open(self, **changes: Any) -> T:
        tier = self.make(failed=self.told.failures.append, tell=self.told.tell, **{"patience": PATIENT, **changes})
        await tier.start()
        self._stack.push_async_callback(tier.aclose)
        return tier

    async def close(self) -> None:
        await self._stack.aclose()


async def back(tier: RedisTier | SqliteTier) -> None:
    """Until what was purged meanwhile is written and read, whatever is put counts as older than that."""
    ledger = tier._ledger
    await until(lambda: tier.reached and not (ledger.owed or ledger._own), "the tier is reached, and owed nothing")


def now() -> float:
    return asyncio.get_running_loop().time()
