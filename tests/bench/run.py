"""`make bench`: CPU per page of this gateway beside Debian's nginx (SSI) and Varnish (ESI), for the same page; about two minutes.

The server has core 0, its upstream and the load have core 1. What counts is CPU per page, of the server's whole process tree, and its
ratio to nginx within one run; cores are noisy, and differences under 1.3 are ties. Every page is looked at: `bad` counts
those without all six fragments. At the end, two workers that share a store against one (`workers`). `--json FILE` keeps the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import uvloop

from tests.bench import load, page, servers, workers

CLIENTS = {"uncached": 64, "stored": 64, "slow": 5}


def install(programs: dict[str, str]) -> None:
    """Debian's packages for the programs that are missing, where we may install them."""
    missing = [package for program, package in programs.items() if not shutil.which(program)]
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"installing {', '.join(missing)} …", flush=True)
        quiet = {**os.environ, "RUNLEVEL": "1", "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", *missing]):
            subprocess.run(["apt-get", *command], check=True, env=quiet, stdin=subprocess.DEVNULL, capture_output=True)
    elif missing:
        print(f"left out, not installed: {', '.join(missing)} (apt-get install {' '.join(missing)})", flush=True)


def measure(pid: int, port: int, path: str, *, mode: str, seconds: float) -> dict[str, float]:
    """One run; a server's fetches that outlive their page count to the next one's cost, as they do in life."""
    before = servers.cpu(pid)
    found = uvloop.run(load.run(port, path.format(mode=mode), clients=CLIENTS[mode], seconds=seconds))
    return {
        "cpu_ms": (servers.cpu(pid) - before) * 1000 / max(found.pages, 1),
        "pages_per_second": found.pages / seconds,
        "first_byte_ms": statistics.median(found.first or [0]) * 1000,
        "last_byte_ms": statistics.median(found.last or [0]) * 1000,
        "bad": found.bad,
    }


def compare(stack: ExitStack, folder: Path, *, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Medians of each server and mode, servers in turn so that a noisy moment hits all."""
    pinned = (os.cpu_count() or 1) > 1
    if pinned:
        os.sched_setaffinity(0, {1})
    upstream = servers.free_port()
    script = [sys.executable, "-m", "tests.bench.upstream", str(upstream)]
    servers.start(stack, script, upstream, 1 if pinned else None, folder / "upstream.log")
    running: dict[Any, tuple[int, int]] = {}
    present = [s for s in servers.SERVERS if s.program == "bff" or shutil.which(s.program)]
    for server in present:
        if server.command not in running:
            home, port = folder / server.program, servers.free_port()
            home.mkdir()
            command = server.command(home, port, upstream)
            process = servers.start(stack, command, port, 0 if pinned else None, home / "log")
            running[server.command] = process.pid, port
    rows: list[dict[str, Any]] = []
    for mode, what in page.MODES.items():
        print(
            f"\n{mode}: {what}\n{'':22}{'CPU ms':>9}{'× nginx':>9}{'pages/s':>9}{'first ms':>10}{'last ms':>9}{'bad':>6}"
        )
        runs: dict[str, list[dict[str, float]]] = {server.name: [] for server in present}
        for turn in range(rounds + 1):  # the first warms pools, stores and compilers, and is thrown away
            for server in present:
                run = measure(*running[server.command], server.path, mode=mode, seconds=seconds if turn else 0.5)
                runs[server.name] += [run] if turn else []
        for name, of in runs.items():
            rows.append(
                {"server": name, "mode": mode, **{key: statistics.median(run[key] for run in of) for key in of[0]}}
            )
            base = next((r["cpu_ms"] for r in rows if r["mode"] == mode and r["server"] == "nginx SSI"), None)
            rows[-1]["ratio"] = rows[-1]["cpu_ms"] / base if base else None
            print(line(rows[-1]), flush=True)
    return rows


def line(row: dict[str, Any]) -> str:
    ratio = f"{row['ratio']:9.2f}" if row["ratio"] else f"{'–':>9}"
    times = f"{row['first_byte_ms']:10.1f}{row['last_byte_ms']:9.1f}"
    return f"{row['server']:22}{row['cpu_ms']:9.3f}{ratio}{row['pages_per_second']:9.0f}{times}{row['bad']:6.0f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1.2, help="of each run (default 1.2)")
    arguments = parser.parse_args()
    install({"nginx": "nginx", "varnishd": "varnish", "redis-server": "redis-server"})
    try:
        with tempfile.TemporaryDirectory(prefix="bff-bench-") as folder, ExitStack() as stack:
            rows = compare(stack, Path(folder), rounds=arguments.rounds, seconds=arguments.seconds)
            stack.close()
            shared = workers.compare(stack, Path(folder), rounds=arguments.rounds, seconds=arguments.seconds)
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"cores": os.cpu_count(), "rows": rows, "workers": shared}, indent=2) + "\n"
        )
    return 1 if any(row["bad"] for row in [*rows, *shared]) else 0


if __name__ == "__main__":
    sys.exit(main())
