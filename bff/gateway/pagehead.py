"""What the head of a page says besides its status: timing, and the content coding of what follows. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bff.gateway.compress import TINY, Coding, asked, foreign
from bff.gateway.cors import Cors
from bff.gateway.problems import Fields
from bff.gateway.request import Form
from bff.gateway.request import form as form_of
from bff.page.compose import Composition
from bff.page.plan import Planned


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
            what = f"{running.plan.slot.fragment} {result.outcome.value}"
            entries.append(f'{running.plan.number};dur={result.seconds * 1000:.1f};desc="{what}"')
    return ", ".join(entries).encode("latin-1")
