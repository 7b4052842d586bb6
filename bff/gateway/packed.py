"""Files as they are sent: held in memory, encoded once in every coding, and answered with ETag, 304 and HEAD.

Owns the media types that files may have, and the folder of static ones. Knows nothing of contexts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from threading import Thread
from typing import Final

from bff.gateway.compress import CODINGS, TINY, Coding, asked, best, compressible
from bff.gateway.problems import Answer, Fields, problem
from bff.gateway.request import matches

KINDS: Final[Mapping[str, bytes]] = {
    ".avif": b"image/avif",
    ".css": b"text/css; charset=utf-8",
    ".gif": b"image/gif",
    ".html": b"text/html; charset=utf-8",
    ".ico": b"image/x-icon",
    ".jpeg": b"image/jpeg",
    ".jpg": b"image/jpeg",
    ".js": b"text/javascript; charset=utf-8",
    ".json": b"application/json",
    ".map": b"application/json",
    ".mjs": b"text/javascript; charset=utf-8",
    ".png": b"image/png",
    ".svg": b"image/svg+xml",
    ".ttf": b"font/ttf",
    ".txt": b"text/plain; charset=utf-8",
    ".wasm": b"application/wasm",
    ".webp": b"image/webp",
    ".woff": b"font/woff",
    ".woff2": b"font/woff2",
}
"""By suffix; a file of another kind is not served."""
_STATIC: Final = b"public, max-age=300, stale-while-revalidate=86400"
"""For names that outlive their content: a new version of the gateway is in use within minutes, and costs no page a wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """One file: `forms` holds its bytes by coding, `None` as they are."""

    kind: bytes
    etag: bytes
    forms: Mapping[Coding | None, bytes]

    @property
    def size(self) -> int:
        return sum(len(form) for form in self.forms.values())

    def answer(self, headers: Sequence[tuple[bytes, bytes]], cache_control: bytes) -> Answer:
        """What a GET gets; the form that the client's Accept-Encoding prefers, or 304 where it has it already."""
        head: Fields = [
            (b"etag", self.etag),
            (b"cache-control", cache_control),
            (b"vary", b"Accept-Encoding"),
            (b"x-content-type-options", b"nosniff"),
        ]
        if self.kind == KINDS[".svg"]:  # opened by itself it would be a document of this origin
            head.append((b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; sandbox"))
        if matches(headers, self.etag):
            return Answer(304, head)
        coding = asked(dict(headers))
        body = self.forms.get(coding)
        if body is None:
            coding, body = None, self.forms[None]
        if coding is not None:
            head.append((b"content-encoding", coding.encode()))
        return Answer(200, [(b"content-type", self.kind), (b"content-length", b"%d" % len(body)), *head], body)


def plain(suffix: str, data: bytes) -> Packed:
    """A file as it is. Raises `KeyError` for an unknown kind."""
    return Packed(kind=KINDS[suffix], etag=_etag(data), forms={None: data})


def pack(suffix: str, data: bytes) -> Packed:
    """A file, encoded where that makes it smaller. Slow: tens of milliseconds for 100 KiB. Raises `KeyError` for an unknown kind."""
    kind = KINDS[suffix]
    forms: dict[Coding | None, bytes] = {None: data}
    if len(data) >= TINY and compressible([(b"content-type", kind)]):
        made = {coding: _best(coding, data) for coding in CODINGS}
        forms |= {coding: form for coding, form in made.items() if len(form) < len(data)}
    return Packed(kind=kind, etag=_etag(data), forms=forms)


def _etag(data: bytes) -> bytes:
    return b'W/"%b"' % blake2b(data, digest_size=12).hexdigest().encode()


@lru_cache(maxsize=64)
def _best(coding: Coding, data: bytes) -> bytes:
    return best(coding, data)


class Static:
    """The files of one folder, by their path in it. `changing`: looked at again whenever they are asked for (`bff dev`).

    Nobody waits for their encoding: a thread sees to it when one is first asked for, and until it has they go as they are.
    """

    def __init__(self, folder: Path, *, changing: bool = False) -> None:
        self._folder = folder
        self._changing = changing
        self._files: Mapping[str, Packed] = self._read(pack if changing else plain)
        self._packing: Thread | None = None

    def settle(self) -> None:
        """Wait until those that have been asked for are encoded."""
        if self._packing is not None:
            self._packing.join()

    def _pack(self) -> None:
        packed = {path: pack(PurePosixPath(path).suffix, file.forms[None]) for path, file in self._files.items()}
        self._files = packed

    def answer(self, path: str, headers: Sequence[tuple[bytes, bytes]]) -> Answer:
        if self._changing:
            self._files = self._read(pack)
        elif self._packing is None:
            self._packing = Thread(target=self._pack, name="pack", daemon=True)
            self._packing.start()
        file = self._files.get(path)
        if file is None:
            return problem(404, "There is no such file.", html=False)
        return file.answer(headers, b"no-cache" if self._changing else _STATIC)

    def _read(self, read: Callable[[str, bytes], Packed]) -> dict[str, Packed]:
        files = [file for file in self._folder.rglob("*") if file.suffix in KINDS and file.is_file()]
        return {file.relative_to(self._folder).as_posix(): read(file.suffix, file.read_bytes()) for file in files}
