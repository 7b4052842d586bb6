"""Cross-origin reading (the Fetch standard's CORS protocol): who may read JSON forms, fragments, tasks and proxy routes.

Origins are compared byte for byte. Pure; what is never readable (HTML pages, admin) does not come here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from bff.gateway.problems import Answer, Fields, problem

EXPOSED: Final = (
    b"Age, BFF-Outcome, BFF-Reason, Cache-Status, Content-Disposition, Content-Range, ETag, Link, Location, Retry-After, Server-Timing, "
    b"WWW-Authenticate, X-Request-ID"
)
"""What scripts of another origin may read beyond the safelisted response headers (Fetch §2.2.2); never `*`, which credentials void."""
_REMEMBERED: Final = b"600"  # seconds that a browser asks no preflight again; Chromium's default is 5, its limit 7200
_NAMES: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:[ \t]*,[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+)*")
_LONGEST: Final = 1024  # bytes of Access-Control-Request-Headers


class Cors:
    """What `cors:` of the settings allows; without origins nothing, and nothing is added to any answer."""

    def __init__(self, origins: Iterable[str] = (), *, credentials: bool = False) -> None:
        self.allow(origins, credentials=credentials)

    def allow(self, origins: Iterable[str], *, credentials: bool) -> None:
        """From now on. `origins`: as browsers send them, `https://app.example`; `*` for any, without credentials only."""
        named = frozenset(origin.encode("latin-1") for origin in origins)
        self.on = bool(named)
        self._any = b"*" in named and not credentials
        self._origins = named - {b"*"}
        self._credentials = credentials

    def readable(self, headers: Sequence[tuple[bytes, bytes]], asked: Sequence[tuple[bytes, bytes]]) -> Fields:
        """An answer's `headers`, readable for the origin that `asked` names, where it may; only ours may say so."""
        if not self.on:
            return [*headers]
        out = [pair for pair in headers if not pair[0].startswith(b"access-control-")]
        origin = _origin(asked)
        out = _varied(out, b"Origin")
        if self._allows(origin):
            out += [*self._named(origin), (b"access-control-expose-headers", EXPOSED)]
        return out

    def preflight(self, asked: Sequence[tuple[bytes, bytes]], methods: Iterable[str]) -> Answer | None:
        """The answer to an OPTIONS that is a preflight (Fetch §4.8); None where it is none, or where CORS is off.

        Any header may be sent: those that a registration does not name go no further than the gateway.
        """
        named = dict(asked)
        method, origin = named.get(b"access-control-request-method"), _origin(asked)
        if not self.on or method is None or not origin:
            return None
        vary = (b"vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers")
        if not self._allows(origin) or method.decode("latin-1") not in {*methods}:
            return problem(403, "This origin may not do that.", html=False, headers=[vary])
        head: Fields = [
            vary,
            *self._named(origin),
            (b"access-control-allow-methods", method),
            (b"access-control-max-age", _REMEMBERED),
        ]
        wanted = named.get(b"access-control-request-headers", b"").strip()
        if len(wanted) <= _LONGEST and _NAMES.fullmatch(wanted):
            head.append((b"access-control-allow-headers", wanted))
        return Answer(204, head)

    def _allows(self, origin: bytes) -> bool:
        return self._any or origin in self._origins

    def _named(self, origin: bytes) -> Fields:
        head: Fields = [(b"access-control-allow-origin", b"*" if self._any else origin)]
        return [*head, (b"access-control-allow-credentials", b"true")] if self._credentials else head


def _origin(asked: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The one Origin of a request."""
    found = [value for name, value in asked if name == b"origin"]
    return found[0] if len(found) == 1 else b""


def _varied(headers: Fields, name: bytes) -> Fields:
    """With one more name in Vary."""
    out = [pair for pair in headers if pair[0] != b"vary"]
    stated = [value for each, value in headers if each == b"vary"]
    return [*out, (b"vary", b", ".join([*stated, name]))]
