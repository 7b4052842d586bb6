"""The picture of one page: a line per slot with where its time went, how it ended, why, and whose it is.

Draws a finished `Report` for a terminal of any width from 60 columns; knows nothing of how the page was made. Colour only
repeats what the characters say, so the picture reads the same through a pipe, with NO_COLOR, or in ASCII.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from itertools import pairwise

from rich.console import Console
from rich.text import Text

from bff.model import Ended, Outcome, Report, Result, Timing
from bff.units import show_duration

COLOURS = {
    Outcome.FRESH: "green",
    Outcome.STALE: "yellow",
    Outcome.FALLBACK: "magenta",
    Outcome.PENDING: "cyan",
    Outcome.OMITTED: "red",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One stretch of an exchange, and how it is drawn."""

    name: str
    mark: str
    plain: str  # where the terminal has no UTF-8
    colour: str


QUEUED = Phase(name="queued", mark="·", plain=".", colour="bright_black")
CONNECT = Phase(name="connect", mark="╌", plain="-", colour="blue")
WAITING = Phase(name="first byte", mark="▒", plain="~", colour="yellow")
BODY = Phase(name="body", mark="█", plain="#", colour="green")
STORE = Phase(name="no exchange", mark="│", plain="|", colour="cyan")
PHASES = (QUEUED, CONNECT, WAITING, BODY, STORE)


def draw(report: Report, console: Console) -> None:
    """Write the page's line, a line a slot in document order, and the legend to `console`."""
    console.print(_headline(report), soft_wrap=True)  # one line to copy, however narrow the terminal
    if not report.slots:
        console.print(Text("  no slots", style="dim"))
        return
    layout = _layout(report, console)
    span = max([report.seconds, 0.001, *(ended.started + ended.result.seconds for ended in report.slots)])
    for ended in report.slots:
        console.print(_line(ended, span, layout), no_wrap=True, crop=True)
        below = " · ".join(filter(None, ["" if layout.owner else ended.owner, ended.result.detail]))
        if below:
            console.print(Text(f"    {below}", style="dim"), no_wrap=True, overflow="ellipsis")
    console.print(_legend(span, layout))


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Widths in columns; two spaces between them. Owners stand below their slots where the bars need the room."""

    key: int
    bar: int
    ending: int
    owner: int
    plain: bool


def _layout(report: Report, console: Console) -> Layout:
    width = max(console.width, 60)
    key = min(max(len(_key(ended)) for ended in report.slots), width // 4)
    ending = max(len(_ending(ended.result)) for ended in report.slots)
    owner = min(max(len(ended.owner) for ended in report.slots), width // 4)
    bar = width - key - ending - 8 - 6  # 8 for the time, 6 for the gaps
    if bar - owner - 2 >= width // 3:
        bar -= owner + 2
    else:
        owner = 0
    return Layout(key=key, bar=max(bar, 10), ending=ending, owner=owner, plain=console.options.ascii_only)


def _headline(report: Report) -> Text:
    colour = "green" if report.status < 400 else "red"
    phrase = HTTPStatus(report.status).phrase if report.status in set(HTTPStatus) else ""
    line = Text.assemble((report.page or report.path, "bold"), f"  {report.method} {report.path}  ")
    line.append(f"{report.status} {phrase}".rstrip(), style=colour)
    line.append(f"  first byte {_time(report.first_byte)}  total {_time(report.seconds)}")
    if report.disconnected:
        line.append("  disconnected", style="red")
    return line


def _line(ended: Ended, span: float, layout: Layout) -> Text:
    result = ended.result
    line = Text(_fit(_key(ended), layout.key, plain=layout.plain) + "  ")
    for phase, columns in _bar(ended, span, layout.bar):
        mark = " " if phase is None else phase.plain if layout.plain else phase.mark
        line.append(mark * columns, style=phase.colour if phase else "")
    line.append(f"{_time(result.seconds):>8}  ")
    line.append(_ending(result).ljust(layout.ending), style=COLOURS[result.outcome])
    line.append("  " + _fit(ended.owner, layout.owner, plain=layout.plain) if layout.owner else "", style="dim")
    line.rstrip()
    return line


def _bar(ended: Ended, span: float, width: int) -> Iterator[tuple[Phase | None, int]]:
    """Phases with their widths in columns, `width` in all: blank before the slot began and after it ended."""
    edges = [ended.started, *(ended.started + at for at in _edges(ended.result))]
    columns = [min(round(edge / span * width), width) for edge in edges]
    phases: Sequence[Phase] = (QUEUED, CONNECT, WAITING, BODY) if ended.result.timing else (STORE,)
    if columns[-1] == columns[0]:  # shorter than a column is still something
        columns[0] = min(columns[0], width - 1)
        columns[-1] = columns[0] + 1
        columns[1:-1] = [columns[0]] * (len(columns) - 2)
    yield None, columns[0]
    for phase, (start, end) in zip(phases, pairwise(columns), strict=True):
        yield phase, end - start
    yield None, width - columns[-1]


def _edges(result: Result) -> tuple[float, ...]:
    """Where each phase ended, in seconds since the slot began, never decreasing.

    An exchange that got no further has 0.0 for the rest: its last phase lasts as long as the slot waited. One shared
    with another page, or going on behind a late slot, is cut at the slot's own beginning and end.
    """
    timing = result.timing
    if timing is None:
        return (result.seconds,)
    reached = _reached(timing, result.seconds)
    return (*(min(at, result.seconds) for at in reached), result.seconds)


def _reached(timing: Timing, seconds: float) -> Iterator[float]:
    marks = (timing.queued, timing.connected, timing.first_byte)
    last = 0.0
    for index, at in enumerate(marks):
        further = any(marks[index:])  # a mark at 0.0 with later ones behind it was reached at once
        last = max(last, at) if further else seconds
        yield last


def _key(ended: Ended) -> str:
    return f"{'  ' if ended.parent else ''}{ended.slot:<3} {ended.key}"


def _ending(result: Result) -> str:
    age = "" if result.age is None else f" {_age(result.age)} old"
    status = f" {result.status}" if result.status is not None and result.status >= 400 else ""
    return f"{result.outcome} {result.reason}{status}{age}"


def _age(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"


def _time(seconds: float) -> str:
    if seconds >= 10:
        return show_duration(round(seconds, 1))
    return f"{seconds * 1000:.1f} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"


def _fit(text: str, width: int, *, plain: bool) -> str:
    if len(text) <= width:
        return text.ljust(width)
    return text[: width - 1] + ("~" if plain else "…")


def _legend(span: float, layout: Layout) -> Text:
    legend = Text(style="dim")
    for phase in PHASES:
        legend.append(f"{phase.plain if layout.plain else phase.mark} ", style=phase.colour)
        legend.append(f"{phase.name}  ")
    return legend.append(f"full width {_time(span)}")
