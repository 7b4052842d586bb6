"""What a second tier is: it keeps raw answers beyond a process, and agrees with the other processes on what counts.

Words alone. Every method is bounded in time and never raises because a server or a disk is away: it answers as if it had
nothing, and counts that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from bff.model import Headers, Purge
from bff.store.record import Record

ROUNDING: Final = 0.01
"""Seconds by which the wall's clock and ours may differ from one look to the next: what is younger by less is the same copy."""

Heard = Callable[[Purge, float], None]
"""A purge that another process made, and when it did: WALL seconds of the tier's own clock."""

Failed = Callable[[str], None]
"""Count a call that came to nothing: `away`, `timeout`, `busy`, `full`, `corrupt`."""


class Tell(Protocol):
    """Log something by name."""

    def __call__(self, event: str, *, level: str = "info", **fields: Any) -> None: ...


class Tier(Protocol):
    """A second tier. `began` is when a fetch did, on the loop's clock: what was purged since does not come back by it."""

    @property
    def reached(self) -> bool:
        """Whether the last that was heard of it is that it works."""

    @property
    def settled(self) -> bool:
        """Whether it works, and all processes are told what this one has purged."""

    async def get(self, key: str) -> Record | None:
        """The record with this key, unless it was purged; marked (`stale_at`) where a purge made it stale."""

    async def put(self, record: Record, *, keep: float, began: float) -> None:
        """Keep a record in place of any with its key, for `keep` seconds."""

    async def touch(self, key: str, headers: Headers, born: float, *, keep: float, began: float) -> None:
        """A 304 with these headers, which may be stored, has confirmed the record: it counts as born then (WALL)."""

    async def lease(self, key: str, seconds: float) -> bool:
        """Whether the caller is the one to fetch, for so long at most. Yes where nobody can be asked."""

    async def release(self, key: str) -> None:
        """Give up a lease of one's own."""

    async def purge(self, *purges: Purge) -> bool:
        """Void what purges meet, and tell all processes; False where that must wait until the tier is back."""

    def subscribe(self, heard: Heard) -> None:
        """Hear the purges of all other processes, within 250 ms."""

    async def value(self, name: str) -> bytes | None:
        """A small shared setting."""

    async def set_value(self, name: str, data: bytes, *, keep: float | None = None) -> None:
        """Change one; for `keep` seconds, or for good."""

    async def add_value(self, name: str, data: bytes) -> bytes:
        """The setting as whoever came first has made it: all processes have the same one. One's own where the tier is away."""

    async def start(self) -> None:
        """Begin; where the tier is away, go on without it until it comes."""

    async def aclose(self) -> None:
        """End; write what waits to be written, if that is soon done."""
