"""The benchmark's page: a shell of 4 KiB with six fragments of 2 KiB, in the dialect of each server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

FRAGMENTS: Final = 6
SLOW: Final = 0.05  # seconds a fragment of mode `slow` takes
MODES: Final = {
    "uncached": "answers may not be kept: six fetches a page",
    "stored": "every fragment is in the server's store",
    "slow": f"each fragment takes {SLOW * 1000:.0f} ms; few clients, so that times are not queues",
}
MARK: Final = b"data-end="  # once in each fragment; a page with fewer is a bad one


def fragment(number: int) -> bytes:
    """One fragment of 2 KiB: a list of cards, as a real one would be."""
    head = f'<section class="cards"><h2>Fragment {number}</h2><ul>'
    tail = f'</ul><p data-end="{number}">Updated today</p></section>'
    item = (
        f'<li class="card"><a href="/courses/{number}"><strong>A course</strong></a> <span>12 € · 6 weeks</span></li>'
    )
    count = (2048 - len(head) - len(tail)) // len(item.encode())
    return (head + item * count + tail).encode().ljust(2048)


def shell(include: Callable[[int], str]) -> bytes:
    """The page of 4 KiB around the six places that `include` writes."""
    head = '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Benchmark</title></head><body>'
    prose = "<p>What stands in the shell itself: navigation, headings, a footer, words that never change.</p>"
    places = "".join(f"<main>{prose * 6}{include(n)}</main>" for n in range(1, FRAGMENTS + 1))
    tail = "<footer>The end of the page.</footer></body></html>"
    return (head + places + tail).encode()


def ssi(mode: str) -> bytes:
    return shell(lambda n: f'<!--# include virtual="/{mode}/{n}" -->')


def esi(mode: str) -> bytes:
    return shell(lambda n: f'<esi:include src="/{mode}/{n}"/>')


def slots(mode: str, *, core: bool) -> bytes:
    return shell(lambda n: f'<bff-fragment name="bench/{mode}" n="{n}"{" core" if core else ""}></bff-fragment>')


def mixed() -> bytes:
    """Five fragments that may be kept, and one that may not."""
    modes = ["uncached", *["stored"] * (FRAGMENTS - 1)]
    return shell(lambda n: f'<bff-fragment name="bench/{modes[n - 1]}" as="slot-{n}" n="{n}" core></bff-fragment>')
