"""Makes the second tier that the settings name; loads only what that one needs."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bff.store.tier import Failed, Tell, Tier

_SQLITE: Final = "sqlite:///"


def open_tier(url: str, *, failed: Failed, tell: Tell) -> Tier | None:
    """The tier at this URL (`config.options` has checked it); None for memory://, which has no second one."""
    if url.startswith(_SQLITE):
        from bff.store.sqlite import SqliteTier  # noqa: PLC0415 - only where it is used

        return SqliteTier(Path(url.removeprefix(_SQLITE)), failed=failed, tell=tell)
    if url.startswith("redis"):
        from bff.store.redis import RedisTier  # noqa: PLC0415 - only where it is used: a tenth of a second to load

        return RedisTier(url, failed=failed, tell=tell)
    return None
