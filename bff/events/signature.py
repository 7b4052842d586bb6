"""`BFF-Signature: t=<unix>,v1=<hex hmac-sha256 of t.body>`: who may tell us events over the webhook. Pure."""

from __future__ import annotations

import hmac
import re
from typing import Final

HEADER: Final = "bff-signature"
TOLERANCE: Final = 300.0  # seconds that its time may be away from ours: the scheme's customary five minutes

_TIME: Final = re.compile(r"[0-9]{1,12}")


def valid(header: str, body: bytes, secret: str, *, wall: float) -> bool:
    """Whether the header signs this body now. Several `v1` may stand in it: one must be right (a key being replaced)."""
    parts = [part.strip().partition("=") for part in header.split(",")]
    times = [value for name, _, value in parts if name == "t"]
    given = [value for name, _, value in parts if name == "v1"]
    if len(times) != 1 or not _TIME.fullmatch(times[0]) or abs(wall - int(times[0])) > TOLERANCE:
        return False
    wanted = sign(times[0], body, secret).encode()
    return any(hmac.compare_digest(value.encode("utf-8", "replace"), wanted) for value in given)


def sign(time: str, body: bytes, secret: str) -> str:
    """The `v1` of a body signed at `time`."""
    return hmac.digest(secret.encode(), time.encode() + b"." + body, "sha256").hex()
