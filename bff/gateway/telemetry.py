"""The numbers of contract §5: counted as plain integers, turned into Prometheus text when somebody scrapes.

Owns the names and labels of every metric; labels only ever hold registered names and words of closed lists.
"""

from __future__ import annotations

import asyncio
import platform
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from bff.gateway.counts import LAGS, ContextCounts, EventCounts, FragmentCounts, Histogram, PageCounts
from bff.rules.limits.breaker import State
from bff.rules.overload import BEAT

if TYPE_CHECKING:
    from bff.gateway.logs import Log
    from bff.model import Fragment, Report, Result

CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"
_BLOCKED: Final = 1.0  # seconds of lag worth a line in the log
_STATUSES: Final = 64  # different ones per context; anything beyond is "other"


class Told(Protocol):
    """Counts that can be told as JSON."""

    def told(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges:
    """Where the numbers that others keep are read, when they are asked for."""

    streams: Callable[[], int] = lambda: 0
    entries: Callable[[], int] = lambda: 0
    bytes: Callable[[], int] = lambda: 0
    breakers: Callable[[], Iterable[tuple[str, int]]] = lambda: ()
    """(fragment, 0 closed, 1 half-open or 2 open)"""
    limits: Callable[[], Iterable[tuple[str, int]]] = lambda: ()
    """(context, exchanges that may be under way now), of those whose limit adapts"""
    contexts: Callable[[], Iterable[tuple[str, str, bool]]] = lambda: ()
    """(context, owner, whether its last load or reload succeeded)"""


class Counters:
    """`model.Telemetry` that counts, and tells the log of each page."""

    def __init__(self, log: Log | None = None, gauges: Gauges | None = None) -> None:
        self.gauges = gauges or Gauges()
        self._log = log
        self._pages: defaultdict[str, PageCounts] = defaultdict(PageCounts)
        self._fragments: defaultdict[str, FragmentCounts] = defaultdict(FragmentCounts)
        self._contexts: defaultdict[str, ContextCounts] = defaultdict(ContextCounts)
        self.inflight: Counter[str] = Counter()
        self._evictions: dict[str, int] = {}
        self._failures: dict[str, int] = {}
        self._shed: dict[str, int] = {}
        self._events = EventCounts()
        self._lag = Histogram(LAGS)
        self._blocks = 0
        self.opened: dict[str, float] = {}  # by fragment or proxy route: since when its breaker is not closed (wall)
        self.beats: tuple[Callable[[float], None], ...] = ()  # are told the lag at each measurement
        self._beat: asyncio.TimerHandle | None = None
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        if log is not None:
            log.dropped = lambda: self.shed("logs")

    # --- model.Telemetry ----------------------------------------------------------------------------------------------

    def page(self, report: Report) -> None:
        counts = self._pages[report.page]
        if report.prefetch:
            counts.prefetches += 1
        else:
            seconds = counts.seconds.get(report.status)
            if seconds is None:
                seconds = counts.seconds[report.status] = Histogram()
            seconds.observe(report.seconds)
            counts.first_byte.observe(report.first_byte)
        if self._log is not None:
            self._log.page(report)

    def slot(self, fragment: str, result: Result) -> None:
        counts = self._fragments[fragment]
        counts.outcomes[result.outcome, result.reason] += 1
        counts.seconds.observe(result.seconds)
        if result.age is not None and result.outcome == "stale":
            counts.stale_age.observe(result.age)

    def upstream(self, fragment: Fragment, status: int | str, seconds: float) -> None:
        self._fragments[fragment.name].upstream.observe(seconds)
        statuses = self._contexts[fragment.context].statuses
        if status not in statuses and len(statuses) >= _STATUSES:
            status = "other"
        statuses[status] += 1

    def cache(self, fragment: str, result: Literal["hit", "miss", "stale", "revalidated", "bypass"]) -> None:
        self._fragments[fragment].cache[result] += 1

    def coalesced(self, fragment: str) -> None:
        self._fragments[fragment].coalesced += 1

    def evicted(self, reason: str) -> None:
        self._evictions[reason] = self._evictions.get(reason, 0) + 1

    def failed(self, reason: str) -> None:
        """A call of the second tier came to nothing."""
        self._failures[reason] = self._failures.get(reason, 0) + 1

    def shed(self, limit: str) -> None:
        self._shed[limit] = self._shed.get(limit, 0) + 1

    # --- events.consumer.Counts ---------------------------------------------------------------------------------------

    def event(self, type: str, result: str) -> None:  # noqa: A002 - the metric's label
        key = (type, result)
        self._events.results[key] = self._events.results.get(key, 0) + 1

    def event_lag(self, seconds: float) -> None:
        self._events.lag.observe(seconds)

    # --- upstream.tries.Counts ----------------------------------------------------------------------------------------

    def retried(self, context: str) -> None:
        self._contexts[context].retries += 1

    def hedged(self, context: str, *, won: bool) -> None:
        self._contexts[context].hedges["true" if won else "false"] += 1

    def breaker(self, name: str, state: State, why: str) -> None:
        if state is State.CLOSED:
            self.opened.pop(name, None)
        else:
            self.opened.setdefault(name, time.time())
        if self._log is not None:
            level = "info" if state is State.CLOSED else "warning"
            self._log.event("breaker", level=level, name=name, state=state.word, why=why)

    # --- for the operators' API ---------------------------------------------------------------------------------------

    def told(self) -> dict[str, Any]:
        """What was counted since this process began, of each page, fragment and context by name, and of the process."""
        held: Mapping[str, Mapping[str, Told]] = {
            "pages": self._pages,
            "fragments": self._fragments,
            "contexts": self._contexts,
        }
        told = {kind: {name: each.told() for name, each in counts.items()} for kind, counts in held.items()}
        for name, context in told["contexts"].items():
            context["inflight"] = self.inflight[name]
        return {**told, "process": {"lag": self._lag.counts, "shed": dict(self._shed)}}

    # --- the loop's lag -----------------------------------------------------------------------------------------------

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Measure from now on how late the loop calls what is due."""
        self.close()
        due = loop.time() + BEAT
        self._beat = loop.call_later(BEAT, lambda: self._measure(loop, due))

    def close(self) -> None:
        if self._beat is not None:
            self._beat.cancel()

    def _measure(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        lag = max(loop.time() - due, 0.0)
        self._lag.observe(lag)
        if lag >= _BLOCKED:
            self._blocks += 1
            if self._log is not None:
                self._log.event("loop-blocked", level="warning", seconds=round(lag, 3))
        for beat in self.beats:
            beat(lag)
        self.start(loop)

    # --- exposition ---------------------------------------------------------------------------------------------------

    def exposition(self) -> bytes:
        """All of it in Prometheus' text format 0.0.4."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Called by the Prometheus registry."""
        yield from self._page_metrics()
        yield from self._fragment_metrics()
        yield from self._context_metrics()
        yield from self._store_metrics()
        yield from self._event_metrics()
        yield from self._process_metrics()

    def _page_metrics(self) -> Iterator[Metric]:
        duration = HistogramMetricFamily(
            "bff_page_duration_seconds", "From request to last byte.", labels=["page", "status"]
        )
        first = HistogramMetricFamily("bff_page_first_byte_seconds", "From request to first byte.", labels=["page"])
        ahead = CounterMetricFamily(
            "bff_page_prefetches", "Pages made ahead of a visit, in no histogram.", labels=["page"]
        )
        for page, counts in self._pages.items():
            ahead.add_metric([page], counts.prefetches)
            for status, histogram in counts.seconds.items():
                duration.add_metric([page, str(status)], histogram.cumulated(), histogram.sum)
            first.add_metric([page], counts.first_byte.cumulated(), counts.first_byte.sum)
        yield duration
        yield first
        yield ahead

    def _fragment_metrics(self) -> Iterator[Metric]:
        label = ["fragment"]
        duration = HistogramMetricFamily(
            "bff_fragment_duration_seconds", "From asking for a slot to its end.", labels=label
        )
        upstream = HistogramMetricFamily(
            "bff_upstream_duration_seconds", "From asking a context to its last byte.", labels=label
        )
        age = HistogramMetricFamily("bff_stale_age_seconds", "Age of the copies shown stale.", labels=label)
        outcomes = CounterMetricFamily(
            "bff_fragment_outcomes",
            "Slots of pages and calls of the fragment endpoint.",
            labels=["fragment", "outcome", "reason"],
        )
        cache = CounterMetricFamily("bff_cache_requests", "Look-ups in the store.", labels=["fragment", "result"])
        coalesced = CounterMetricFamily("bff_coalesced", "Fetches that joined one under way.", labels=label)
        for name, counts in self._fragments.items():
            duration.add_metric([name], counts.seconds.cumulated(), counts.seconds.sum)
            upstream.add_metric([name], counts.upstream.cumulated(), counts.upstream.sum)
            age.add_metric([name], counts.stale_age.cumulated(), counts.stale_age.sum)
            coalesced.add_metric([name], counts.coalesced)
            for (outcome, reason), count in counts.outcomes.items():
                outcomes.add_metric([name, str(outcome), str(reason)], count)
            for result, count in counts.cache.items():
                cache.add_metric([name, result], count)
        yield from (duration, outcomes, upstream, cache, age, coalesced)

    def _context_metrics(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "bff_upstream_requests", "Exchanges by how they ended.", labels=["context", "status"]
        )
        inflight = GaugeMetricFamily("bff_upstream_inflight", "Exchanges under way.", labels=["context"])
        retries = CounterMetricFamily("bff_retries", "Second tries after one that failed.", labels=["context"])
        hedges = CounterMetricFamily(
            "bff_hedges", "Second tries beside a slow one, by whether they answered first.", labels=["context", "won"]
        )
        loaded = GaugeMetricFamily(
            "bff_config_last_reload_successful",
            "1 where the last load of a registration succeeded.",
            labels=["context"],
        )
        info = GaugeMetricFamily("bff_context_info", "Who owns a context.", labels=["context", "owner"])
        for name, counts in self._contexts.items():
            retries.add_metric([name], counts.retries)
            for won, count in counts.hedges.items():
                hedges.add_metric([name, won], count)
            for status, count in counts.statuses.items():
                requests.add_metric([name, str(status)], count)
        for name, number in self.inflight.items():
            inflight.add_metric([name], number)
        for context, owner, successful in self.gauges.contexts():
            loaded.add_metric([context], int(successful))
            info.add_metric([context, owner], 1)
        breakers = GaugeMetricFamily(
            "bff_breaker_state", "0 closed, 1 half-open, 2 open: the context is not asked.", labels=["fragment"]
        )
        for fragment, state in self.gauges.breakers():
            breakers.add_metric([fragment], state)
        limits = GaugeMetricFamily(
            "bff_upstream_limit", "Exchanges that may be under way now, where that adapts.", labels=["context"]
        )
        for context, limit in self.gauges.limits():
            limits.add_metric([context], limit)
        yield from (requests, inflight, limits, retries, hedges, breakers, loaded, info)

    def _store_metrics(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("bff_cache_entries", "Entries in the store's first tier.", self.gauges.entries())
        yield GaugeMetricFamily("bff_cache_bytes", "Bytes held by the store's first tier.", self.gauges.bytes())
        evictions = CounterMetricFamily("bff_cache_evictions", "Entries that left the store.", labels=["reason"])
        for reason, count in self._evictions.items():
            evictions.add_metric([reason], count)
        yield evictions
        failures = CounterMetricFamily(
            "bff_store_failures", "Calls of the store's second tier that came to nothing.", labels=["reason"]
        )
        for reason, count in self._failures.items():
            failures.add_metric([reason], count)
        yield failures

    def _event_metrics(self) -> Iterator[Metric]:
        events = CounterMetricFamily(
            "bff_events", "Events of the bus and the webhook, by what became of them.", labels=["type", "result"]
        )
        for (type_, result), count in self._events.results.items():
            events.add_metric([type_, result], count)
        yield events
        lag = HistogramMetricFamily("bff_events_lag_seconds", "From an event to the entries it concerns being purged.")
        lag.add_metric([], self._events.lag.cumulated(), self._events.lag.sum)
        yield lag

    def _process_metrics(self) -> Iterator[Metric]:
        shed = CounterMetricFamily(
            "bff_shed", "What was refused or dropped because a limit was reached.", labels=["limit"]
        )
        for limit, count in self._shed.items():
            shed.add_metric([limit], count)
        yield shed
        yield GaugeMetricFamily("bff_streams", "Responses under way.", self.gauges.streams())
        lag = HistogramMetricFamily("bff_loop_lag_seconds", "How late the event loop calls what is due.")
        lag.add_metric([], self._lag.cumulated(), self._lag.sum)
        yield lag
        yield CounterMetricFamily("bff_loop_blocked", "Times the event loop stood still for a second.", self._blocks)
        build = GaugeMetricFamily("bff_build_info", "What is running.", labels=["version", "python"])
        build.add_metric([_version(), platform.python_version()], 1)
        yield build


def _version(distribution: str = "bff") -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"
