"""Vite's build manifest: which files an entry needs (https://vite.dev/guide/backend-integration). Pure.

What a manifest says is a context's word: every path is checked before anybody asks for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from bff.gateway.packed import KINDS

MOST: Final = 200
"""Files of one entry; more is a mistake in the build, or a manifest that is none."""
_PATH: Final = re.compile(r"(?:[A-Za-z0-9_@~+-][A-Za-z0-9_.@~+-]*/)*[A-Za-z0-9_@~+-][A-Za-z0-9_.@~+-]*")
_HASHED: Final = re.compile(r"[-.][A-Za-z0-9_-]{8,}\.[a-z0-9]+")


class BadManifest(Exception):
    """What was fetched is no manifest with this entry; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Paths in the build's folder. `others`: what the modules load later (dynamic imports, images)."""

    css: tuple[str, ...]
    js: tuple[str, ...]
    imports: tuple[str, ...]
    others: tuple[str, ...]
    integrity: Mapping[str, str]  # where the build registered it

    @property
    def files(self) -> tuple[str, ...]:
        return (*self.css, *self.js, *self.imports, *self.others)

    @property
    def hashed(self) -> bool:
        """Whether every name changes with its content, so that it can be kept for ever."""
        return all(_HASHED.search(PurePosixPath(file).name) for file in self.files)


def root(manifest: str) -> str:
    """The folder that a manifest's paths are relative to: `/app/.vite/manifest.json` → `/app/`."""
    folder = manifest.rpartition("/")[0]
    return folder.removesuffix(".vite").rstrip("/") + "/"


def read(data: bytes, entry: str) -> Entry:
    """The files of one entry. Raises `BadManifest`."""
    try:
        chunks = json.loads(data)
    except (ValueError, RecursionError):
        raise BadManifest("the manifest is no JSON") from None
    if not isinstance(chunks, dict) or not isinstance(chunks.get(entry), dict):
        raise BadManifest(f"the manifest has no entry {entry!r}")
    static = [*_reached(chunks, entry, ("imports",))]
    every = [*_reached(chunks, entry, ("imports", "dynamicImports"))]
    own = _path(static[0].get("file"))
    modules = tuple(_path(chunk.get("file")) for chunk in static)
    sheets = (
        *(own for _ in [0] if own.endswith(".css")),
        *(_path(css) for chunk in static for css in _list(chunk, "css")),
    )
    first = dict.fromkeys((*sheets, *modules))
    rest = [
        _path(file) for chunk in every for file in (chunk.get("file"), *_list(chunk, "css"), *_list(chunk, "assets"))
    ]
    found = Entry(
        css=tuple(dict.fromkeys(sheets)),
        js=() if own.endswith(".css") else (own,),
        imports=tuple(dict.fromkeys(module for module in modules[1:] if module != own)),
        others=tuple(file for file in dict.fromkeys(rest) if file not in first),
        integrity={str(chunk["file"]): str(chunk["integrity"]) for chunk in every if "integrity" in chunk},
    )
    if len(found.files) > MOST:
        raise BadManifest(f"the entry {entry!r} needs more than {MOST} files")
    return found


def _reached(chunks: Mapping[str, Any], entry: str, ways: tuple[str, ...]) -> Iterator[Mapping[str, Any]]:
    """The entry's chunk and those it leads to, each once."""
    seen = {entry}
    queue = [entry]
    while queue:
        chunk = chunks.get(queue.pop(0))
        if not isinstance(chunk, dict):
            raise BadManifest("the manifest names a chunk that it does not hold")
        yield chunk
        further = dict.fromkeys(name for way in ways for name in _list(chunk, way))
        queue += [name for name in further if name not in seen]
        seen |= {*further}


def _list(chunk: Mapping[str, Any], key: str) -> list[str]:
    found = chunk.get(key, [])
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise BadManifest(f"{key} is no list of names")
    return found


def _path(file: object) -> str:
    if not isinstance(file, str) or not _PATH.fullmatch(file) or PurePosixPath(file).suffix not in KINDS:
        raise BadManifest(f"{file!r} is no file that could be served")
    return file
