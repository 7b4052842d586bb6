"""The policy of a fragment: the table of its keys, their text, and how layers of them merge.

Pure: knows the words of `model` and the units, not who writes a layer or in which file. A layer maps dotted keys
(`timeout.total`) to parsed values: seconds, bytes, counts, shares from 0 to 1, words, or None for `off`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Final, Literal, assert_never, get_args

from bff import units
from bff.model import Breaker, Cache, Hedge, Policy, Retry, Step, Timeout

Kind = Literal["duration", "size", "share", "count", "word", "steps", "trigger", "pace"]
Layer = tuple[str, Mapping[str, object]]
"""(origin, dotted key → value). Origins: built-in, bff.yaml, context, fragment, slot, override."""

BUILT_IN: Final = "built-in"
COMPARED: Final = 20  # names that a wrong one is compared with closely; more, by the pairs of letters that they share
CLAMPED_KINDS: Final = frozenset({"duration", "size", "share", "count"})
NOTHING: Final[Mapping[str, object]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One setting of a policy: what it is called, what may be written, what holds when nobody writes it, and why."""

    name: str
    kind: Kind
    default: str  # as people write it
    unit: str
    help: str
    why: str
    words: tuple[str, ...] = ()  # of kind "word"
    least: float = 0.0  # the smallest value that makes sense

    @property
    def value(self) -> object:
        """The default, parsed."""
        return _parse(self, self.default)


def _key(name: str, kind: Kind, default: str, help: str, why: str, *, least: float = 0.0, words: str = "") -> Key:  # noqa: A002 - the word of the table
    unit = {
        "duration": "duration",
        "pace": "duration",
        "trigger": "duration or percentile",
        "size": "size",
        "share": "share",
    }
    return Key(
        name=name, kind=kind, default=default, unit=unit.get(kind, ""), help=help, why=why,
        words=tuple(words.split()), least=least,
    )  # fmt: skip


_TABLE: Final = (
    _key("state", "word", "on", "on: ask the context. stored: never ask it, use the store. off: straight to the fallback.",
         "the switch of an incident: a context can be spared or left out without a release", words="on stored off"),
    _key("timeout.connect", "duration", "250ms", "Wall clock until a connection is made.",
         "within one data centre a connect takes under 5 ms; one lost SYN is sent again after 1 s, too late for a page", least=0.001),
    _key("timeout.first_byte", "duration", "1s", "Wall clock until the answer's first byte, connecting included.",
         "half of the page's default deadline of 2 s; Podium's client allows 1 s", least=0.001),
    _key("timeout.total", "duration", "1500ms", "Wall clock for the whole answer; a slot waits no longer than the page's deadline less 50 ms.",
         "per-read timeouts bound nothing: an answer of one byte a second never hits one", least=0.001),
    _key("retry.extra", "count", "1", "Further tries on connect failure, reset before the first byte, 502, 503 or 504; GET only. "
         "A GET or HEAD whose kept connection had ended before it was heard goes out once more in any case (RFC 9112 §9.3.1).",
         "one retry repairs a restarting server; more multiply the load of an outage (Google SRE, chapter 22)"),
    _key("retry.budget", "share", "20%", "Retries allowed as a share of the context's requests, at least 10 a second.",
         "Finagle's retry budget and Envoy's: 20 %, with a floor for quiet services"),
    _key("hedge.after", "trigger", "off", "Ask a second time when the first has not answered: after a duration or a percentile such as p95.",
         "costs load, so it is asked for (The Tail at Scale: p95 adds about 5 %)", least=0.001),
    _key("hedge.budget", "share", "5%", "Hedged requests allowed as a share of all.",
         "The Tail at Scale (Dean and Barroso, 2013): 5 % of extra load cuts the tail"),
    _key("breaker.window", "duration", "10s", "How far back failures are counted.",
         "Hystrix: 10 s rolling window", least=0.1),
    _key("breaker.min_requests", "count", "20", "Requests in the window before the breaker may open; all who wait for one fetch are requests.",
         "Hystrix: 20, so that two failures at night are no outage", least=1),
    _key("breaker.failures", "share", "50%", "The share of failures in the window that opens the breaker.",
         "Hystrix: 50 %", least=0.001),
    _key("breaker.open", "duration", "5s", "How long it stays open before one probe is let through.",
         "Hystrix: 5 s sleep window; Finagle begins with 5 s", least=0.1),
    _key("breaker.consecutive", "count", "5", "Connect failures in a row that open it, whatever the window says.",
         "Finagle: 5 consecutive failures; a service that is down is noticed before 20 requests failed", least=1),
    _key("concurrency", "count", "64", "Exchanges under way per context and worker; optional slots leave the last quarter to others.",
         "a context that hangs for 1.5 s at 40 pages a second holds 60; the rest is refused at once, not queued", least=1),
    _key("adaptive", "word", "off", "on: what is allowed under way falls while the context answers too slowly, and rises again up to `concurrency`.",
         "a limit that moves by itself must not come as a surprise; a service that gets slower under load is better off with it", words="on off"),
    _key("max_body", "size", "1MiB", "The largest answer; a larger one is refused.",
         "a page's fragment is 2 to 50 KiB; 1 MiB bounds memory at 64 exchanges to 64 MiB a context", least=1),
    _key("cache.mode", "word", "http", "http: the upstream's headers decide. fixed: `fresh` does. off: never stored, coalesced or stale.",
         "RFC 9111: the source knows best", words="http fixed off"),
    _key("cache.scope", "word", "shared", "private: kept per signed-in user; always so when a cookie, authorization or principal is sent.",
         "what depends on declared parameters alone is the same for everybody", words="shared private"),
    _key("cache.fresh", "duration", "0s", "Freshness where the upstream says nothing; always with mode fixed.",
         "silence is no promise; RFC 9111 §4.2.2 allows a guess, we do not guess"),
    _key("cache.stale_while_revalidate", "duration", "0s", "How long past freshness a copy is shown at once while it is refreshed.",
         "RFC 5861 §3: only when the source or its owner says so"),
    _key("cache.stale_if_error", "duration", "1h", "How long past freshness a copy stands in for an error. 0s for primaries and private scope, unless set.",
         "RFC 5861 §4: an hour outlasts most incidents; a basket or a user's own data must not be old unawares"),
    _key("cache.max_stale", "duration", "24h", "The recency promise: no older copy is ever shown, whatever the cause.",
         "catalogues are refreshed daily at the least; beyond a day an omission is more honest"),
    _key("cache.negative", "duration", "5s", "How long a 404 or 410 is kept where the upstream says nothing.",
         "Varnish holds errors down for 10 s; short, so that what was just created shows"),
    _key("cache.pull", "pace", "off", "Refresh entries used in the last day at this pace, jittered, at most 4 at once.",
         "costs load, so it is asked for; a pull is the backstop of events", least=1.0),
    _key("on_error", "steps", "stale, fallback, client, omit", "What is tried, in order; `client` only after a timeout.",
         "an older truth beats a static text, that beats a gap; a slow context may still answer the browser"),
    _key("late", "word", "keep", "keep: an answer after its deadline still fills the store. drop: it is cancelled.",
         "the next visitor profits from work that was done anyway", words="keep drop"),
)  # fmt: skip

KEYS: Final[Mapping[str, Key]] = MappingProxyType({key.name: key for key in _TABLE})
SECTIONS: Final = frozenset(key.name.rpartition(".")[0] for key in _TABLE) - {""}
"""What dotted keys begin with: `timeout`, `cache` …"""


# --- text to value and back -------------------------------------------------------------------------------------------


def parse(key: str, text: str) -> object:
    """The value of a dotted key in `text`. ValueError, with a remedy, for an unknown key or a bad value."""
    if key not in KEYS:
        raise ValueError(f"{key!r} is not a policy key; {suggestion(key, KEYS)}")
    return _parse(KEYS[key], text)


def suggestion(wrong: str, known: Mapping[str, object] | Sequence[str]) -> str:
    """`did you mean …?` where one is near, else the list of what there is."""
    near = nearest(wrong, known)
    if near:
        return f"did you mean {near!r}?"
    some = [*known][:12]
    return f"known are {', '.join(some)}{', …' if len(known) > len(some) else ''}"


def nearest(wrong: str, known: Iterable[str]) -> str:
    """The one that was probably meant, whatever its capitals; empty where none is near."""
    folded = {each.lower(): each for each in known}
    text, some = wrong.lower(), [*folded]
    if len(some) > COMPARED:  # comparing takes 20 µs: a context that is gone may be asked for by hundreds of slots
        pairs = {*pairwise(text)}
        some = nlargest(COMPARED, some, key=lambda each: len(pairs.intersection(pairwise(each))))
    near = difflib.get_close_matches(text, some, n=1)
    return folded[near[0]] if near else ""


def show(key: str, value: object) -> str:
    """`value` as people write it; `parse` reads it back."""
    match KEYS[key].kind, value:
        case _, None:
            return "off"
        case (("duration" | "pace" | "trigger"), float()):
            return units.show_duration(value)
        case "size", int():
            return units.show_size(value)
        case "share", float():
            return f"{value * 100:.10g}%"
        case _, tuple():
            return ", ".join(value)
        case _:
            return str(value)


def _parse(key: Key, text: str) -> object:
    value = _read(key, text)
    if isinstance(value, int | float) and value < key.least:
        raise ValueError(f"{text!r} is too small for {key.name}; the least is {show(key.name, _typed(key, key.least))}")
    return value


def _typed(key: Key, value: float) -> float | int:
    return int(value) if key.kind in {"count", "size"} else value


def _read(key: Key, text: str) -> object:
    match key.kind:
        case "duration":
            return units.duration(text)
        case "size":
            return units.size(text)
        case "share":
            return units.share(text)
        case "count":
            return _count(text)
        case "word":
            return _word(text, key.words)
        case "steps":
            return _steps(text)
        case "trigger":
            return _trigger(text)
        case "pace":
            return None if text == "off" else units.duration(text)
        case _:
            assert_never(key.kind)


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError(f"{text!r} is not a count; write a whole number such as 20")
    return int(text)


def _word(text: str, words: Sequence[str]) -> str:
    if text not in words:
        near = nearest(text, words)
        remedy = f"did you mean {near!r}?" if near else "write one of those"
        raise ValueError(f"{text!r} is not one of {', '.join(words)}; {remedy}")
    return text


def _steps(text: str) -> tuple[str, ...]:
    steps = tuple(step.strip() for step in text.split(","))
    for step in steps:
        _word(step, get_args(Step))
    if len(set(steps)) < len(steps):
        raise ValueError(f"{text!r} names a step twice; each is tried once")
    if "omit" in steps[:-1]:
        raise ValueError(f"{text!r} goes on after omit; put omit last")
    return steps


def _trigger(text: str) -> float | str | None:
    if text == "off" or re.fullmatch(r"p[1-9][0-9]?", text):
        return None if text == "off" else text
    try:
        return units.duration(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is no trigger; write off, a duration such as 200ms, or a percentile such as p95"
        ) from None


# --- merging ----------------------------------------------------------------------------------------------------------

DEFAULTS: Final[Mapping[str, object]] = MappingProxyType({key.name: key.value for key in _TABLE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Clamp:
    """A value that a ceiling lowered."""

    key: str
    origin: str
    value: object
    ceiling: object


def merge(
    layers: Sequence[Layer],
    *,
    ceilings: Mapping[str, object] = NOTHING,
    primary: bool = False,
    private: bool = False,
) -> tuple[Policy, dict[str, str]]:
    """The effective policy and, per dotted key, the origin of its value. `layers` weakest first; pure.

    `primary`, `private`: the built-in `cache.stale_if_error` is 0 for them (a scope of private in the layers counts too).
    A value over its ceiling becomes the ceiling and keeps its origin; `clamped` lists those.
    """
    values, origins = _overlay(layers, primary=primary, private=private)
    for key, ceiling in ceilings.items():
        if _exceeds(values[key], ceiling):
            values[key] = ceiling
    return _policy(values), origins


def clamped(
    layers: Sequence[Layer],
    *,
    ceilings: Mapping[str, object] = NOTHING,
    primary: bool = False,
    private: bool = False,
) -> tuple[Clamp, ...]:
    """What the ceilings lower in these layers, in the order of the ceilings."""
    values, origins = _overlay(layers, primary=primary, private=private)
    return tuple(
        Clamp(key=key, origin=origins[key], value=values[key], ceiling=ceiling)
        for key, ceiling in ceilings.items()
        if _exceeds(values[key], ceiling)
    )


def flat(policy: Policy) -> dict[str, object]:
    """A policy as dotted keys and values: a layer that, merged alone, gives the policy again."""
    return dict(_flat(policy))


def _flat(policy: Policy) -> Iterator[tuple[str, object]]:
    for name in KEYS:
        value: Any = policy
        for part in name.split("."):
            value = getattr(value, part)
        yield name, value


def _overlay(layers: Sequence[Layer], *, primary: bool, private: bool) -> tuple[dict[str, Any], dict[str, str]]:
    values: dict[str, Any] = dict(DEFAULTS)
    origins = dict.fromkeys(DEFAULTS, BUILT_IN)
    for origin, layer in layers:
        values.update(layer)
        for key in layer:
            origins[key] = origin
    careful = primary or private or values["cache.scope"] == "private"
    if careful and origins["cache.stale_if_error"] == BUILT_IN:
        values["cache.stale_if_error"] = 0.0
    return values, origins


def _exceeds(value: object, ceiling: object) -> bool:
    return isinstance(value, int | float) and isinstance(ceiling, int | float) and value > ceiling


def _policy(v: Mapping[str, Any]) -> Policy:
    return Policy(
        state=v["state"],
        timeout=Timeout(connect=v["timeout.connect"], first_byte=v["timeout.first_byte"], total=v["timeout.total"]),
        retry=Retry(extra=v["retry.extra"], budget=v["retry.budget"]),
        hedge=Hedge(after=v["hedge.after"], budget=v["hedge.budget"]),
        breaker=Breaker(
            window=v["breaker.window"],
            min_requests=v["breaker.min_requests"],
            failures=v["breaker.failures"],
            open=v["breaker.open"],
            consecutive=v["breaker.consecutive"],
        ),
        concurrency=v["concurrency"],
        adaptive=v["adaptive"],
        max_body=v["max_body"],
        cache=Cache(
            mode=v["cache.mode"],
            scope=v["cache.scope"],
            fresh=v["cache.fresh"],
            stale_while_revalidate=v["cache.stale_while_revalidate"],
            stale_if_error=v["cache.stale_if_error"],
            max_stale=v["cache.max_stale"],
            negative=v["cache.negative"],
            pull=v["cache.pull"],
        ),
        on_error=v["on_error"],
        late=v["late"],
    )
