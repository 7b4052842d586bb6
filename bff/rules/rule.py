"""A rule of caching as the documentation lists it: its section, what is done, and the test that proves it.

Each module of the engine ends in a `RULES` tuple of these; `docs/generate.py` writes them into docs/caching.md.
"""

from __future__ import annotations

from typing import NamedTuple


class Rule(NamedTuple):
    """One row: `section` of an RFC (or "contract"), one sentence, and the test under tests/rules/ as `file::function`."""

    section: str
    says: str
    proof: str
