"""The service behind every server of the benchmark: fragments by mode, and the shells that Varnish fetches.

`python -m tests.bench.upstream PORT`. `/uncached/N` may not be kept, `/stored/N` for an hour, `/slow/N` answers after 50 ms and may not be
kept; `/shell/MODE` is the shell with ESI includes. HTTP/1.1 with keep-alive, one request at a time, no body.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop

from tests.bench import page


def answer(body: bytes, cache: str) -> bytes:
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nCache-Control: {cache}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def answers() -> dict[bytes, tuple[float, bytes]]:
    """Delay in seconds and whole answer by path."""
    found: dict[bytes, tuple[float, bytes]] = {}
    for mode in page.MODES:
        delay, cache = page.SLOW if mode == "slow" else 0.0, "max-age=3600" if mode == "stored" else "no-store"
        found[f"/shell/{mode}".encode()] = 0.0, answer(page.esi(mode), "max-age=3600")
        for number in range(1, page.FRAGMENTS + 1):
            found[f"/{mode}/{number}".encode()] = delay, answer(page.fragment(number), cache)
    return found


class Upstream(asyncio.Protocol):
    """One connection."""

    def __init__(self, table: dict[bytes, tuple[float, bytes]]) -> None:
        self._table = table
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:

        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        *requests, self._buffer = (self._buffer + data).split(b"\r\n\r\n")
        for request in requests:
            path = request.split(b" ", 2)[1]
            delay, whole = self._table.get(path, (0.0, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"))
            if delay:
                asyncio.get_running_loop().call_later(delay, self._transport.write, whole)
            else:
                self._transport.write(whole)


async def serve(port: int) -> None:
    table = answers()
    server = await asyncio.get_running_loop().create_server(lambda: Upstream(table), "127.0.0.1", port, backlog=1024)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
