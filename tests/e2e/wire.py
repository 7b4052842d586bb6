"""A raw HTTP/1.1 client that shows a response while it arrives: what has come so far, and in which order."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Self

import httptools

from tests.fakes import PATIENCE


class Exchange:
    """One request and its response under way. `text` is what has arrived of the body, chunking taken off."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, method: str) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.complete = False
        self._reader, self._writer = reader, writer
        self._head = False
        self._method = method
        self._parser = httptools.HttpResponseParser(self)

    async def __aenter__(self) -> Self:
        await self._until(lambda: self._head, "a response head")
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.leave()

    async def leave(self) -> None:
        """Close the connection, whatever is still to come."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    @property
    def text(self) -> str:
        return self.body.decode()

    async def until(self, text: str, within: float = PATIENCE) -> str:
        """Read until `text` has arrived; gives everything so far."""
        await self._until(lambda: text.encode() in self.body, repr(text), within)
        return self.text

    async def rest(self, within: float = PATIENCE) -> str:
        """Read to the end; gives the whole body."""
        await self.whole(within)
        return self.text

    async def whole(self, within: float = PATIENCE) -> bytes:
        """Read to the end; gives the body as it was sent."""
        await self._until(lambda: self.complete, "the end", within)
        return self.body

    async def _until(self, condition: Callable[[], bool], what: str, within: float = PATIENCE) -> None:
        try:
            async with asyncio.timeout(within):
                while not condition():
                    data = await self._reader.read(65536)
                    if not data:
                        break
                    self._parser.feed_data(data)
        except TimeoutError:
            raise AssertionError(f"{what} did not arrive within {within} s; so far: {self.text[-2000:]!r}") from None
        if not condition():
            raise AssertionError(f"the response ended before {what}; all of it: {self.text!r}")

    def on_header(self, name: bytes, value: bytes) -> None:
        key, text = name.decode().lower(), value.decode("latin-1")
        self.headers[key] = f"{self.headers[key]}\n{text}" if key in self.headers else text

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self._head = True
        if self._method == "HEAD" or self.status in {204, 304}:
            self.complete = True

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


async def ask(
    origin: str,
    path: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> Exchange:
    """Send one request on a connection of its own. `headers` replace the defaults by name."""
    host, port = origin.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = {"host": f"{host}:{port}", "accept": "text/html", "connection": "close"}
    if body:
        lines["content-length"] = str(len(body))
    lines |= {name.lower(): value for name, value in (headers or {}).items()}
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n"
    writer.write(head.encode("latin-1") + body)
    return Exchange(reader, writer, method)
