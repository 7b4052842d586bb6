"""The load: so many clients on keep-alive connections, each asking for the page again as soon as it has it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import cast

from tests.bench import page


@dataclass(slots=True, kw_only=True)
class Load:
    """What a run found; times are seconds from asking."""

    request: bytes
    seconds: float
    clients: int
    pages: int = 0
    bad: int = 0
    first: list[float] = field(default_factory=list)
    last: list[float] = field(default_factory=list)


class Client(asyncio.Protocol):
    """One connection: asks, reads to the end of the answer, looks at it, asks again until time is up."""

    def __init__(self, load: Load, until: float) -> None:
        self._load, self._until = load, until
        self.gone = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:

        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self._ask()

    def _ask(self) -> None:
        self._answer, self._length, self._began, self._first = b"", 0, time.perf_counter(), 0.0
        self._transport.write(self._load.request)

    def data_received(self, data: bytes) -> None:
        self._first = self._first or time.perf_counter() - self._began
        self._answer += data
        self._length = self._length or _length(self._answer)
        chunked_end = self._length < 0 and self._answer.endswith(b"0\r\n\r\n")
        if chunked_end or 0 < self._length <= len(self._answer):
            self._finish()

    def _finish(self) -> None:
        load, now = self._load, time.perf_counter()
        load.pages += 1
        load.first.append(self._first)
        load.last.append(now - self._began)
        good = self._answer.startswith(b"HTTP/1.1 200") and self._answer.count(page.MARK) == page.FRAGMENTS
        load.bad += not good
        if now < self._until:
            self._ask()
        else:
            self._transport.close()

    def connection_lost(self, _error: Exception | None) -> None:
        if time.perf_counter() < self._until:  # the server ended it: a page that nobody got
            self._load.bad += 1
        self.gone.set_result(None)


def _length(answer: bytes) -> int:
    """The whole answer's length in bytes, -1 where it is chunked, 0 where the head is not complete."""
    end = answer.find(b"\r\n\r\n")
    if end < 0:
        return 0
    for line in answer[:end].lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return end + 4 + int(line[15:])
    return -1


async def run(port: int, path: str, *, clients: int, seconds: float) -> Load:
    """Load `path` for so many seconds, then let each client finish the page it waits for."""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: text/html\r\n\r\n".encode()
    load = Load(request=request, seconds=seconds, clients=clients)
    loop, until = asyncio.get_running_loop(), time.perf_counter() + seconds
    opened = [await loop.create_connection(lambda: Client(load, until), "127.0.0.1", port) for _ in range(clients)]
    await asyncio.wait_for(asyncio.gather(*(client.gone for _, client in opened)), seconds + 10)
    return load
