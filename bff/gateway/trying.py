"""How a context is asked for a proxied answer: once, again where its failure may pass, or twice where the first is slow.

Owns an exchange's tries up to the head that counts: nothing has been passed on until then, so another one may take its place.
Only what asks and brings no body is sent twice. What is made of the answer is `flights`; whether another try may be made,
`upstream.permits`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

from bff.gateway.proxied import Job
from bff.model import UNTIMED, Failure, Fragment, Headers, Reason, Reply, Telemetry, Timeout, Upstream
from bff.rules.forwarding import Lines
from bff.rules.limits.again import FINE, UNKNOWN
from bff.upstream.permits import Permit
from bff.upstream.stream import Body, Head, Stream

Hints = Callable[[int, Headers], None]
GIVEN_UP: Final = Failure(Reason.TORN, "reset", "it was given up")
_ONCE_MORE: Final = frozenset({"GET", "HEAD"})  # what may go beside the first; only GET is sent again (contract §2)


class Start(Protocol):
    """Starts streamed exchanges (`upstream.stream.Streams`)."""

    def __call__(
        self,
        upstream: Upstream,
        method: str,
        target: str,
        lines: Headers,
        *,
        body: Body | None,
        timeout: Timeout,
        limit: int,
        optional: bool = False,
    ) -> Stream: ...


class Try:
    """One job's way to an answer: the exchange that is under way for it, or was chosen, and leave to have it."""

    __slots__ = ("hinted", "hints", "job", "label", "lines", "permit", "stream")

    def __init__(self, job: Job, lines: Lines, hints: Hints, permit: Permit) -> None:
        self.job = job
        self.lines = lines
        self.permit = permit
        self.stream: Stream | None = None  # None where it may not be had, or is over
        self.label = ""  # how its exchange ended, for the numbers
        self.hinted = False  # it has sent an answer that is not the last, which is passed on
        self.hints = hints

    def hint(self, status: int, headers: Headers) -> None:
        self.hinted = True
        self.hints(status, headers)

    @property
    def bodiless(self) -> bool:
        return self.job.body is None and self.job.method in _ONCE_MORE


class Trying:
    """Asks contexts, for all proxy routes of one gateway."""

    def __init__(self, *, start: Start, permit: Callable[[str, Fragment], Permit], telemetry: Telemetry) -> None:
        self._start = start
        self._permit = permit
        self._telemetry = telemetry

    def begin(self, job: Job, lines: Lines, hints: Hints) -> Try:
        """Ask, where that is allowed now. `lines`: the head; `hints` is told of answers that are not the last."""
        made = Try(job, lines, hints, self._permit(job.route.name, job.route.fragment))
        if made.permit.refusal is None:
            self._send(made, job.policy.timeout)
        return made

    async def head(self, of: Try) -> Head | Failure:
        """The head of the answer that counts, whose body is `of.stream`'s; or why there is none."""
        if of.permit.refusal is not None or of.stream is None:
            return of.permit.refusal or GIVEN_UP
        if of.bodiless and (after := of.permit.patience()) is not None:
            await asyncio.wait((of.stream.answer,), timeout=after)
            if not of.stream.answer.done() and not of.hinted and (beside := of.permit.beside()) is not None:
                return await self._raced(of, beside)
        stream: Stream | None = of.stream
        while stream is not None:
            head = await stream.head()
            end = self._learn(of, head)
            pause = of.permit.again(end) if of.job.method == "GET" and of.bodiless else None
            if pause is None:
                return head
            self.end(of)
            await asyncio.sleep(pause)
            stream = self._again(of)
        return of.permit.refusal or GIVEN_UP

    def end(self, of: Try) -> None:
        """Whatever it asked is over."""
        stream, fragment = of.stream, of.job.route.fragment
        if stream is not None:
            of.stream = None
            stream.hinted = None
            stream.cancel()
            self._telemetry.inflight[fragment.context] -= 1
            if of.label:
                self._telemetry.upstream(fragment, of.label, stream.seconds)

    def leave(self, of: Try) -> None:
        """It is of no use to anybody any more."""
        self.end(of)
        of.permit.leave()

    def _again(self, of: Try) -> Stream | None:
        """Send it once more, unless its context is not to be asked any more. What has passed of its time does not come back."""
        timeout = of.job.policy.timeout
        left = of.permit.renewed()
        return None if left is None else self._send(of, replace(timeout, first_byte=min(timeout.first_byte, left)))

    # --- two at a time

    async def _raced(self, first: Try, beside: Permit) -> Head | Failure:
        """Ask a second time beside the first, and take the answer that comes first, unless the other one's is better."""
        second = Try(first.job, first.lines, first.hints, beside)
        policy = first.job.policy
        won = False
        try:
            left = replace(policy.timeout, first_byte=beside.left(policy.timeout.first_byte))
            for stream in (first.stream, self._send(second, left, optional=True)):
                if stream is not None:
                    stream.hinted = None  # which of them counts is not known yet
            chosen, head = await self._better(first, second)
            won = chosen is second
            if won:
                first.stream, second.stream = second.stream, first.stream
                first.permit, second.permit = second.permit, first.permit
                first.label, second.label = second.label, first.label
            second.label = second.label or "cancelled"
            return head
        finally:
            self.leave(second)
            first.permit.raced(won=won)

    async def _better(self, *tries: Try) -> tuple[Try, Head | Failure]:
        """The first that is well; where none is, the last that says anything of the context."""
        found: tuple[Try, Head | Failure] | None = None
        waiting = {each.stream.answer: each for each in tries if each.stream is not None}
        while waiting:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for answered in [each for each in waiting if each in done]:
                each, head = waiting.pop(answered), answered.result()
                self._learn(each, head)
                if each.permit.verdict is FINE:
                    return each, head
                if found is None or each.permit.verdict is not UNKNOWN:
                    found = each, head
        return found or (tries[0], GIVEN_UP)

    # --- one exchange

    def _send(self, of: Try, timeout: Timeout, *, optional: bool = False) -> Stream:
        job = of.job
        fragment, policy = job.route.fragment, job.policy
        of.stream = stream = self._start(
            fragment.upstream,
            job.method,
            job.target,
            of.lines,
            body=job.body,
            timeout=timeout,
            limit=of.permit.begin(policy.concurrency, optional=optional),
            optional=optional,
        )
        stream.hinted = of.hint
        self._telemetry.inflight[fragment.context] += 1
        return stream

    @staticmethod
    def _learn(of: Try, head: Head | Failure) -> Reply | Failure:
        of.label = str(head.status)
        timing = UNTIMED if of.job.body is not None or of.stream is None else of.stream.timing  # its sender may be slow
        end = head if isinstance(head, Failure) else Reply(head.status, list(head.headers), b"", timing)
        of.permit.answered(end)
        return end
