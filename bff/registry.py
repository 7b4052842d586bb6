"""The current set of registrations: loaded, watched, replaced as a whole, the last good version of each context kept.

A `World` never changes; a reload makes another one and swaps it in with one assignment. Only what changed is compiled
again. Owns the folder of registrations and the reloading of `bff.yaml`; knows nothing of requests. The only importer of
watchfiles.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
from watchfiles import Change, DefaultFilter, awatch

from bff.build import build
from bff.config.compile import route_shape
from bff.config.options import PageOverride, Settings
from bff.config.settings import read_settings
from bff.errors import Finding, UnusableInput
from bff.link import Built, Place, link
from bff.model import Context, Fragment, Page, Route
from bff.rules.overrides import Layers

_LOG: Final = logging.getLogger("bff.registry")
DEBOUNCE: Final = 100  # milliseconds of quiet before a reload; an editor's or a deployment's files come in a burst
LOOK: Final = 5000  # milliseconds between two looks without an event; a look is one stat a file
PAUSE: Final = 1.0  # seconds until a watch that broke down is tried again
LIVE: Final = ("policy", "overrides", "ceilings", "allow", "csp", "cors")
"""The settings that hold from the next reload; the others need a restart."""
NONE: Final = Layers(contexts={}, fragments={}, deadlines={})
_SKIPPED: Final = frozenset({"__pycache__", "node_modules"})

OnChange = Callable[["World", list[Finding]], None]
Mark = tuple[Any, ...]
"""What a compilation depends on: equal marks, equal results."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The registrations that hold together at one moment; everything by full name."""

    contexts: Mapping[str, Context] = field(default_factory=dict)
    fragments: Mapping[str, Fragment] = field(default_factory=dict)
    pages: Mapping[str, Page] = field(default_factory=dict)
    routes: Mapping[str, Route] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    loaded: Mapping[str, bool] = field(
        default_factory=dict
    )  # context → whether its files as they are now were accepted
    generation: int = 0
    places: Mapping[str, Place] = field(default_factory=dict)  # as `Built.places`


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """What a folder's last attempt and its last good version were."""

    own: Mark
    mark: Mark
    built: Built | None
    findings: tuple[Finding, ...]
    good: bool


class Registry:
    """Loads `settings.fragments` and keeps it loaded. `config`: the file that `settings` came from, reloaded too."""

    def __init__(self, settings: Settings, env: Mapping[str, str], *, config: Path | None = None) -> None:
        self.settings = settings
        self.world = self._heard = World()  # current, and the last that the watch told of
        self._env = env
        self._config = config
        self._filed, self._told = self._file_settings()
        self._kept: dict[str, _Kept] = {}
        self._notes: list[Finding] = []
        self._overrides = NONE  # of the running gateway, beside those of `bff.yaml`
        self._lock = threading.Lock()  # the watch reloads in a worker thread, a signal in the loop's

    def load(self) -> World:
        """Read every registration that changed, blocking, and make the result current; the same world if none did.

        What is wrong with files is in the world's findings; nothing is raised.
        """
        with self._lock:
            self.world = self._next()
        return self.world

    def reload(self) -> World:
        """As `load`, after `bff.yaml`: its live settings hold at once, for the others there is a note."""
        with self._lock:
            self._read_settings()
            self.world = self._next()
        return self.world  # or a newer one: who is told last must never be told of an older one

    def override(self, layers: Layers) -> World:
        """As `load`, with what operators have changed for a while; it wins over everything."""
        with self._lock:
            self._overrides = layers
            self.world = self._heard = self._next()
        return self.world

    @property
    def _effective(self) -> Settings:
        """The settings with all overrides in one."""
        file, live = self.settings.overrides, self._overrides
        if live is NONE:
            return self.settings
        contexts = {name: {**file.contexts.get(name, {}), **layer} for name, layer in live.contexts.items()}
        fragments = {name: {**file.fragments.get(name, {}), **layer} for name, layer in live.fragments.items()}
        pages = {name: PageOverride(deadline=seconds) for name, seconds in live.deadlines.items()}
        changes = {
            "contexts": {**file.contexts, **contexts},
            "fragments": {**file.fragments, **fragments},
            "pages": {**file.pages, **pages},
            "trust": {**file.trust, **live.trust},
        }
        return self.settings.model_copy(update={"overrides": file.model_copy(update=changes)})

    # --- watching -----------------------------------------------------------------------------------------------------

    async def watch(self, on_change: OnChange) -> None:
        """Reload whenever the registrations or `bff.yaml` change, until cancelled.

        `on_change(world, findings)` is called after each change, on the event loop; what it raises is logged.
        """
        self._heard = self.world
        stop = anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(self._follow, self.settings.fragments, None, on_change, stop)
            if self._config is not None:
                group.start_soon(self._follow, self._config.parent, self._config, on_change, stop)
            try:
                await anyio.sleep_forever()
            finally:
                stop.set()  # the watching threads cannot be cancelled, only asked

    async def _follow(self, folder: Path, file: Path | None, on_change: OnChange, stop: anyio.Event) -> None:
        """Reload on changes below `folder`, or of one `file` in it (editors replace files, so the folder is watched)."""
        complained = False
        while True:
            try:
                async with anyio.create_task_group() as group:
                    group.start_soon(self._renew, on_change)  # runs when the watch stands: nothing in between is missed
                    async for _ in _changes(folder, file, stop):
                        complained = False
                        await self._renew(on_change)
            except* (OSError, RuntimeError) as errors:  # gone, unreadable, out of watches
                if not complained:
                    _LOG.warning("cannot watch %s: %s; trying again", folder, errors.exceptions[0])
                complained = True
            await anyio.sleep(PAUSE)

    async def _renew(self, on_change: OnChange) -> None:
        world = await anyio.to_thread.run_sync(self.reload)
        if world is not self._heard:
            self._heard = world
            try:
                on_change(world, [*world.findings])
            except Exception:  # noqa: BLE001 - whoever listens, the watch goes on
                _LOG.exception("the new registrations could not be taken over")

    # --- loading ------------------------------------------------------------------------------------------------------

    def _next(self) -> World:
        root = self.settings.fragments
        try:
            folders, notes = _folders(root)
        except OSError as error:  # nobody is known to be gone: each keeps its last good version
            folders, notes = [root / name for name in self._kept], [_away(root, error)]
        notes = [*self._told, *notes]
        layouts = tuple((folder.name, *_files(folder / "layouts")) for folder in folders)
        kept = {folder.name: self._attempt(folder, layouts) for folder in folders}
        if self.world.generation and notes == self._notes and _same(kept, self._kept):
            return self.world
        self._kept, self._notes = kept, notes
        return self._world(kept, notes)

    def _attempt(self, folder: Path, layouts: Mark) -> _Kept:
        """The folder's files as they are now, compiled; or the last good version beside what is wrong with them."""
        last = self._kept.get(folder.name)
        own = (*_files(folder), *_settled(self._effective, folder.name))
        mark = (own, layouts)
        if last is not None and last.mark == mark:
            return last
        built, findings = self._build(folder, last.built if last else None)
        if built is not None:
            return _Kept(own=own, mark=mark, built=built, findings=tuple(findings), good=True)
        if last is not None and last.good and last.own == own:  # somebody else's layout did it
            findings = [replace(each, severity="warning", code="dangling") for each in findings]
            return replace(last, mark=mark, findings=tuple(findings))
        return _Kept(own=own, mark=mark, built=last.built if last else None, findings=tuple(findings), good=False)

    def _build(self, folder: Path, last: Built | None) -> tuple[Built | None, list[Finding]]:
        """As `build`; a context that trips a defect of ours, or whose files go while they are read, harms no other."""
        try:
            return build(folder, settings=self._effective, env=self._env, last=last)
        except Exception as error:  # noqa: BLE001 - see above
            _LOG.exception("%s could not be compiled", folder)
            message = f"could not be compiled: {type(error).__name__}: {error}"
            found = _note(folder, "internal", message, "see the log", severity="error")
            return None, [replace(found, context=folder.name)]

    def _world(self, kept: Mapping[str, _Kept], notes: list[Finding]) -> World:
        held: list[Page | Route] = [*self.world.pages.values(), *self.world.routes.values()]
        holders = {route_shape(claim.route): claim.name for claim in held}
        linked = link([each.built for each in kept.values() if each.built is not None], holders)
        findings = [*notes, *(finding for each in kept.values() for finding in each.findings), *linked.findings]
        return World(
            contexts=linked.contexts,
            fragments=linked.fragments,
            pages=linked.pages,
            routes=linked.routes,
            findings=tuple(findings),
            loaded={name: each.good for name, each in kept.items()},
            generation=self.world.generation + 1,
            places=linked.places,
        )

    # --- bff.yaml -----------------------------------------------------------------------------------------------------

    def _file_settings(self) -> tuple[Settings | None, list[Finding]]:
        if self._config is None:
            return None, []
        try:
            return read_settings(self._config, env=self._env)
        except UnusableInput as error:
            return None, error.findings

    def _read_settings(self) -> None:
        """Take over what may change while running; the last good file holds while the present one is unusable."""
        now, self._told = self._file_settings()
        before = self._filed
        if now is None or now == before:
            return
        self._filed = now
        self.settings = self.settings.model_copy(update={name: getattr(now, name) for name in LIVE})
        waiting = [name for name in type(now).model_fields if name not in LIVE and _differ(name, before, now)]
        if waiting and self._config is not None:
            message = f"{', '.join(waiting)} changed"
            self._told.append(_note(self._config, "needs-restart", message, "restart the gateway for it to hold"))


def _settled(settings: Settings, context: str) -> Iterator[str]:
    """What of the live settings a context depends on: an override of one compiles no other again."""
    yield from (repr(getattr(settings, name)) for name in LIVE if name != "overrides")
    overrides, prefix = settings.overrides, f"{context}/"
    yield repr((overrides.contexts.get(context), overrides.trust.get(context)))
    for layer in (overrides.fragments, overrides.pages, overrides.trust):
        yield repr([(name, each) for name, each in layer.items() if name.startswith(prefix)])


def _differ(name: str, before: Settings | None, now: Settings) -> bool:
    return before is not None and getattr(before, name) != getattr(now, name)


def _same(kept: Mapping[str, _Kept], before: Mapping[str, _Kept]) -> bool:
    return kept.keys() == before.keys() and all(each is before[name] for name, each in kept.items())


async def _changes(folder: Path, file: Path | None, stop: anyio.Event) -> AsyncIterator[None]:
    """Yields when something changed, and every `LOOK` all the same.

    Events may be lost: before the watch stands, on network file systems, when the folder itself is replaced.
    """
    usual = DefaultFilter()

    def wanted(change: Change, path: str) -> bool:
        return usual(change, path) and (file is None or Path(path).name == file.name)

    looks = awatch(
        folder,
        watch_filter=wanted,
        debounce=DEBOUNCE,
        step=DEBOUNCE // 2,
        stop_event=stop,
        rust_timeout=LOOK,
        yield_on_timeout=True,
        recursive=file is None,
    )
    async for _ in looks:
        yield None


# --- files ------------------------------------------------------------------------------------------------------------


def _folders(root: Path) -> tuple[list[Path], list[Finding]]:
    """The folders of contexts, in alphabetical order, and a note for each that holds no registration."""
    folders, notes = [], []
    for entry in sorted(root.iterdir()):
        if entry.name.startswith((".", "_")) or entry.name in _SKIPPED or not entry.is_dir():
            continue
        if not entry.name.isprintable():  # no text at all, maybe: neither a log line nor a label could hold it
            message, remedy = f"the folder {entry.name!r} in it has no context's name", "use a-z, 0-9 and -"
            notes.append(_note(root, "bad-name", message, remedy, severity="error"))
        elif _registers(entry):
            folders.append(entry)
        else:
            notes.append(
                _note(entry, "no-context", "has no context.yaml and is ignored", "add one, or move the folder")
            )
    return folders, notes


def _away(root: Path, error: OSError) -> Finding:
    """Why there is nothing to read: moved away for a moment, a share that is gone, somebody else's."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        remedy = "create it with `bff new context NAME`, or name another with --fragments"
        return _note(root, "no-fragments", "there is no such folder", remedy, severity="warning")
    message = f"cannot be read: {error.strerror}"
    return _note(root, "unreadable", message, "check its permissions", severity="error")


def _registers(folder: Path) -> bool:
    """Whether it is a context's; whoever reads one that nobody may look into says so, and harms no other."""
    try:
        return (folder / "context.yaml").exists()
    except OSError:
        return True


def _note(file: Path, code: str, message: str, remedy: str, *, severity: Any = "note") -> Finding:
    return Finding(file=str(file), line=1, column=1, code=code, message=message, remedy=remedy, severity=severity)


def _files(folder: Path, seen: set[tuple[int, int]] | None = None) -> Iterator[tuple[str, int, int, int, int]]:
    """Every file under `folder` that a registration may use, with what changes when its content does, or who may read it.

    Links are followed, but into each folder once: one that leads back to where it stands would have no end.
    """
    seen = set() if seen is None else seen
    try:
        stat = folder.stat()
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    if (stat.st_dev, stat.st_ino) in seen:
        return
    seen.add((stat.st_dev, stat.st_ino))
    for entry in entries:
        if entry.name.startswith(".") or entry.name in _SKIPPED or entry.name.endswith((".py", ".pyc")):
            continue
        try:
            if entry.is_dir():
                yield from _files(Path(entry.path), seen)
                continue
            stat = entry.stat()
        except OSError:  # gone meanwhile, or a link to nowhere
            continue
        yield entry.path, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino
