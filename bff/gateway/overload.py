"""How much the gateway has to do, measured: the loop's lag and the process's memory, and what is shed for it.

Performs what `rules.overload` decides, at the telemetry's beat. Knows what of Linux tells memory and its limit; elsewhere
memory counts for nothing.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bff.rules.overload import IDLE, Level, Limit, beaten

_LOG: Final = logging.getLogger("bff.overload")
_UNLIMITED: Final = 1 << 60  # what cgroups say for "no limit" is about that, or a word


class Overload:
    """The load of this process. `share()`: the part of its memory limit that it holds."""

    def __init__(self, share: Callable[[], float]) -> None:
        self._share = share
        self._load = IDLE

    def beat(self, lag: float) -> None:
        """The loop was `lag` seconds late."""
        before, self._load = self._load, beaten(self._load, lag, self._share())
        now = self._load
        if now.level is not before.level:
            detail = f"{now.limit}: {_SHED[now.level]}" if now.level else "over"
            _LOG.warning("overload %s (lag %.3f s, memory %.0f %%)", detail, min(now.lags), 100 * self._share())

    def optional(self) -> Limit:
        """The limit for which optional slots are not fetched; "" where they are."""
        return self._load.limit if self._load.level >= Level.OPTIONAL else ""

    def pages(self) -> Limit:
        """The limit for which no page is begun; "" where they are."""
        return self._load.limit if self._load.level >= Level.PAGES else ""


_SHED: Final = {Level.OPTIONAL: "optional slots are left out", Level.PAGES: "no page is begun"}


def memory_share(processes: int = 1) -> Callable[[], float]:
    """A function that gives the part of its memory limit that this process holds, one of `processes` that share it."""
    limit = memory_limit() / max(processes, 1)
    page = os.sysconf("SC_PAGE_SIZE")

    def share() -> float:
        try:
            resident = int(Path("/proc/self/statm").read_bytes().split()[1])
        except (OSError, ValueError, IndexError):
            return 0.0
        return resident * page / limit

    return share


def memory_limit(root: Path = Path("/")) -> int:
    """Bytes that this process may have: the machine's, or its cgroup's where that is less."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for file in _limits(root):
        try:
            text = (root / file).read_text().strip()
        except OSError:
            continue
        if text.isdecimal() and 0 < int(text) < _UNLIMITED:
            found.append(int(text))
    return min(found)


def _limits(root: Path) -> list[str]:
    """Where the limits of this process's cgroup, and of those around it, are told (cgroups(7), both versions)."""
    files = ["sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"]
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return files
    for line in lines:
        _, controllers, path = line.split(":", 2)
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for end in range(len(parts)):
            at = "/".join(parts[: end + 1])
            if not controllers:
                files.append(f"sys/fs/cgroup/{at}/memory.max")
            elif "memory" in controllers.split(","):
                files.append(f"sys/fs/cgroup/memory/{at}/memory.limit_in_bytes")
    return files
