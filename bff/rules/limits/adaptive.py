"""How many exchanges a context may have under way, learnt from how long its answers take. Pure.

Additive increase, multiplicative decrease, as TCP has it, with delay for a signal, as Vegas has it; per context and worker.
What a fragment's answers usually take is learnt while little is under way. Then answers are judged a round at a time: where
they took more than twice as long as is usual, or some were the timeouts and refusals of an overloaded context, the limit
falls; else it rises by its square root (the headroom of Envoy's gradient), both only where at least half of it is used. The
registered `concurrency` is never exceeded; it is what holds until something is learnt.
"""

from __future__ import annotations

from math import isqrt
from typing import Final

from bff.rules.limits.again import FINE, Verdict

FLOOR: Final = 8
"""Exchanges that may always be under way, six of them of optional slots: a page's. Envoy goes down to 3, Netflix to 20."""
TOO_LONG: Final = 2.0
"""Times as long as is usual: half of that is waiting for others. Netflix tolerates 1.5, but averages hundreds of answers."""
REJECTED: Final = 0.1
"""A larger share of timeouts, torn answers, 429, 502, 503 and 504 means the same."""
LEAST: Final = 0.5
MOST: Final = 0.9
"""What is left of a limit that falls, the less the worse it was: TCP halves, Netflix's AIMD takes a tenth."""
FEWEST: Final = 10
"""Answers that tell something, of a round (but half the limit at least) and of what is usual (Netflix's window)."""
SHORTEST: Final = 0.1
"""Seconds of a round (Envoy's interval): one hiccup of theirs, or of this process, is not all of it."""
WEIGHT: Final = 32
"""Answers among which a new one counts towards what is usual."""
CLIP: Final = 4.0
"""Times as long as is usual for which one answer counts at most: one in a hundred may take a hundred times as long."""
PATIENCE: Final = 30.0
"""Seconds at the floor without a good round until what it takes there is held to be usual. It may be the load of other
workers and gateways, which all learn the same and pass in less; or a context that has become slower for good."""
AGAIN: Final = 5
"""Rounds in a row in which answers took less than half of what is usual until that is held to be wrong."""


class Usual:
    """What one fragment's answers take while little is under way: a moving average in seconds."""

    __slots__ = ("answers", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        self.answers = 0


class Adaptive:
    """One context's. `round`: its number; `under`: what began and is not over, waiting or not.

    `limit`: what holds now, where what is registered is not less; never below `FLOOR`.
    """

    __slots__ = (
        "_answers", "_due", "_expected", "_faster", "_low", "_most", "_peak", "_rejected", "_seen", "_since", "_took",
        "_unknown", "_usual", "limit", "round", "under",
    )  # fmt: skip

    def __init__(self, most: int) -> None:
        """`most`: the registered limit."""
        self.limit = max(most, FLOOR)
        self.round = 0
        self.under = 0
        self._most = most
        self._usual: dict[str, Usual] = {}
        self._due = 0.0  # from when on the round may end
        self._since = 0  # the round from which on exchanges show what the limit has brought
        self._low = 0.0  # since when there was no good round at the floor; 0: there was
        self._faster = 0  # rounds in a row that were too fast to be true
        self._anew()

    def _anew(self) -> None:
        self._seen = 0  # the largest registered limit in this round: slots may differ, and overrides come and go
        self._peak = self.under
        self._answers = 0
        self._rejected = 0
        self._unknown = 0  # answers of which it is not known how long they usually take
        self._took = 0.0  # seconds, the others together
        self._expected = 0.0  # what these take usually

    def begin(self, most: int, *, optional: bool) -> int:
        """One is to be asked for, whose registered limit is `most`; the limit to ask with. `leave` is called once it is over.

        It is the registered one while this context has fewer under way than it may, whatever else is asked of its service;
        else what it may, by which it is refused, or waits. Optional ones leave the last quarter to others.
        """
        under = self.under
        self.under = under + 1
        if under >= self._peak:
            self._peak = under + 1
        if most > self._seen:  # noqa: PLR1730 - hot
            self._seen = most
        limit = self.limit if self.limit < most else most  # noqa: FURB136 - hot
        return most if (under * 4 < limit * 3 if optional else under < limit) else limit

    def leave(self) -> None:
        """One is over, whatever became of it."""
        self.under -= 1

    def learn(self, name: str, verdict: Verdict, seconds: float, of: int) -> bool:
        """How one ended that began in round `of`; whether there are answers enough for `judge`.

        `name`: of its fragment or route; `seconds`: at the context, 0 where that is not known.
        """
        if of < self._since:
            return False
        if verdict is FINE:
            if seconds > 0.0:
                self._time(name, seconds)
        elif verdict is Verdict.REJECTED:
            self._rejected += 1
        elif verdict is not Verdict.FAILED:
            return False
        self._answers = answers = self._answers + 1
        return answers >= FEWEST and answers * 2 >= self.limit

    def _time(self, name: str, seconds: float) -> None:
        usual = self._usual.get(name)
        if usual is None:
            usual = self._usual[name] = Usual()
        expected, answers = usual.seconds, usual.answers
        if answers < FEWEST:
            self._unknown += 1
        else:
            if seconds > CLIP * expected:  # noqa: PLR1730 - hot
                seconds = CLIP * expected
            self._took += seconds
            self._expected += expected
        # little is under way because little is asked for, or in order to find out what is usual
        peak, limit = self._peak, self.limit
        if (peak <= FLOOR and peak * 4 < limit * 3) or (limit <= FLOOR and answers < WEIGHT):
            if answers < WEIGHT:
                usual.answers = answers = answers + 1
            usual.seconds = expected + (seconds - expected) / answers

    def judge(self, now: float) -> None:
        """Set the limit by what this round was like, if it was long enough, and begin the next."""
        if now < self._due:
            return
        self.round += 1
        self._most = self._seen or self._most
        self.limit = max(min(self.limit, self._most), FLOOR)
        if self._peak * 2 >= self.limit:  # else it limits nothing, and nothing is learnt of it
            limit = max(min(self._next(now), self._most), FLOOR)
            if limit < self.limit:
                self._since = self.round  # what began before was slow for the limit of before
            self.limit = limit
        self._due = now + SHORTEST
        self._anew()

    def _next(self, now: float) -> int:
        rejected = self._rejected / self._answers
        slower = self._took / self._expected if self._expected else 1.0
        if rejected > REJECTED or slower > TOO_LONG:
            self._bear(now)
            left = min(1.0 - rejected, TOO_LONG / slower)
            return int(self.limit * min(max(left, LEAST), MOST))
        self._low = 0.0
        if self._unknown * 2 > self._answers:
            return FLOOR  # that it may be learnt what is usual
        hurried = self._peak > FLOOR and self.limit > FLOOR
        self._faster = self._faster + 1 if hurried and slower * TOO_LONG < 1.0 else 0
        if self._faster == AGAIN:
            self._faster = 0
            self._usual.clear()
        return self.limit + isqrt(self.limit)

    def _bear(self, now: float) -> None:
        """A round was bad: at the floor, there is no less to ask."""
        if self.limit > FLOOR:
            return
        if not self._low:
            self._low = now
        elif now - self._low >= PATIENCE:
            self._low = 0.0
            self._usual.clear()
