"""What `bff dev` adds to a page: how each slot ended, as data, and the module that shows it."""

from __future__ import annotations

from bff.page.compose import Composition
from bff.page.forms import encode


def overlay(composition: Composition, seconds: float) -> bytes:
    """What `bff dev` adds to a page: how each slot ended, as data, and the module that shows it."""
    slots = [
        {
            "slot": ended.slot,
            "as": ended.key,
            "fragment": ended.fragment,
            "owner": ended.owner,
            "outcome": ended.result.outcome.value,
            "reason": ended.result.reason.value,
            "age": ended.result.age,
            "ms": round(ended.result.seconds * 1000, 1),
            "started": round(ended.started * 1000, 1),
            "status": ended.result.status,
            "detail": ended.result.detail,
            "params": ended.params,
            "timing": None
            if ended.result.timing is None
            else {
                name: round(getattr(ended.result.timing, name) * 1000, 1)
                for name in ("queued", "connected", "first_byte", "total")
            },
        }
        for ended in composition.ended()
    ]
    data = encode({"page": composition.planned.plan.page.name, "ms": round(seconds * 1000, 1), "slots": slots})
    safe = data.replace(b"<", b"\\u003c")
    return (
        b'<script type="application/json" id="bff-overlay">' + safe + b"</script>"
        b'<script type="module" async src="/_bff/static/overlay.js"></script>'
    )
