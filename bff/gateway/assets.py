"""Style sheets and scripts of contexts: fetched in the background, kept under names that never change their content.

Owns what is on the shelf, and for how long. A context that is down changes nothing: what was fetched last stays. Knows
neither pages nor requests; `page.hoist` puts into heads what is told here.
"""

from __future__ import annotations

import base64
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256, sha384
from pathlib import PurePosixPath
from typing import Any, Final, Protocol

import anyio
import anyio.to_thread

from bff.gateway import vite
from bff.gateway.asking import exchanged
from bff.gateway.packed import KINDS, Packed, pack
from bff.gateway.problems import Answer, problem
from bff.model import Ask, Bounds, Clock, Failure, Fetch, Fragment, Reply, Telemetry, Timeout
from bff.page.hoist import Hoisted, Link

REFRESH: Final = 30.0
"""Seconds between two looks at what contexts have: a deployment shows within half a minute."""
KEPT: Final = 24 * 3600.0
"""Seconds that a file stays after its name is no longer in use, for pages that are open (contract §3)."""
LARGEST: Final = 4 * 1024 * 1024
"""Bytes of one file."""
RETIRED: Final = 64 * 1024 * 1024
"""Bytes of all files that are no longer in use; beyond it the oldest go early."""
_TIMEOUT: Final = Timeout(connect=1.0, first_byte=5.0, total=10.0)  # nobody waits for these
_SPECIAL: Final = re.compile(r"[^A-Za-z0-9_./-]+")
_AT_ONCE: Final = 4  # fetches
_AGAIN: Final = 1.0  # seconds after which a file that was never had is tried again; doubled up to REFRESH
_LOG: Final = logging.getLogger("bff")
_IMMUTABLE: Final = b"public, max-age=31536000, immutable"


class Log(Protocol):
    def event(self, event: str, *, level: str = "info", **fields: Any) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Copy:
    """What an upstream had under a path, and its validators."""

    data: bytes
    lines: bytes  # If-None-Match, If-Modified-Since
    integrity: str


@dataclass(slots=True, kw_only=True)
class _Shelved:
    packed: Packed
    until: float | None = None  # None: in use


class Shelf:
    """The assets of all registrations. `changed` is called when `hoisted` has become another."""

    def __init__(
        self,
        *,
        fetch: Fetch,
        telemetry: Telemetry,
        log: Log,
        changed: Callable[[], None],
        clock: Clock = time.monotonic,
        refresh: float = REFRESH,
    ) -> None:
        self.hoisted: Mapping[str, Hoisted] = {}  # by fragment
        self._made: dict[str, tuple[Hoisted, frozenset[str]]] = {}  # with the names of all files
        self._fetch = fetch
        self._telemetry = telemetry
        self._log = log
        self._changed = changed
        self._clock = clock
        self._refresh = refresh
        self._wanted: list[Fragment] = []
        self._copies: dict[tuple[str, str], _Copy] = {}
        self._failing: dict[tuple[str, str], str] = {}
        self._files: dict[str, _Shelved] = {}
        self._asking: dict[tuple[str, str], anyio.Lock] = {}  # of this look
        self._asked: set[tuple[str, str]] = set()
        self._looked = -1.0  # when the last look began
        self._due = anyio.Event()
        self._done = anyio.Event()

    # --- what is wanted -----------------------------------------------------------------------------------------------

    def register(self, fragments: Mapping[str, Fragment]) -> None:
        """These are the registrations now."""
        self._wanted = [each for each in fragments.values() if each.assets and each.trust == "checked"]
        self._due.set()

    async def run(self) -> None:
        """Look at once, then again and again, until cancelled."""
        pause = _AGAIN
        while True:
            self._due = anyio.Event()
            try:
                await self.refresh()
            except Exception:  # noqa: BLE001 - a defect of ours costs pages their assets, never the gateway
                _LOG.exception("the assets could not be looked at")
            done, self._done = self._done, anyio.Event()
            done.set()
            pause = min(pause * 2, self._refresh) if self._failing else self._refresh
            with anyio.move_on_after(pause):
                await self._due.wait()
                pause = _AGAIN

    async def settled(self, within: float) -> None:
        """Wait for the end of a look that has begun or begins now, if anything is wanted."""
        if self._wanted:
            with anyio.move_on_after(within):
                await self._done.wait()

    # --- looking ------------------------------------------------------------------------------------------------------

    async def refresh(self) -> None:
        """Ask every context once, and take over what is new."""
        self._looked = self._clock()
        self._asking, self._asked = {}, set()
        places = anyio.Semaphore(_AT_ONCE)
        made: dict[str, tuple[Hoisted, frozenset[str]]] = {}

        async def one(fragment: Fragment) -> None:
            async with places:
                found = await self._look(fragment)
            if found is not None:
                made[fragment.name] = found

        async with anyio.create_task_group() as group:
            for fragment in self._wanted:
                group.start_soon(one, fragment)
        self._made = made
        self._retire({name for _, names in made.values() for name in names})
        hoisted = {each.name: made[each.name][0] for each in self._wanted if each.name in made}
        if hoisted != self.hoisted:
            self.hoisted = hoisted
            self._changed()

    async def _look(self, fragment: Fragment) -> tuple[Hoisted, frozenset[str]] | None:
        """A fragment's assets as they are now, or were last, and their names here; None where there are none yet."""
        return await (self._build(fragment) if fragment.assets.vite else self._plain(fragment))

    async def _plain(self, fragment: Fragment) -> tuple[Hoisted, frozenset[str]] | None:
        names: set[str] = set()
        links: dict[str, list[Link]] = {"css": [], "js": []}
        for kind, paths in (("css", fragment.assets.css), ("js", fragment.assets.js)):
            for path in paths:
                copy = await self._copy(fragment, path)
                if copy is not None:
                    name = f"{fragment.context}/{_hashed(path, copy.data, kind)}"
                    await self._put(name, copy.data)
                    names.add(name)
                    links[kind].append(Link(f"/_bff/assets/{name}", copy.integrity))
        return (Hoisted(css=(*links["css"],), js=(*links["js"],)), frozenset(names)) if names else None

    async def _build(self, fragment: Fragment) -> tuple[Hoisted, frozenset[str]] | None:
        """All files of an entry, or none: a build works as a whole."""
        assets, context = fragment.assets, fragment.context
        manifest = await self._copy(fragment, assets.vite)
        if manifest is None:
            return None
        try:
            entry = vite.read(manifest.data, assets.entry)
        except vite.BadManifest as error:
            self._failed((context, assets.vite), str(error))
            return self._made.get(fragment.name)
        copies: dict[str, _Copy] = {}
        for file in entry.files:
            copy = await self._copy(fragment, vite.root(assets.vite) + file, constant=entry.hashed)
            if copy is None or not _intact(copy.data, entry.integrity.get(file, "")):
                self._failed((context, assets.vite), f"{file} cannot be had as the manifest says")
                return self._made.get(fragment.name)
            copies[file] = copy
        folder = context if entry.hashed else f"{context}/{_digest(b''.join(copy.data for copy in copies.values()))}"
        for file, copy in copies.items():
            await self._put(f"{folder}/{file}", copy.data)

        def links(files: Sequence[str]) -> tuple[Link, ...]:
            return tuple(Link(f"/_bff/assets/{folder}/{file}", copies[file].integrity) for file in files)

        made = Hoisted(css=links(entry.css), js=links(entry.js), imports=links(entry.imports))
        return made, frozenset(f"{folder}/{file}" for file in copies)

    # --- one file -----------------------------------------------------------------------------------------------------

    async def _copy(self, fragment: Fragment, path: str, *, constant: bool = False) -> _Copy | None:
        """A file as it is now, else as it was last. `constant`: under this path it never changes."""
        key = (fragment.context, path)
        async with self._asking.setdefault(key, anyio.Lock()):
            if key not in self._asked and not (constant and key in self._copies) and fragment.policy.state == "on":
                self._asked.add(key)
                await self._ask(fragment, path)
        return self._copies.get(key)

    async def _ask(self, fragment: Fragment, path: str) -> None:
        key, upstream = (fragment.context, path), fragment.upstream
        known = self._copies.get(key)
        lines = b"accept: */*\r\nuser-agent: bff\r\n" + (known.lines if known is not None else b"")
        bounds = Bounds(_TIMEOUT, LARGEST, fragment.policy.concurrency)
        ask = Ask(upstream, "GET", upstream.base + path, lines, bounds)
        reply = await exchanged(self._fetch, self._telemetry, fragment, ask)
        match reply:
            case Failure():
                self._failed(key, reply.detail)
            case Reply(status=304) if known is not None:
                self._failing.pop(key, None)
            case Reply(status=200) if not _coded(reply):
                self._failing.pop(key, None)
                integrity = _integrity(reply.body)
                self._copies[key] = _Copy(data=reply.body, lines=_validators(reply), integrity=integrity)
            case _:
                self._failed(key, f"answered {reply.status}")

    def _failed(self, key: tuple[str, str], detail: str) -> None:
        """Tell it once, not at every look."""
        if self._failing.get(key) != detail:
            self._failing[key] = detail
            self._log.event("asset-failed", level="warning", context=key[0], path=key[1], detail=detail)

    # --- the shelf ----------------------------------------------------------------------------------------------------

    async def _put(self, name: str, data: bytes) -> None:
        shelved = self._files.get(name)
        if shelved is None:
            packed = await anyio.to_thread.run_sync(pack, PurePosixPath(name).suffix, data)
            self._files[name] = _Shelved(packed=packed)
        else:
            shelved.until = None

    def _retire(self, used: set[str]) -> None:
        """Give what is no longer in use its last day; forget what has had it, and the copies that nobody wants."""
        now = self._clock()
        for name, shelved in self._files.items():
            shelved.until = None if name in used else shelved.until if shelved.until is not None else now + KEPT
        over = sorted((each.until, name) for name, each in self._files.items() if each.until is not None)
        size = sum(self._files[name].packed.size for _, name in over)
        for until, name in over:
            if until <= now or size > RETIRED:
                size -= self._files.pop(name).packed.size
        contexts = {each.context for each in self._wanted}
        self._copies = {key: copy for key, copy in self._copies.items() if key[0] in contexts}

    async def answer(self, name: str, headers: Sequence[tuple[bytes, bytes]]) -> Answer:
        """The file `<context>/<name>`. One that is not there may be known to another worker: look again first, once a second at most."""
        if name not in self._files and self._clock() - self._looked >= 1.0 and self._knows(name):
            self._due.set()
            await self.settled(1.0)
        shelved = self._files.get(name)
        if shelved is None:
            return problem(404, "There is no such file.", html=False)
        return shelved.packed.answer(headers, _IMMUTABLE)

    def _knows(self, name: str) -> bool:
        return name.partition("/")[0] in {each.context for each in self._wanted}


def _hashed(path: str, data: bytes, kind: str) -> str:
    """`/css/card.css` → `css/card.<digest>.css`."""
    pure = PurePosixPath(_SPECIAL.sub("_", path.strip("/")) or kind)
    suffix = pure.suffix if pure.suffix in KINDS else f".{kind}"
    return str(pure.with_name(f"{pure.stem}.{_digest(data)}{suffix}"))


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()[:16]


def _integrity(data: bytes) -> str:
    return "sha384-" + base64.b64encode(sha384(data).digest()).decode()


def _intact(data: bytes, registered: str) -> bool:
    """Whether content is what the build registered (SRI: any of the hashes); only sha384 is understood."""
    stated = [each for each in registered.split() if each.startswith("sha384-")]
    return not stated or _integrity(data) in stated


def _coded(reply: Reply) -> bool:
    return any(name == b"content-encoding" and value.lower() != b"identity" for name, value in reply.headers)


def _validators(reply: Reply) -> bytes:
    """What to ask with next time, so that nothing new costs nothing."""
    found = dict(reply.headers)
    names = ((b"etag", b"if-none-match"), (b"last-modified", b"if-modified-since"))
    return b"".join(b"%b: %b\r\n" % (ask, found[told]) for told, ask in names if told in found)
