"""What a second worker is worth: pages a second of two workers that share a store, against those of one.

The load runs on the same cores, so a second worker would be measured by what it leaves to the load. Instead each worker is held to
the same share of a core by a cgroup of its own (either version), small enough that the load has all it needs. Where those
cannot be made, pages are counted for each second of CPU: that tells what workers cost one another, but not what they wait for.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

import uvloop

from tests.bench import load, servers

SHARE: Final = 0.2  # of a core, for each worker
PERIOD: Final = 10_000  # microseconds over which that holds
CLIENTS: Final = 64
PAGES: Final = {"stored": "every fragment is in the store", "mixed": "one of six fragments may not be kept"}
CGROUPS: Final = Path("/sys/fs/cgroup")


class Share:
    """A cgroup whose processes have so much of a core together. Raises `OSError` where it cannot be made."""

    def __init__(self, name: str, share: float, root: Path = CGROUPS) -> None:
        quota, second = int(share * PERIOD), (root / "cgroup.controllers").exists()
        self._group = root / ("" if second else "cpu") / name
        if second and "cpu" not in (root / "cgroup.subtree_control").read_text().split():
            (root / "cgroup.subtree_control").write_text("+cpu")
        self._group.mkdir()
        if second:
            (self._group / "cpu.max").write_text(f"{quota} {PERIOD}")
        else:
            (self._group / "cpu.cfs_period_us").write_text(str(PERIOD))
            (self._group / "cpu.cfs_quota_us").write_text(str(quota))

    def hold(self, pid: int) -> None:
        (self._group / "cgroup.procs").write_text(str(pid))

    def remove(self) -> None:
        """Once its processes have ended; they may still be on their way out."""
        for _ in range(50):
            with suppress(OSError):
                self._group.rmdir()
                return
            time.sleep(0.1)


def shares(stack: ExitStack, count: int, name: str, root: Path = CGROUPS) -> list[Share]:
    """So many of them; none where they cannot be made."""
    made: list[Share] = []
    try:
        for number in range(count):
            made.append(Share(f"bff-bench-{os.getpid()}-{name}-{number}", SHARE, root))
            stack.callback(made[-1].remove)
    except OSError:
        return []
    return made


def workers(pid: int, count: int) -> list[int]:
    """The worker processes of a gateway; of one worker, that is the gateway itself."""
    if count == 1:
        return [pid]
    for _ in range(100):
        tasks = Path(f"/proc/{pid}/task").iterdir()
        found = [int(child) for task in tasks for child in (task / "children").read_text().split()]
        if len(found) == count:
            return found
        time.sleep(0.1)
    raise RuntimeError(f"{count} workers did not start")


def stores(stack: ExitStack, folder: Path) -> Iterator[tuple[str, dict[int, str]]]:
    """Each kind of store, and a URL for so many workers; no two gateways share one."""
    yield "sqlite", {count: f"sqlite:///{folder}/{count}.sqlite" for count in (1, 2)}
    if shutil.which("redis-server"):
        port = servers.free_port()
        quiet = ["--save", "", "--bind", "127.0.0.1", "--dir", str(folder), "--port", str(port)]
        servers.start(stack, ["redis-server", *quiet], port, None, folder / "redis.log")
        yield "redis", {count: f"redis://127.0.0.1:{port}/{count}" for count in (1, 2)}


def measure(pid: int, port: int, name: str, *, seconds: float) -> dict[str, float]:
    before = servers.cpu(pid)
    found = uvloop.run(load.run(port, f"/page/{name}", clients=CLIENTS, seconds=seconds))
    spent = servers.cpu(pid) - before
    return {"pages_per_second": found.pages / seconds, "cpu_ms": spent * 1000 / max(found.pages, 1), "bad": found.bad}


def compare(stack: ExitStack, folder: Path, *, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Medians for each store and page, one worker and two in turn so that a noisy moment hits both."""
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    upstream, folder = servers.free_port(), folder / "workers"
    folder.mkdir()
    script = [sys.executable, "-m", "tests.bench.upstream", str(upstream)]
    servers.start(stack, script, upstream, None, folder / "upstream.log")
    rows: list[dict[str, Any]] = []
    for kind, urls in stores(stack, folder):
        running: dict[int, tuple[int, int]] = {}
        held = True
        for count, url in urls.items():
            home, port, cores = folder / f"{kind}-{count}", servers.free_port(), shares(stack, count, f"{kind}-{count}")
            home.mkdir()
            command = servers.gateway(home, port, upstream, f"store: {url}\nworkers: {count}\n")
            process = servers.start(stack, command, port, None, home / "log")
            for core, pid in zip(cores, workers(process.pid, count), strict=False):
                core.hold(pid)
            held = held and bool(cores)
            running[count] = process.pid, port
        if not rows:
            print(title(held), flush=True)
        for name in PAGES:
            runs: dict[int, list[dict[str, float]]] = {1: [], 2: []}
            for turn in range(rounds + 1):  # the first fills the store, and is thrown away
                for count, (pid, port) in running.items():
                    run = measure(pid, port, name, seconds=seconds if turn else 0.5)
                    runs[count] += [run] if turn else []
            rows.append(row(kind, name, runs, held=held))
            print(line(rows[-1]), flush=True)
    return rows


def row(store: str, name: str, runs: dict[int, list[dict[str, float]]], *, held: bool) -> dict[str, Any]:
    """`worth`: how many times one worker's pages two would deliver in the same time, each with as much CPU."""
    one, two = ({key: statistics.median(run[key] for run in of) for key in of[0]} for of in (runs[1], runs[2]))
    by = "pages_per_second" if held else "cpu_ms"
    worth = two[by] / max(one[by], 1e-9) if held else 2 * one[by] / max(two[by], 1e-9)
    return {
        "store": store,
        "page": name,
        "held": held,
        "one": one,
        "two": two,
        "worth": worth,
        "bad": one["bad"] + two["bad"],
    }


def title(held: bool) -> str:
    how = f"each held to {SHARE:.0%} of a core" if held else "no cgroups can be made here: by CPU per page alone"
    return (
        f"\nworkers: two that share a store against one; {how}\n"
        f"{'':22}{'one, pages/s':>14}{'CPU ms':>9}{'two, pages/s':>14}{'CPU ms':>9}{'worth':>8}{'bad':>6}"
    )


def line(found: dict[str, Any]) -> str:
    sides = "".join(f"{side['pages_per_second']:14.0f}{side['cpu_ms']:9.3f}" for side in (found["one"], found["two"]))
    return f"{found['store'] + ', ' + found['page']:22}{sides}{found['worth']:8.2f}{found['bad']:6.0f}"
