"""A real gateway under mixed faults and mixed clients for a long while; then quiet; then what it left behind.

`python -m tests.soak.run [--seconds 600] [--json FILE]`. Ends with 1 where a promise was broken: a page that failed though its primary was well,
more than 50 MiB of growth after the warm-up, descriptors or responses left over after the quiet, an exception in the log.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import sys
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any, Final

from tests.e2e.gateway import Process, Site, running
from tests.fakes import free_port
from tests.soak.clients import Crowd, Seen
from tests.soak.contexts import serve, settings

CLIENTS: Final = 48
GROWTH: Final = 50 * 1024 * 1024
QUIET: Final = 30.0
"""Seconds within which all that was under way is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """The process at one moment."""

    descriptors: int
    resident: int  # bytes
    cpu: float  # seconds so far
    streams: int  # responses under way, this one included
    places: int  # exchanges with contexts under way
    entries: int


async def numbers(gateway: Process) -> Numbers:
    async with await gateway.get("/_bff/metrics") as answer:
        text = await answer.rest()

    def value(name: str) -> float:
        return sum(map(float, re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)))

    return Numbers(
        descriptors=int(value("process_open_fds")),
        resident=int(value("process_resident_memory_bytes")),
        cpu=value("process_cpu_seconds_total"),
        streams=int(value("bff_streams")),
        places=int(value("bff_upstream_inflight")),
        entries=int(value("bff_cache_entries")),
    )


async def quiet(gateway: Process, baseline: Numbers) -> Numbers:
    """The numbers when they are back where they were, or when it has been quiet for long enough."""
    until = asyncio.get_running_loop().time() + QUIET
    while True:
        now = await numbers(gateway)
        calm = now.descriptors <= baseline.descriptors and now.streams <= baseline.streams and not now.places
        if calm or asyncio.get_running_loop().time() > until:
            return now
        await asyncio.sleep(0.5)


async def soak(folder: Path, seconds: float, seed: int) -> dict[str, Any]:
    """The report."""
    dice, site, port = random.Random(seed), Site(folder), free_port()
    site.settings(settings())
    where = ("--config", str(folder / "bff.yaml"), "--fragments", str(site.fragments), "--port", str(port))
    async with AsyncExitStack() as stack:
        await serve(stack, site, dice)
        async with running("serve", *where, port=port, log=folder / "log") as gateway:
            baseline = await numbers(gateway)
            warm, crowd = max(seconds / 5, min(seconds / 2, 40.0)), Crowd(gateway.origin, dice)
            await Crowd(gateway.origin, dice).visit(CLIENTS, warm)
            warmed = await quiet(gateway, baseline)
            await crowd.visit(CLIENTS, seconds - warm)
            busy = await numbers(gateway)
            after = await quiet(gateway, baseline)
        log = gateway.logs()
    found = leaks(baseline, warmed, after) + [f"{count} × {what}" for what, count in crowd.seen.broken.items()]
    exceptions = [line[:300] for line in log.splitlines() if '"exception"' in line or '"level":"error"' in line]
    found += [f"{len(exceptions)} errors in the log, such as {exceptions[0]}"] if exceptions else []
    process = {"baseline": baseline, "warmed up": warmed, "busy": busy, "after quiet": after}
    return {"seconds": seconds, "seed": seed, "clients": CLIENTS, "broken": found, **told(crowd.seen)} | {
        "process": {name: {key: getattr(each, key) for key in Numbers.__slots__} for name, each in process.items()}
    }


def leaks(baseline: Numbers, warmed: Numbers, after: Numbers) -> list[str]:
    found = []
    if after.resident - warmed.resident > GROWTH:
        found.append(f"memory grew by {(after.resident - warmed.resident) / 2**20:.0f} MiB after the warm-up")
    if after.descriptors > baseline.descriptors:
        found.append(f"{after.descriptors - baseline.descriptors} descriptors are left over")
    if after.places:
        found.append(f"{after.places} places at contexts are still taken")
    if after.streams > baseline.streams:
        found.append(f"{after.streams - baseline.streams} responses are still under way")
    return found


def told(seen: Seen) -> dict[str, Any]:
    times = {}
    for kind, of in sorted(seen.times.items()):
        cuts = quantiles(of, n=100) if len(of) > 1 else [*of] * 99
        times[kind] = {"count": len(of), "p50_ms": round(cuts[49] * 1e3, 1), "p99_ms": round(cuts[98] * 1e3, 1)}
    return {
        "statuses": dict(sorted(seen.statuses.items())),
        "outcomes": {name: dict(of.most_common()) for name, of in sorted(seen.outcomes.items())},
        "latencies": times,
        "errors": dict(seen.errors.most_common()),
    }


def lines(report: dict[str, Any]) -> list[str]:
    """The report for a terminal."""
    said = [f"{report['seconds']:.0f} s, {report['clients']} clients, seed {report['seed']}", "", "process"]
    for name, each in report["process"].items():
        memory = f"{each['resident'] / 2**20:.0f} MiB"
        said.append(f"  {name:12}{each['descriptors']:5} descriptors {memory:>9} {each['cpu']:8.1f} s CPU {each['streams']:4} responses {each['places']:4} places {each['entries']:6} kept")  # fmt: skip
    said += ["", f"{'latencies':14}{'count':>8}{'p50 ms':>10}{'p99 ms':>10}"]
    said += [
        f"  {kind:12}{of['count']:8}{of['p50_ms']:10}{of['p99_ms']:10}" for kind, of in report["latencies"].items()
    ]
    for title in ("outcomes", "statuses", "errors"):
        said += ["", title, *(f"  {name}: {_counts(of)}" for name, of in report[title].items())]
    return [*said, "", *(f"BROKEN: {each}" for each in report["broken"] or ()), *([] if report["broken"] else ["all promises held"])]  # fmt: skip


def _counts(of: Any) -> str:
    return ", ".join(f"{count} {what}" for what, count in of.items()) if isinstance(of, dict) else str(of)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(2)), help="of what clients do")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there as well")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bff-soak-") as folder:
        report = asyncio.run(soak(Path(folder), arguments.seconds, arguments.seed))
    sys.stdout.write("\n".join(lines(report)) + "\n")
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    return 1 if report["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
