"""One exchange with a context, awaited and counted: for what is asked for itself, outside of pages."""

from __future__ import annotations

import asyncio

from bff.gateway.closing import OnClosed
from bff.model import Ask, Failure, Fetch, Fragment, Reply, Telemetry


async def exchanged(
    fetch: Fetch,
    telemetry: Telemetry,
    fragment: Fragment,
    ask: Ask,
    *,
    closed: OnClosed | None = None,
) -> Reply | Failure:
    """The answer, within the ask's bounds; who stops waiting ends the exchange.

    `closed` tells of a client that goes: the wait is cancelled then.
    """
    future: asyncio.Future[Reply | Failure] = asyncio.get_running_loop().create_future()

    def done(answer: Reply | Failure) -> None:
        if not future.done():
            future.set_result(answer)

    def gone() -> None:
        future.cancel()

    if closed is not None:
        closed(gone)
    telemetry.inflight[fragment.context] += 1
    exchange = fetch(ask, done)
    try:
        answer = await future
    except asyncio.CancelledError:
        exchange.cancel()
        raise
    finally:
        telemetry.inflight[fragment.context] -= 1
    telemetry.upstream(fragment, answer.status, answer.timing.total)
    return answer
