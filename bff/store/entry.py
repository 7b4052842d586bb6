"""An answer that is kept, compiled when it is stored: a hit costs a look-up and a comparison of times, and no parsing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bff.model import Cache, Markup, Result
from bff.rules.caching import Terms

OVERHEAD: Final = 1024  # bytes of bookkeeping counted per entry besides its contents, as measured
OVERHEAD_OF_TAG: Final = 128
OVERHEAD_OF_FORM: Final = 256


Seen = tuple[float, Cache, Result]
"""What a fresh copy was shown as, under which rules, and until when it is (`serve.steady`)."""


@dataclass(slots=True, kw_only=True, eq=False)
class Entry:
    """One kept answer. Times are `loop.time()` seconds unless they say wall; `terms` and `born` change on a 304."""

    key: str
    fragment: str
    version: str  # of the registration it was made by
    status: int
    markup: Markup | None
    data: bytes | None
    terms: Terms
    born: float  # when it was generated: arrival minus its age on arrival
    as_of: float | None  # wall
    tags: tuple[str, ...] = ()
    next: str = ""  # the fragment endpoint's address of the list's next page
    principal: str | None = None  # whose it is, in private scope
    took: float = 0.0  # seconds that its fetch took: what it costs to have it again
    stale_at: float = math.inf  # marked by a purge: stale from then on; -inf: gone, whoever still holds it
    rank: float = 0.0  # what it was worth when it was last considered for leaving
    early: float = math.inf  # from then on a hit refreshes it in advance
    used: float = 0.0  # when a hit last made a result of it
    failures: int = 0  # of refreshing it, in a row
    retry_at: float = 0.0  # a background refresh that failed is not tried again before
    hit: bool = False  # since it was last considered for leaving
    seen: Seen | None = None  # the result made of it last
    etags: Mapping[str, bytes] | None = None  # of its texts by name; None: nobody asked for one yet
    forms: Mapping[str, bytes] | None = None  # encoded, by name; None: nobody asked for one yet

    @property
    def size(self) -> int:
        """Bytes it is counted with."""
        tags = OVERHEAD_OF_TAG * len(self.tags) + sum(map(len, self.tags))
        held = (self.markup.size if self.markup else 0) + len(self.data or b"")
        forms = sum(OVERHEAD_OF_FORM + len(form) for form in self.forms.values()) if self.forms else 0
        return OVERHEAD + tags + len(self.key) + held + forms
