"""The words: frozen values that flow between the modules, and the ports they are handed through.

Knows nothing but the standard library. Times are seconds (`float`), sizes bytes (`int`), `now` is a monotonic clock
(`loop.time()`) unless a name says `wall` (seconds since the epoch).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, Protocol


class Outcome(StrEnum):
    """How a slot ended (contract §1); each slot ends as exactly one."""

    FRESH = "fresh"
    STALE = "stale"
    FALLBACK = "fallback"
    PENDING = "pending"
    OMITTED = "omitted"


class Reason(StrEnum):
    """Why a slot ended so: a closed list, used in metrics, logs, JSON forms and the overlay."""

    OK = "ok"
    HIT = "hit"
    REVALIDATED = "revalidated"
    TIMEOUT = "timeout"
    CONNECT = "connect"
    STATUS = "status"
    TORN = "torn"
    TOO_LARGE = "too_large"
    REFUSED = "refused"
    BREAKER = "breaker"
    CONCURRENCY = "concurrency"
    NOT_FOUND = "not_found"
    AUTH = "auth"
    PARAMS = "params"
    WHEN = "when"
    DANGLING = "dangling"
    OFF = "off"
    OVERLOAD = "overload"
    TASK = "task"
    LOAD = "load"


Step = Literal["stale", "fallback", "client", "omit"]
Trust = Literal["checked", "sanitized", "sandboxed"]
Load = Literal["stream", "visible", "client", "click", "none"]


# --- policy -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeout:
    connect: float
    first_byte: float
    total: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    extra: int
    budget: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Hedge:
    after: float | str | None  # seconds, a percentile such as "p95", or None: off
    budget: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    window: float
    min_requests: int
    failures: float
    open: float
    consecutive: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    mode: Literal["http", "fixed", "off"]
    scope: Literal["shared", "private"]
    fresh: float
    stale_while_revalidate: float
    stale_if_error: float
    max_stale: float
    negative: float
    pull: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The effective policy of a fragment in one place, compiled when registrations load (`rules.policy`)."""

    state: Literal["on", "stored", "off"]
    timeout: Timeout
    retry: Retry
    hedge: Hedge
    breaker: Breaker
    concurrency: int
    adaptive: Literal["on", "off"]
    max_body: int
    cache: Cache
    on_error: tuple[Step, ...]
    late: Literal["keep", "drop"]


# --- what contexts register -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Param:
    """One declared parameter. `parse` gives canonical text (what is keyed and sent), or None where the text is invalid."""

    name: str
    type: Literal["str", "int", "float", "bool", "enum", "date"]
    parse: Callable[[str], str | None]
    required: bool = True  # no default was given
    default: tuple[str, ...] = ()  # canonical; one value, or any number with `many`
    many: bool = False
    max: int = 100  # values, with `many`
    principal: bool = False  # from: principal — filled by the gateway, never by a client
    example: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """Where a context's service answers: an origin and an optional base path, compiled from `upstream:`."""

    scheme: Literal["http", "https"]
    host: str  # a name or an address, without brackets
    port: int
    authority: str  # the Host header sent: host[:port], port left out where it is the scheme's default
    base: str = ""  # "" or "/prefix" without a trailing slash
    socket: str = ""  # a unix socket's path (http+unix://), else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """What of a browser's request reaches the context; names are lower-case; nothing else does."""

    headers: tuple[str, ...] = ()
    cookies: tuple[str, ...] = ()
    principal: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What the answer of a primary, a page POST or a proxy route may do."""

    cookies: tuple[str, ...] = ()
    redirects: tuple[str, ...] = ()
    back: tuple[Back, ...] = ()  # its context's proxy routes


@dataclass(frozen=True, slots=True, kw_only=True)
class Back:
    """How a path under an upstream is reached through the gateway: the way of a proxy route, backwards."""

    route: str  # as written: /discovery/api/{rest:path}
    covers: Callable[[str], re.Match[str] | None]  # of a path under the upstream, base included; groups by parameter


@dataclass(frozen=True, slots=True, kw_only=True)
class Assets:
    """Style sheets and scripts a fragment needs, as paths relative to its upstream; or an entry of Vite's manifest there."""

    css: tuple[str, ...] = ()
    js: tuple[str, ...] = ()
    vite: str = ""
    entry: str = ""

    def __bool__(self) -> bool:
        return bool(self.css or self.js or self.vite)


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """What a template may know of the answer besides its data: when it was given, and the source's own timestamp."""

    date: str  # RFC 3339
    as_of: str  # RFC 3339


Render = Callable[[Any, Mapping[str, Any], Meta, float], str]
"""A compiled JSON → HTML template: `render(data, params, meta, within)`, in seconds; raises `errors.TemplateFailed` only,
`errors.TemplateSlow` once they are over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragment:
    """A registered fragment, compiled. `path` and `query` hold text and parameter names alternately (see `Pattern`)."""

    name: str  # "<context>/<fragment>"
    context: str
    owner: str
    upstream: Upstream
    path: Pattern
    policy: Policy
    origins: Mapping[str, str]  # dotted policy key → where its value comes from
    layers: tuple[
        tuple[str, Mapping[str, Any]], ...
    ] = ()  # (origin, dotted key → value), weakest first; slots add theirs
    query: tuple[tuple[str, Pattern], ...] = ()
    params: Mapping[str, Param] = field(default_factory=dict)
    source: str = "html"
    template: Render | None = None
    as_of: str = ""
    paginate: str | Mapping[str, str] = ""
    embeds: tuple[str, ...] = ()
    tags: tuple[Pattern, ...] = ()
    fallback_html: bytes | None = None
    fallback_json: bytes | None = None
    assets: Assets = Assets()
    reserve: str = ""
    trust: Trust = "checked"
    starts_task: bool = False
    form: bool = False  # its template or its fallback holds one; what its source answers is not known yet
    forward: Forward = Forward()
    grant: Grant = Grant()
    csp: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    version: str = ""  # changes when the registration does; part of an entry's validity

    private: bool = field(init=False, default=False)
    """Whether answers belong to one principal: by policy, or because something of theirs is sent."""

    def __post_init__(self) -> None:
        sends = self.forward.cookies or "authorization" in self.forward.headers or self.forward.principal
        named = any(param.principal for param in self.params.values())
        object.__setattr__(self, "private", self.policy.cache.scope == "private" or bool(sends) or named)


Pattern = tuple["str | Ref", ...]
"""Text with references in it, split: `/a/{x}` is ("/a/", Ref("param", "x"), ""). No reference: one piece of text."""


@dataclass(frozen=True, slots=True)
class Ref:
    """A reference in braces: `{x}` in registrations (kind "param"), `{a.b}` in an event's tags (kind "field"), `{path.x}`
    `{query.x}` `{principal}` `{locale}` in shells.
    """

    kind: Literal["param", "field", "path", "query", "principal", "locale"]
    name: str = ""


# --- markup -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hole:
    """A place in compiled markup that is filled per response.

    `key`: "nonce" (the response's nonce), "lang" (the negotiated locale), "title", "canonical", "meta:<name>" (the
    primary's own element replaces `default`), "head" (just before </head>: styles, links, the module), "body" (just
    before </body>: late templates go before it, the overlay in it).
    """

    key: str
    default: bytes = b""


NONCE = Hole("nonce")


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One `<bff-fragment>` of a shell (or of a fragment that `embeds`), as written; linked to a fragment by the plan."""

    index: int  # 1… in document order; the slot is s<index>
    fragment: str
    key: str  # `as`: unique on its page
    kind: Literal["primary", "core", "optional"] = "optional"
    load: Load = "stream"
    refresh: str = ""
    live: bool = False
    more: Literal["", "click", "visible"] = ""
    then_fresh: bool = False
    when: Literal["", "authenticated", "anonymous"] = ""
    wrap: bool = True
    reserve: str = ""
    attributes: str = ""  # id, class, data-*: serialised and escaped, each with a leading space
    params: tuple[tuple[str, Pattern], ...] = ()
    policy: Mapping[str, str] = field(default_factory=dict)  # dotted key → text
    placeholder: tuple[bytes | Hole, ...] = ()
    in_form: bool = (
        False  # inside a <form> of the shell: a form in the fragment would be ignored, its end tag would not
    )
    line: int = 0
    column: int = 0

    @property
    def id(self) -> str:
        return f"s{self.index}"

    @property
    def place(self) -> int:
        """Where its content stands, of which not all content is fit: WRAPPED, FORMED, BARE."""
        return (WRAPPED if self.wrap else BARE) | (FORMED if self.in_form else 0)


WRAPPED: Final = 1
"""In a wrapper: no part of a table stands alone there."""
FORMED: Final = 2
"""In a form of the shell: see `Slot.in_form`."""
BARE: Final = 4
"""Without a wrapper: a shadow root would be that of the shell's element, and hide what else is in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """A page compiled once: bytes, holes and slots in document order, no two `bytes` side by side."""

    parts: tuple[bytes | Hole | Slot, ...]
    slots: tuple[Slot, ...]


_NO_HEAD: Final[Mapping[str, bytes]] = MappingProxyType({})
"""One for all: a dictionary of its own would take as much memory as many a fragment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Markup:
    """A fragment's HTML, checked: safe to write into any page. Immutable and shared between responses.

    `parts` holds bytes, `NONCE` holes and embedded slots (with their own `index` from 1, literal parameters).
    `head` holds what a primary may put into the page's head, by hole key ("title", "canonical", "meta:<name>"): these
    elements are taken out of `parts`. A fragment without nonces and embeds is one piece of bytes, `flat`.
    """

    parts: tuple[bytes | Hole | Slot, ...]
    flat: bytes | None
    head: Mapping[str, bytes] = field(default_factory=lambda: _NO_HEAD)
    repaired: bool = False
    unfit: int = 0  # for these places: WRAPPED, FORMED, BARE

    @property
    def size(self) -> int:
        return len(self.flat) if self.flat is not None else sum(len(p) for p in self.parts if isinstance(p, bytes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A route of the gateway with its compiled shells."""

    name: str  # "<context>/<page>"
    context: str
    owner: str
    route: str  # as written: /checkout/{basket_id}
    shell: Shell
    error: Shell | None = None
    query: Mapping[str, Param] = field(default_factory=dict)
    deadline: float = 2.0
    cross_site: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A proxy route: a part of a context's API on the gateway's origin.

    `fragment` stands for it where registrations are asked for by fragment (numbers, policy, purges, tasks): all routes of
    a context are `<context>/proxy` there.
    """

    name: str  # "<context>/proxy:<route>"
    route: str  # as written: /discovery/api/{rest:path}
    to: Pattern  # a path below the upstream's base
    fragment: Fragment
    methods: frozenset[str]  # or "*": all
    cross_site: bool = False

    @property
    def context(self) -> str:
        return self.fragment.context

    @property
    def owner(self) -> str:
        return self.fragment.owner


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """What a context registers for one type of event: which of its entries it concerns, and what becomes of them."""

    context: str
    type: str  # CloudEvents
    topic: str  # of the bus that carries it; "" where only the webhook does
    tags: tuple[Pattern, ...]  # with references of kind "field"
    action: Literal["refresh", "expire", "purge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """A bounded context as registered: one team, one folder, one upstream."""

    name: str
    owner: str
    contact: str
    upstream: Upstream | None
    fragments: Mapping[str, Fragment]  # by full name
    pages: Mapping[str, Page]  # by full name
    policy: Policy
    routes: Mapping[str, Route] = field(default_factory=dict)  # by full name
    grant: Grant = Grant()
    csp: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    events: tuple[Subscription, ...] = ()


# --- one upstream exchange --------------------------------------------------------------------------------------------


class Timing(NamedTuple):
    """Where an exchange's time went, in seconds since it was asked for; 0.0 where it did not get that far.

    A tuple, for it is made once per exchange and a frozen dataclass costs four times as much to make.
    """

    queued: float = 0.0  # got a connection slot
    connected: float = 0.0  # connection ready (as `queued` on a reused one)
    first_byte: float = 0.0
    total: float = 0.0


UNTIMED = Timing()


class Bounds(NamedTuple):
    """Within what an exchange stays."""

    timeout: Timeout
    max_body: int  # bytes of the answer
    limit: int  # exchanges under way per upstream
    optional: bool = False  # never waits for its place, and leaves the last quarter of them to others

    @classmethod
    def of(cls, policy: Policy, *, optional: bool = False) -> Bounds:
        return cls(policy.timeout, policy.max_body, policy.concurrency, optional)


@dataclass(slots=True)
class Ask:
    """One HTTP request to a context, ready to be written: no header is added but Host, framing and Accept-Encoding."""

    upstream: Upstream
    method: str
    target: str  # origin-form, percent-encoded, base path included
    headers: bytes  # "name: value\r\n"…, no Host, no Content-Length, no Connection, no Accept-Encoding
    bounds: Bounds
    body: bytes = b""
    once: bool = False  # it begins something: never sent a second time, whatever its method
    fragment: Fragment | None = None  # whose breaker and budgets hold for it, with `policy`; None: nobody's
    policy: Policy | None = None


@dataclass(slots=True)
class Reply:
    """A complete answer of a context, within all caps. Header names are lower-case."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes
    timing: Timing
    found: Mapping[bytes, bytes] | None = None  # the same by name (`rules.caching.fields`), where that is known already


@dataclass(frozen=True, slots=True)
class Failure:
    """No complete answer. `status` is the label of `bff_upstream_requests_total`; `detail` is for people and logs."""

    reason: Reason  # timeout | connect | torn | too_large | refused | concurrency | breaker
    status: Literal["connect", "timeout", "reset", "refused"]
    detail: str
    timing: Timing = UNTIMED
    retry_after: int | None = None  # seconds until asking again may help, where that is known


class Exchange(Protocol):
    """An exchange under way."""

    def cancel(self) -> None:
        """End it now, silently: `done` is not called, the connection is closed, its place is free."""


class Fetch(Protocol):
    """The port to contexts; the hot path's own client implements it, tests fake it."""

    def __call__(self, ask: Ask, done: Callable[[Reply | Failure], None], /) -> Exchange:
        """Start an exchange. `done` is called exactly once, never before this returns, unless cancelled."""


# --- what a slot became -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Result:
    """How one slot (or one call of the fragment endpoint) ended."""

    outcome: Outcome
    reason: Reason
    markup: Markup | None = None
    data: bytes | None = None  # the JSON text of a JSON fragment
    status: int | None = None  # the upstream's, where it answered
    age: float | None = None  # seconds, where it came from the store
    as_of: float | None = None  # wall: the source's own timestamp
    spoke: float | None = None  # wall: what stands in for that: Last-Modified, else when the source answered
    seconds: float = 0.0  # from asking to ending
    timing: Timing | None = None  # of the upstream exchange, where this slot's wait had one
    detail: str = ""  # for people: overlay, log, waterfall
    retry_after: int | None = None
    tags: tuple[str, ...] = ()
    location: str = ""  # a primary's redirect, as the upstream wrote it
    cookies: tuple[bytes, ...] = ()  # Set-Cookie values of a primary, before `grant`
    task: str = ""  # the gateway's URL of the task that was begun, where the reason is `task`
    next: str = ""  # the fragment endpoint's URL of a list's next page
    left: float = 0.0  # seconds of freshness left
    withheld: bool = False  # no shared cache may keep it: its source forbids that, or it came with cookies
    cache: str = ""  # of an answer just given: what Cache-Status says of it (RFC 9211)
    etag: str = ""


class Telemetry(Protocol):
    """What the pipeline reports; the gateway's implementation counts and logs. Every call is cheap and never raises."""

    inflight: Counter[str]
    """Exchanges under way by context: whoever begins one adds it, and takes it off in the end."""

    def page(self, report: Report) -> None: ...
    def slot(self, fragment: str, result: Result) -> None: ...
    def upstream(self, fragment: Fragment, status: int | str, seconds: float) -> None: ...
    def cache(self, fragment: str, result: Literal["hit", "miss", "stale", "revalidated", "bypass"]) -> None: ...
    def coalesced(self, fragment: str) -> None: ...
    def evicted(self, reason: str) -> None: ...
    def shed(self, limit: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Purge:
    """What of the store no longer counts: the entries with a tag, of a fragment, of a context, or all of them.

    `soft` marks them stale and keeps them for `stale_if_error`; else they are gone. `principal` confines it to the private
    entries of one principal, `context` a tag to the entries of one context ("" where it holds for all).
    """

    kind: Literal["tag", "fragment", "context", "all"]
    value: str = ""
    soft: bool = False
    context: str = ""
    principal: str | None = None


Clock = Callable[[], float]
Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """One slot of a finished page, for the log line, the overlay and the waterfall of `bff render`."""

    slot: str  # "s2"
    key: str  # `as`
    fragment: str
    owner: str
    params: Mapping[str, Any]
    result: Result
    started: float  # seconds after the page began
    parent: str = ""  # the slot it is embedded in


@dataclass(slots=True, kw_only=True)
class Report:
    """One finished page: what `Telemetry.page` counts and logs. Never changed; frozen, it would cost thrice as much to make."""

    page: str
    method: str
    path: str
    status: int
    seconds: float
    first_byte: float
    slots: tuple[Ended, ...]
    request_id: str
    principal: bool
    prefetch: bool = False  # made in case somebody goes there: nobody waited for it
    disconnected: bool = False
