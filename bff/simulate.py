"""What a page would do if its contexts were slow, down or broken: the registered policies at work on imagined answers.

The page is made by what serves it, in this process, on a loop whose clock jumps to whatever is due next: nobody is asked,
nothing is waited for, and the times are those of the policies, whatever machine this is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from bff.chosen import Chosen, Unusable
from bff.gateway.identity import Identity
from bff.gateway.pages import Pages
from bff.gateway.request import Locales
from bff.gateway.telemetry import Counters
from bff.gateway.wiring import planner
from bff.leaping import Leaping
from bff.markup.check import Checker
from bff.model import (
    Ask,
    Exchange,
    Failure,
    Fragment,
    Outcome,
    Purge,
    Reason,
    Reply,
    Report,
    Result,
    Step,
    Timeout,
    Timing,
)
from bff.page.plan import BadQuery, Planned, SlotPlan
from bff.page.resolve import Resolver
from bff.page.tasks import Underway
from bff.registry import Registry
from bff.rules import serve
from bff.rules.caching import Fields
from bff.rules.policy import suggestion
from bff.rules.tasks import Signer
from bff.store.memory import MemoryStore
from bff.timer import Timer
from bff.units import duration, show_duration
from bff.upstream.guarded import Guarded
from bff.upstream.sources import known
from bff.upstream.sources.content import Content, Read
from bff.upstream.sources.html import checked

Number = TypeVar("Number", int, float)
WALL: Final = 1_750_000_000.0
"""What the imagined wall clock says in the beginning: a day like any other, and the same in every run."""
USUAL: Final = 0.02  # seconds until a context that is well answers
PAST: Final = 60.0  # seconds that a stale copy is past its time


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """What is wrong with a context or a fragment: slow by seconds, an error by status, or down."""

    slow: float = USUAL
    status: int = 200
    down: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What is imagined, by name of context or fragment; the fragment's own name wins. `stale`: there are copies past their time."""

    wrong: Mapping[str, Wrong] = field(default_factory=dict)
    stale: bool = False

    def of(self, fragment: Fragment) -> Wrong:
        return self.wrong.get(fragment.name) or self.wrong.get(fragment.context) or Wrong()


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """The page that came of it; `lines` say what each slot would be, and why."""

    report: Report
    lines: tuple[str, ...]


def asked(slow: Iterable[str], down: Iterable[str], error: Iterable[str], *, stale: bool) -> Scene:
    """The scene of what was typed: `NAME=DURATION`, `NAME`, `NAME=STATUS`. Raises `Unusable`."""
    wrong: dict[str, Wrong] = {}
    for text in slow:
        name, seconds = _pair(text, duration, "discovery=3s")
        wrong[name] = replace(wrong.get(name, Wrong()), slow=seconds)
    for text in error:
        name, status = _pair(text, _status, "discovery=500")
        wrong[name] = replace(wrong.get(name, Wrong()), status=status)
    for name in down:
        wrong[name] = replace(wrong.get(name, Wrong()), down=True)
    return Scene(wrong=wrong, stale=stale)


def _pair(text: str, parse: Callable[[str], Number], example: str) -> tuple[str, Number]:
    name, _, value = text.partition("=")
    try:
        return name, parse(value)
    except ValueError:
        raise Unusable(f"{text!r} says nothing; write {example}") from None


def _status(text: str) -> int:
    if not text.isdecimal() or not 200 <= int(text) <= 599:
        raise ValueError(text)
    return int(text)


def simulate(chosen: Chosen, registry: Registry, path: str, scene: Scene, *, principal: str = "") -> Simulated:
    """Make one page in a scene. Raises `Unusable` where there is no page at the path, or a name of the scene is none."""
    world = registry.world
    there = [*world.contexts, *world.fragments]
    for name in scene.wrong:
        if name not in there:
            raise Unusable(f"there is no context or fragment {name!r}; {suggestion(name, there)}")
    with asyncio.Runner(loop_factory=Leaping) as runner:
        return runner.run(_simulated(chosen, registry, path, scene, principal or None))


async def _simulated(chosen: Chosen, registry: Registry, path: str, scene: Scene, principal: str | None) -> Simulated:
    stage = Stage(chosen, registry, principal)
    if scene.stale:
        await stage.page(path)
        stage.age()
    stage.fetch.scene = scene
    report = await stage.page(path)
    try:
        planned = stage.planned(path)
    except BadQuery as bad:
        raise Unusable(str(bad)) from None
    if report is None or planned is None:
        routes = ", ".join(sorted(page.route for page in registry.world.pages.values())) or "none"
        raise Unusable(f"there is no page at {path}; routes are {routes}")
    return Simulated(report=report, lines=tuple(told(report, planned, stage.kept)))


class Stage:
    """The gateway's own pages, resolver and store over imagined contexts, all on one leaping loop."""

    def __init__(self, chosen: Chosen, registry: Registry, principal: str | None) -> None:
        loop = asyncio.get_running_loop()
        settings, self._world = chosen.settings, registry.world
        self._principal = principal
        self._locales = Locales(settings.locales)
        self.now = loop.time
        self.fetch = Imagined(loop)
        telemetry, checker, timer = Counters(), Checker(), Timer(loop)
        self._store = MemoryStore(settings.memory, telemetry.evicted)
        self.kept: frozenset[str] = frozenset()  # the fragments of which there are copies

        def wall() -> float:
            return WALL + loop.time()

        guarded = Guarded(self.fetch, loop, timer, counts=telemetry, wall=wall, chance=_even)
        resolver = Resolver(
            store=self._store,
            fetch=guarded.start,
            sources={name: _Source(checker, kind.accept) for name, kind in known.kinds().items()},
            checker=checker,
            timer=timer,
            telemetry=telemetry,
            tasks=Underway(Signer([b"simulated"]), wall),
            clock=loop.time,
            wall=wall,
            chance=_even,
        )
        self._pages = Pages(
            planner=planner(registry, registry.world),
            resolver=resolver,
            timer=timer,
            telemetry=telemetry,
            clock=loop.time,
            identify=lambda _headers, _client: Identity(principal),
            trusted=lambda _client: False,
            locales=self._locales,
            logs_slots=True,
            dev=False,
        )

    async def page(self, path: str) -> Report | None:
        """Make the page to its end; None where there is none."""
        reports: list[Report] = []
        self._pages.witness = reports.append
        parts = urlsplit(path)
        scope = {
            "type": "http",
            "method": "GET",
            "path": parts.path,
            "raw_path": parts.path.encode(),
            "query_string": parts.query.encode(),
            "headers": [(b"accept", b"text/html")],
            "client": ("127.0.0.1", 0),
            "extensions": {},
        }
        await self._pages.stream(scope, _nowhere, lambda _callback: None)
        return reports[0] if reports else None

    def planned(self, path: str) -> Planned | None:
        parts = urlsplit(path)
        locale = self._locales.negotiate(b"")
        return self._pages.planner.find(parts.path.encode(), parts.query.encode(), self._principal, locale)

    def age(self) -> None:
        """Make every copy one that is past its time."""
        entries = list(self._store.matching(Purge(kind="all")))
        for entry in entries:
            cache = self._world.fragments[entry.fragment].policy.cache
            entry.born = self.now() - serve.lifetime(entry.terms, entry.status, cache) - PAST
            entry.seen = None
        self.kept = frozenset(entry.fragment for entry in entries)


class Imagined:
    """A `Fetch` that asks nobody: each exchange ends as the scene says, within the times of its policy."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.scene = Scene()

    def __call__(self, ask: Ask, done: Callable[[Reply | Failure], None]) -> Exchange:
        wrong = self.scene.of(ask.fragment) if ask.fragment is not None else Wrong()
        after, answer = _answer(wrong, ask.bounds.timeout)
        return self._loop.call_later(after, done, answer)


def _answer(wrong: Wrong, timeout: Timeout) -> tuple[float, Reply | Failure]:
    """How an exchange ends, and after how many seconds."""
    connected = min(0.001, timeout.connect)
    if wrong.down:
        timing = Timing(queued=1e-6, total=connected)
        return connected, Failure(Reason.CONNECT, "connect", "nobody listens", timing)
    bound, name = min((timeout.first_byte, "first_byte"), (timeout.total, "total"))
    if wrong.slow > bound:
        timing = Timing(connected=connected, total=bound)
        detail = f"no answer within timeout.{name} of {show_duration(bound)}"
        return bound, Failure(Reason.TIMEOUT, "timeout", detail, timing)
    timing = Timing(connected=connected, first_byte=wrong.slow, total=wrong.slow)
    return wrong.slow, Reply(wrong.status, [(b"content-type", b"text/html")], b"", timing)


class _Source:
    """Reads any imagined answer as what it stands for: templates would need data that nobody can imagine."""

    def __init__(self, checker: Checker, accept: str) -> None:
        self.accept = accept
        self._checker = checker

    def read(self, fragment: Fragment, found: Fields, body: bytes, params: Mapping[str, Any], *, head: bool) -> Read:
        del found, body, params
        read = checked(self._checker, fragment, fragment.name.encode(), head=head)
        return Content(markup=read.markup, data=b"{}") if isinstance(read, Content) else read


async def _nowhere(_: Any) -> None:
    """Where the page's bytes go."""


def _even() -> float:
    """Chance, without any: a second run is like the first."""
    return 0.5


# --- in words ---------------------------------------------------------------------------------------------------------

_PLAIN: Final[Mapping[Reason, str]] = {
    Reason.OK: "it answered in time",
    Reason.HIT: "a copy was there",
    Reason.REVALIDATED: "its copy was confirmed",
    Reason.PARAMS: "a parameter is missing or not valid",
    Reason.WHEN: "it is not for this visitor (when)",
    Reason.DANGLING: "nobody registers this fragment",
    Reason.LOAD: "the browser asks for it (load)",
    Reason.OFF: "its policy asks nobody (state)",
}
_TAKEN: Final[Mapping[Outcome, Step]] = {
    Outcome.STALE: "stale",
    Outcome.FALLBACK: "fallback",
    Outcome.PENDING: "client",
    Outcome.OMITTED: "omit",
}


def told(report: Report, planned: Planned, kept: frozenset[str]) -> Iterator[str]:
    """A line a slot: what it would be, and why; those of the error page below a line of their own."""
    plans = {each.number: each for each in planned.plan.slots}
    seen: set[str] = set()
    for ended in report.slots:
        if ended.slot in seen and planned.plan.error is not None:
            plans, seen = {each.number: each for each in planned.plan.error.slots}, set()
            yield f"the error page of {report.page}, with status {report.status}, in its place:"
        seen.add(ended.slot)
        yield f"{ended.slot:<3} {ended.key}: {ended.result.outcome}, {_why(ended.result, plans.get(ended.slot), kept)}"


def _why(result: Result, plan: SlotPlan | None, kept: frozenset[str]) -> str:
    plain = _PLAIN.get(result.reason)
    if plain is not None:
        return plain + (" and is renewed in the background" if result.outcome is Outcome.STALE else "")
    happened = result.detail or str(result.reason)
    if result.outcome is Outcome.FRESH or plan is None or plan.policy is None:
        return happened
    return f"{happened}; on_error: {' → '.join(_steps(result, plan, plan.policy.on_error, kept))}"


def _steps(result: Result, plan: SlotPlan, steps: Iterable[Step], kept: frozenset[str]) -> Iterator[str]:
    """The steps of `on_error` up to the one that was taken, with what spoke against those before."""
    for step in steps:
        if step == _TAKEN.get(result.outcome):
            break
        yield f"{step} ({_against(step, result, plan, kept)})"
    yield _TAKEN.get(result.outcome, "omit")


def _against(step: Step, result: Result, plan: SlotPlan, kept: frozenset[str]) -> str:
    match step:
        case "stale" if result.reason in (Reason.NOT_FOUND, Reason.AUTH):
            return "this is an answer"
        case "stale":
            return "its copy is too old for that" if plan.slot.fragment in kept else "there is no copy"
        case "fallback":
            return "none is registered"
        case "client" if plan.slot.kind == "primary":
            return "not for a primary"
        case _:
            return "only after a timeout"
