"""`/_bff/admin/…`: what operators and teams may do to a running gateway, by whom, and the record of what they did.

Every answer is JSON; every error a problem document (RFC 9457). Nothing here is for browsers of other sites.
"""

from __future__ import annotations

import hmac
import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final, Literal, cast

from starlette.requests import Request

from bff import explain
from bff.config.options import Admin as Options
from bff.gateway import dashboard
from bff.gateway.logs import Log
from bff.gateway.overriding import Overrides
from bff.gateway.problems import Answer, problem
from bff.gateway.request import cross_site
from bff.gateway.webhook import read_body
from bff.model import Clock, Fragment, Page, Purge
from bff.registry import World
from bff.rules.overrides import Override, shown
from bff.rules.policy import suggestion

Purging = Callable[[Iterable[Purge], bool], Awaitable[int]]
"""`await purging(purges, soft)`: carried out in every tier and told to all workers and machines, what is only stale fetched
again; how many entries they met here."""
Status = Callable[[], Awaitable[Mapping[str, Any]]]
"""What was counted and how all workers stand (`standing.Standings.all`); JSON."""

LARGEST: Final = 1 << 20  # bytes of a request's body
MOST: Final = 10_000  # purges of one request: tags, for each context of a scope
NAMED: Final = 20  # of the tags of one request, in the record
RECENT: Final = 100  # actions that the status shows
OPERATOR: Final = "operator"  # who shows `admin.token`

_KINDS: Final = ("tag", "fragment", "context", "all")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bearer:
    """Who asks; `scope`: the contexts it may act on, None: all of them."""

    name: str
    scope: frozenset[str] | None = None

    def may(self, context: str) -> bool:
        return self.scope is None or context in self.scope


class Refused(Exception):
    """The request cannot be carried out: a status and a sentence that says what to do."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Tokens:
    """The configured tokens; only digests of one length are compared, all of them, in constant time."""

    def __init__(self, options: Options) -> None:
        self._known = [(_digest(options.token), Bearer(name=OPERATOR))] if options.token else []
        for name, each in options.tokens.items():
            scope = None if "*" in each.scope else frozenset(each.scope)
            self._known.append((_digest(each.token), Bearer(name=name, scope=scope)))

    def __bool__(self) -> bool:
        return bool(self._known)

    def bearer(self, authorization: str) -> Bearer | None:
        """Who shows this Authorization header's token; None: nobody whom we know."""
        scheme, _, token = authorization.partition(" ")
        given = _digest(token.strip())
        matching = [bearer for digest, bearer in self._known if hmac.compare_digest(digest, given)]
        return matching[0] if matching and scheme.lower() == "bearer" else None


class Admin:
    """Answers `/_bff/admin/…`. `world()` are the registrations now; `wall` dates the record."""

    def __init__(
        self,
        options: Options,
        *,
        world: Callable[[], World],
        purging: Purging,
        status: Status,
        live: Callable[[str], list[str]] = lambda _fragment: [],
        overrides: Overrides,
        ceilings: Callable[[], Mapping[str, object]],
        log: Log,
        wall: Clock,
    ) -> None:
        self._tokens = Tokens(options)
        self._world = world
        self._purging = purging
        self._status = status
        self._live = live
        self._overrides = overrides
        self._ceilings = ceilings
        self._log = log
        self._wall = wall
        self._recent: deque[Mapping[str, Any]] = deque(maxlen=RECENT)

    async def answer(self, request: Request) -> Answer:
        """The answer to a request below `/_bff/admin/`; who asks is settled before anything else is but the dashboard's shell."""
        if not self._tokens:
            return problem(404, "There is nothing at this address.", html=False)
        if not request.path_params["what"] and request.method in ("GET", "HEAD"):
            return dashboard.answer()
        if cross_site(request.headers):
            return problem(403, "This request was made by another site.", html=False)
        bearer = self._tokens.bearer(request.headers.get("authorization", ""))
        if bearer is None:
            detail = "Show a token that is configured under admin: Authorization: Bearer …"
            return problem(401, detail, html=False, headers=[(b"www-authenticate", b'Bearer realm="bff"')])
        try:
            return await self._answer(request, bearer)
        except Refused as refused:
            if request.method not in {"GET", "HEAD"}:
                self._note(bearer, request.path_params["what"], refused=str(refused))
            return problem(refused.status, str(refused), html=False)

    async def _answer(self, request: Request, bearer: Bearer) -> Answer:
        match request.path_params["what"], request.method:
            case "status", "GET" | "HEAD":
                return _json(await self._told(bearer))
            case "purge", "POST":
                return _json(await self._purge(await _body(request), bearer))
            case "overrides", "GET" | "HEAD":
                return _json(
                    {"overrides": [_dated(each) for each in self._overrides.listed() if bearer.may(each.context)]}
                )
            case "overrides", "POST":
                return _json(await self._override(await _body(request), bearer))
            case "overrides", "DELETE":
                return _json(await self._clear(request.query_params.get("target", ""), bearer))
            case "explain", "GET" | "HEAD":
                return _json(self._explain(request.query_params.get("name", ""), bearer))
            case "status" | "purge" | "overrides" | "explain" as what, _:
                allow = {"purge": b"POST", "overrides": b"GET, HEAD, POST, DELETE"}.get(what, b"GET, HEAD")
                return problem(405, f"{what} takes {allow.decode()}.", html=False, headers=[(b"allow", allow)])
            case _:
                raise Refused(404, "There is nothing at this address; there are status, purge, overrides and explain.")

    # --- status -------------------------------------------------------------------------------------------------------

    @property
    def recent(self) -> list[Mapping[str, Any]]:
        """What was done here, the first first."""
        return [*self._recent]

    async def _told(self, bearer: Bearer) -> dict[str, Any]:
        """What there is, how it is and what was counted of it, as far as the bearer's scope reaches."""
        world, found = self._world(), await self._status()
        numbers, fragments, pages = found["contexts"], found["fragments"], found["pages"]
        acted = [entry for entry in found["actions"] if bearer.scope is None or entry["who"] == bearer.name]
        return {
            "bearer": {"name": bearer.name, "scope": "*" if bearer.scope is None else sorted(bearer.scope)},
            "contexts": [
                {**_context(world, name), "proxy": fragments.get(f"{name}/proxy", {}), **numbers.get(name, {})}
                for name in world.loaded
                if bearer.may(name)
            ],
            "fragments": [
                {**_fragment(each), **fragments.get(each.name, {})}
                for each in world.fragments.values()
                if bearer.may(each.context)
            ],
            "pages": [
                {**_page(each), **pages.get(each.name, {})} for each in world.pages.values() if bearer.may(each.context)
            ],
            "overrides": [_dated(each) for each in self._overrides.listed() if bearer.may(each.context)],
            **{key: found[key] for key in ("process", "bounds", "store", "events")},
            "actions": acted[: -RECENT - 1 : -1],
        }

    # --- purge --------------------------------------------------------------------------------------------------------

    async def _purge(self, told: Mapping[str, Any], bearer: Bearer) -> dict[str, Any]:
        kind, values, soft = _asked(told)
        self._check(kind, values[0], bearer)  # of several, which only tags can be, there is nothing to check
        contexts = [""] if kind != "tag" or bearer.scope is None else sorted(bearer.scope)
        if len(values) * len(contexts) > MOST:
            raise Refused(400, f"at most {MOST // len(contexts)} tags at once")
        purges = (Purge(kind=kind, value=each, soft=soft, context=context) for each in values for context in contexts)
        entries = await self._purging(purges, soft)
        value = ", ".join(values[:NAMED]) + (f" and {len(values) - NAMED} more" if len(values) > NAMED else "")
        self._note(bearer, "purge", kind=kind, value=value, soft=soft, entries=entries)
        return {
            "entries": entries,
            "kind": kind,
            "value": value,
            "soft": soft,
            "everywhere": self._overrides.everywhere,
        }

    def _check(self, kind: str, value: str, bearer: Bearer) -> None:
        """Whether it may, and whether there is such a thing: in this order, so that nobody learns names by asking."""
        context = value.partition("/")[0]
        if kind == "all" and bearer.scope is not None:
            raise Refused(403, f"all is beyond the scope of {bearer.name}; purge context by context")
        if kind in ("fragment", "context") and not bearer.may(context):
            raise Refused(403, f"{value} is beyond the scope of {bearer.name}")
        world = self._world()
        contexts = [name for name in sorted(world.loaded) if bearer.may(name)]
        fragments = [each.name for each in world.fragments.values() if bearer.may(each.context)]
        known = {"context": contexts, "fragment": [*fragments, *(f"{name}/proxy" for name in contexts)]}
        if kind in known and value not in known[kind]:
            raise Refused(400, f"there is no {kind} {value}; {suggestion(value, known[kind])}")

    # --- overrides ----------------------------------------------------------------------------------------------------

    async def _override(self, told: Mapping[str, Any], bearer: Bearer) -> dict[str, Any]:
        target, values = told.get("target"), told.get("set")
        if not isinstance(target, str) or not isinstance(values, dict):
            raise Refused(400, 'write {"target": …, "set": {KEY: VALUE}, "for": "2h", "reason": …}')
        self._within(target, bearer)
        texts = {str(key): str(value) for key, value in values.items()}
        lasting, reason = str(told.get("for", "")), str(told.get("reason", ""))
        try:
            made = await self._overrides.add(target, texts, lasting=lasting, reason=reason, by=bearer.name)
        except ValueError as error:
            raise Refused(400, str(error)) from None
        self._note(bearer, "override", target=target, values=texts, lasting=lasting, reason=reason)
        return {**_dated(made), "everywhere": self._overrides.everywhere}

    async def _clear(self, target: str, bearer: Bearer) -> dict[str, Any]:
        self._within(target, bearer)
        ended = await self._overrides.clear(target)
        self._note(bearer, "override-clear", target=target, ended=ended)
        return {"target": target, "ended": ended, "everywhere": self._overrides.everywhere}

    def _explain(self, name: str, bearer: Bearer) -> dict[str, Any]:
        """The effective policy with each value's origin, as this process has it now."""
        self._within(name, bearer)
        world = self._world()
        lines = [*explain.of(world, name, self._ceilings())]
        if not lines:
            near = ", ".join(explain.names(world, name))
            raise Refused(404, f"there is no page or fragment {name}" + (f"; did you mean {near}?" if near else ""))
        shown = [slot.fragment for slot in world.pages[name].shell.slots] if name in world.pages else [name]
        lines += [line for each in dict.fromkeys(shown) if bearer.may(_owner(each)) for line in self._live(each)]
        return {"name": name, "lines": lines}

    def _within(self, target: str, bearer: Bearer) -> None:
        if not bearer.may(_owner(target)):
            raise Refused(403, f"{target} is beyond the scope of {bearer.name}")

    # --- the record ---------------------------------------------------------------------------------------------------

    def _note(self, bearer: Bearer, action: str, **what: Any) -> None:
        """One line in the log and one in the status: who, what, with what effect."""
        self._log.event("admin", who=bearer.name, action=action, **what)
        self._recent.append({"time": _rfc3339(self._wall()), "who": bearer.name, "action": action, **what})


def _context(world: World, name: str) -> dict[str, Any]:
    context = world.contexts.get(name)
    return {
        "name": name,
        "owner": context.owner if context is not None else "",
        "contact": context.contact if context is not None else "",
        "loaded": world.loaded[name],
        "events": [each.type for each in context.events] if context is not None else [],
    }


def _fragment(each: Fragment) -> dict[str, Any]:
    return {"name": each.name, "owner": each.owner, "state": each.policy.state, "private": each.private}


def _page(each: Page) -> dict[str, Any]:
    return {"name": each.name, "owner": each.owner, "route": each.route, "deadline": each.deadline}


def _asked(told: Mapping[str, Any]) -> tuple[Literal["tag", "fragment", "context", "all"], list[str], bool]:
    """What is to be purged: exactly one kind, of tags one or several, and nothing that is not understood."""
    kinds = [kind for kind in _KINDS if kind in told]
    strange = sorted(told.keys() - {*_KINDS, "soft"})
    if strange or len(kinds) != 1:
        wrong = f"{strange[0]!r} is unknown" if strange else f"{len(kinds)} things are named"
        raise Refused(400, f'{wrong}; write one of {{"tag": …}}, {{"fragment": …}}, {{"context": …}}, {{"all": true}}')
    kind, value, soft = kinds[0], told[kinds[0]], told.get("soft", False)
    if not isinstance(soft, bool):
        raise Refused(400, "soft must be true or false")
    if kind == "all":
        if value is not True:
            raise Refused(400, "all must be true")
        return "all", [""], soft
    values = value if kind == "tag" and isinstance(value, list) else [value]
    if not values or not all(isinstance(each, str) and each for each in values):
        raise Refused(400, f"{kind} must be a text" + (", or a list of texts" if kind == "tag" else ""))
    return cast("Literal['tag', 'fragment', 'context']", kind), [*dict.fromkeys(values)], soft


async def _body(request: Request) -> Mapping[str, Any]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.startswith(("text/", "multipart/")):  # what is for people, or a form's: nobody meant it for here
        raise Refused(415, "the body is JSON; say so: content-type: application/json")
    body = await read_body(request, LARGEST)
    if body is None:
        raise Refused(413, f"the body may have {LARGEST} bytes")
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        raise Refused(400, 'the body must be a JSON object, such as {"tag": "course:1"}')
    return told


def _owner(name: str) -> str:
    return name.partition("/")[0]


def _dated(override: Override) -> dict[str, Any]:
    times = {name: _rfc3339(getattr(override, name)) for name in ("made", "until")}
    return {**shown(override), **times}


def _rfc3339(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="seconds")


def _json(data: Mapping[str, Any]) -> Answer:
    body = json.dumps(data).encode()
    fields = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]
    return Answer(200, fields, body)


def _digest(token: str) -> bytes:
    return blake2b(token.encode("utf-8", "replace"), digest_size=32).digest()
