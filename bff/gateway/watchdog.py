"""Who holds up the event loop: a thread looks at the loop's stack when it has not been heard of for a second.

Python code that never yields is named while it runs, with the fragments it works for; C code that keeps the interpreter's
lock holds up this thread too, and is only told by its length, when it is over.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from bff.model import Fragment
from bff.page.call import Call
from bff.page.flight import Flight, Wait

BLOCKED: Final = 1.0
"""Seconds after which a loop counts as blocked."""
_LOOK: Final = 0.25  # seconds between looks
_FRAMES: Final = 8  # of the stack, the innermost first
_ROOT: Final = str(Path(__file__).parents[2]) + "/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Where the loop was while it was blocked: `file:line function`, the innermost first, and for which fragments."""

    where: tuple[str, ...]
    fragments: tuple[str, ...]


class Watchdog:
    """Watches the loop of the thread that calls `start`, which calls `beat` again and again.

    `blocked` is called from the watching thread, once a block.
    """

    def __init__(self, blocked: Callable[[Block], None], *, after: float = BLOCKED, look: float = _LOOK) -> None:
        self._blocked = blocked
        self._after = after
        self._look = look
        self._heard = 0.0
        self._told = False
        self._watched = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._heard, self._watched = time.monotonic(), threading.get_ident()
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="bff-watchdog", daemon=True)
        self._thread.start()

    def beat(self) -> None:
        """The loop turns."""
        self._heard, self._told = time.monotonic(), False

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(1.0)
            self._thread = None

    def _run(self) -> None:
        while not self._stop.wait(self._look):
            if not self._told and time.monotonic() - self._heard > self._after + self._look:
                frame = sys._current_frames().get(self._watched)  # noqa: SLF001 - the documented way to see other threads
                self._told = True
                if frame is not None:
                    self._blocked(seen(frame))


def seen(frame: FrameType) -> Block:
    """What a stack tells."""
    stack = [*_up(frame)]
    where = tuple(
        f"{_short(each.f_code.co_filename)}:{each.f_lineno} {each.f_code.co_name}" for each in stack[:_FRAMES]
    )
    named = [name for each in stack for value in [*each.f_locals.values()] if (name := _fragment(value))]
    return Block(where=where, fragments=tuple(dict.fromkeys(named)))


def _up(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _short(file: str) -> str:
    """A path as people know it: below this project, or below the folder of libraries."""
    return file.removeprefix(_ROOT).rpartition("site-packages/")[2]


def _fragment(value: object) -> str:
    """The fragment that a local variable is, or is about; nothing of it is called, for the loop's thread is in the midst of it."""
    match value:
        case Fragment():
            return value.name
        case Call():
            return value.fragment.name
        case Flight() | Wait():
            return value.call.fragment.name
        case _:
            return ""
