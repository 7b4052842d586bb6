"""A body that goes out to any number of readers while it comes in.

As long as it may be kept, all of it is held and comes in at its own pace, so that no reader holds up another; otherwise
only what the slowest reader has not taken, and whoever adds waits. Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from bff.model import Failure
from bff.upstream.stream import Torn

WINDOW: Final = 64 * 1024
"""Bytes that may wait for the slowest reader of a body that is not kept."""


class Spool:
    """See the module. `unread` is called whenever the last reader has left, `outgrown` once more than `keep` bytes came."""

    def __init__(self, unread: Callable[[], None], outgrown: Callable[[], None]) -> None:
        self._unread = unread
        self._outgrown = outgrown
        self.keep = 0  # bytes that are held; 0: it is not kept
        self.ended = False
        self.failure: Failure | None = None
        self._pieces: list[bytes] = []
        self._first = 0  # the number of the first piece that is held
        self._held = 0  # bytes
        self._readers: list[Reader] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._room: asyncio.Future[None] | None = None

    @property
    def readers(self) -> int:
        return len(self._readers)

    def reader(self) -> Reader:
        """A reader from the beginning. Only while nothing has been let go of."""
        made = Reader(self)
        self._readers.append(made)
        return made

    def whole(self) -> bytes:
        """All of it, where it is kept and has ended well."""
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)

    # --- whoever adds

    def add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._held += len(piece)
        if self.keep and self._held > self.keep:
            self.keep = 0
            self._outgrown()
        self._trim()
        self._wake()

    async def room(self) -> None:
        """Wait until more may be added."""
        while not self.keep and self._held >= WINDOW and self._readers:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def end(self, failure: Failure | None = None) -> None:
        """Nothing more comes; `failure`: and it is not complete."""
        if not self.ended:
            self.ended, self.failure = True, failure
            self._wake()

    # --- readers

    def piece(self, number: int) -> bytes | None:
        """The piece of a number; None where it is not here yet."""
        at = number - self._first
        return self._pieces[at] if at < len(self._pieces) else None

    async def more(self) -> None:
        """Wait until something was added, or it has ended."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future

    def took(self) -> None:
        """A reader has gone on."""
        self._trim()

    def left(self, reader: Reader) -> None:
        if reader in self._readers:
            self._readers.remove(reader)
            self._trim()
            if not self._readers:
                self._unread()

    # --- the rest

    def _trim(self) -> None:
        """Let go of what nobody needs any more."""
        if self.keep or self.ended:
            return
        slowest = min((reader.number for reader in self._readers), default=self._first + len(self._pieces))
        over = slowest - self._first
        if over > 0:
            self._held -= sum(map(len, self._pieces[:over]))
            del self._pieces[:over]
            self._first = slowest
        if self._room is not None and (self._held < WINDOW or not self._readers):
            room, self._room = self._room, None
            if not room.done():
                room.set_result(None)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)


class Reader:
    """One reader's place in a spool. `leave` ends it, any number of times."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self.number = 0

    def ready(self) -> bytes:
        """The next piece where it is here; b"" where it must be waited for, or there is none."""
        piece = self._spool.piece(self.number)
        if piece is None:
            return b""
        self.number += 1
        self._spool.took()
        return piece

    async def next(self) -> bytes:
        """The next piece; b"" at the end. Raises `Torn` where it ended early."""
        while not (piece := self.ready()):
            if self._spool.failure is not None:
                raise Torn(self._spool.failure)
            if self._spool.ended:
                return b""
            await self._spool.more()
        return piece

    def leave(self) -> None:
        self._spool.left(self)
