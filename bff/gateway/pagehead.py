"""What the head of a page says besides its status: timing, and the content coding of what follows. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from bff.gateway.compress import TINY, Coding, asked, foreign
from bff.gateway.cors import Cors
from bff.gateway.problems import Fields
from bff.gateway.request import Form
from bff.gateway.request import form as form_of
from bff.page.compose import Composition
from bff.page.plan import PagePlan, Planned

_VARY: Final = b"Accept, Accept-Encoding, HX-Request, Turbo-Frame, X-Up-Target"
_HTML: Final[Fields] = [
    (b"content-type", b"text/html; charset=utf-8"),
    (b"cache-control", b"private, no-cache"),
    (b"vary", _VARY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"strict-origin-when-cross-origin"),
]


def html(plan: PagePlan, policy: bytes, nonce: str) -> Fields:
    """A page for browsers; `policy` is the name of the header with the Content-Security-Policy."""
    before, between, after = plan.csp
    head = [*_HTML, (policy, f"{before}{nonce}{between}{nonce}{after}".encode("latin-1"))]
    if plan.links:
        head.append((b"link", plan.links))
    return head


def program(kind: bytes) -> Fields:
    """A page for programs, in one of the JSON forms."""
    return [(b"content-type", kind), (b"cache-control", b"no-store"), (b"vary", _VARY), *_HTML[3:]]


def coding(found: Mapping[bytes, bytes], method: str, form: Form, planned: Planned) -> Coding | None:
    """The content coding of a page: none where what another site asks for shows somebody's own (docs/decisions/0014).

    A HEAD says what a GET would, where that is certain without its slots.
    """
    wanted = asked(found)
    if wanted is None or (method == "HEAD" and (form != "html" or _least(planned) < TINY)):
        return None
    if not foreign(found):
        return wanted
    return None if any(call is not None and call.fragment.private for call in planned.calls) else wanted


def _least(planned: Planned) -> int:
    """Bytes that the page has at least: its shell's."""
    return sum(len(part) for part in planned.plan.parts if isinstance(part, bytes))


def readable(cors: Cors, headers: Fields, asked: Sequence[tuple[bytes, bytes]]) -> Fields:
    """For other origins where they may: the JSON forms and their errors, never HTML."""
    if not cors.on or form_of(dict(asked).get(b"accept", b"")) == "html":
        return headers
    return cors.readable(headers, asked)


def timing(composition: Composition, first_byte: float) -> bytes:
    """Server-Timing of what is known when the head leaves: the wait for it, and each fetch that has ended."""
    entries = [f"bff;dur={first_byte * 1000:.1f}"]
    for running in composition.slots:
        result = running.result
        if result is not None and result.seconds > 0:
            what = f"{running.plan.slot.fragment} {result.outcome.value} {result.reason.value}"
            entries.append(f'{running.plan.number};dur={result.seconds * 1000:.1f};desc="{what}"')
    return ", ".join(entries).encode("latin-1")
