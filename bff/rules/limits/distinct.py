"""At most so many different things in a while; what is repeated is free. Pure."""

from __future__ import annotations

from collections import OrderedDict


class Distinct:
    """Remembers no more than it lets through."""

    __slots__ = ("_most", "_until", "_while")

    def __init__(self, most: int, seconds: float) -> None:
        """`most`: in any time of `seconds`."""
        self._most = most
        self._while = seconds
        self._until: OrderedDict[str, float] = (
            OrderedDict()
        )  # what was let through → when it is forgotten, the next first

    def take(self, what: str, now: float) -> bool:
        """Whether it is one of those, or one more is let through."""
        until = self._until
        while until and next(iter(until.values())) <= now:
            until.popitem(last=False)
        if what not in until and len(until) >= self._most:
            return False
        until[what] = now + self._while
        until.move_to_end(what)
        return True
