"""Two gateways with one second tier: what one has fetched, the other need not."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from bff.model import Fragment, Meta, Outcome, Purge, Reason
from bff.page.flight import Wait
from bff.page.replica import reading
from bff.rules.caching import Fields
from bff.store.record import Record
from bff.upstream.sources.content import Content, Read, Unreadable, rfc3339
from tests.asker import KEEP, Asker
from tests.build import Shelf, World, fragment, policy
from tests.fakes import until

pytestmark = pytest.mark.anyio

FRESH_HIT = (Outcome.FRESH, Reason.HIT)


class Machines:
    """Worlds of their own memory that share a tier and a clock."""

    def __init__(self, made: Fragment, shelf: Shelf | None = None) -> None:
        self.shelf = shelf or Shelf()
        first = World(fragments={made.name: made}, tier=self.shelf)
        second = World(fragments={made.name: made}, tier=self.shelf, loop=first.loop)
        self.one, self.two = Asker(made, first), Asker(made, second)

    async def settled(self) -> None:
        """Until every look-up and write has run; whoever waits for a lease goes on waiting."""
        for _ in range(10):
            await asyncio.sleep(0)

    async def fetched(self, asker: Asker, body: bytes = b"<p>one</p>", **headers: Any) -> None:
        asker.ask()
        await self.settled()
        asker.world.upstreams.to("/card").reply(body, **headers)
        await self.settled()


async def test_what_one_has_fetched_the_other_serves() -> None:
    machines = Machines(fragment(layer=KEEP))
    await machines.fetched(machines.one)
    machines.one.world.loop.advance(3)
    machines.two.ask()
    await machines.settled()
    assert machines.two.last == FRESH_HIT
    assert machines.two.html == b"<p>one</p>"
    assert machines.two.results[-1].age == 3
    assert machines.two.world.upstreams.flown == []
    asked = len(machines.shelf.asked)
    machines.two.ask()
    assert machines.two.last == FRESH_HIT
    assert len(machines.shelf.asked) == asked, "now it is in this one's memory"


async def test_one_fetches_for_all() -> None:
    machines = Machines(fragment(layer=KEEP))
    machines.one.ask()
    await machines.settled()
    machines.two.ask()
    await machines.settled()
    assert machines.two.world.upstreams.flown == []
    machines.one.world.upstreams.to("/card").reply(b"<p>one</p>")
    await until(lambda: machines.two.results, "the other one has it")
    assert machines.two.last == FRESH_HIT
    assert machines.shelf.leases == set()


async def test_where_the_one_that_fetches_fails_the_next_one_does() -> None:
    machines = Machines(fragment(layer=KEEP))
    machines.one.ask()
    await machines.settled()
    machines.two.ask()
    machines.one.world.upstreams.to("/card").fail()
    await until(lambda: machines.two.world.upstreams.flown, "the other one asks")
    machines.two.world.upstreams.to("/card").reply(b"<p>two</p>")
    assert machines.two.last == (Outcome.FRESH, Reason.OK)


async def test_what_was_purged_while_another_process_was_waited_for_is_not_what_is_fetched_then() -> None:
    machines = Machines(fragment(layer=KEEP))
    two = machines.two.world
    machines.one.ask()
    await machines.settled()
    machines.two.ask()
    await machines.settled()
    two.loop.advance(0.1)
    two.store.purge(Purge(kind="all"), two.loop.time())
    two.loop.advance(0.1)
    machines.one.world.upstreams.to("/card").fail()
    await until(lambda: two.upstreams.flown, "the other one asks")
    two.upstreams.to("/card").reply(b"<p>after</p>")
    machines.two.ask()
    assert machines.two.last == FRESH_HIT, "kept: it was asked for after the purge"


async def test_a_slot_waits_for_another_process_no_longer_than_for_its_own_fetch() -> None:
    machines = Machines(fragment(layer=KEEP))
    machines.shelf.leases.add(machines.two.call().key)
    machines.two.ask()
    await machines.settled()
    machines.two.world.loop.advance(1.6)
    assert machines.two.last == (Outcome.PENDING, Reason.TIMEOUT)
    await until(lambda: not machines.two.world.resolver._flights, "its flight is over")
    assert machines.two.world.upstreams.flown == []


async def test_a_stale_copy_of_the_tier_is_served_while_one_process_refreshes_it() -> None:
    machines = Machines(fragment(layer=KEEP))
    await machines.fetched(machines.one)
    machines.one.world.loop.advance(12)
    machines.one.ask()
    machines.two.ask()
    await machines.settled()
    assert machines.two.last == (Outcome.STALE, Reason.HIT)
    flown = [*machines.one.world.upstreams.open, *machines.two.world.upstreams.open]
    assert len(flown) == 1


async def test_what_was_marked_stale_before_it_was_loaded_is_stale() -> None:
    """A purge that this process's memory had nothing to do with: only the tier's copy says so."""
    machines = Machines(fragment(layer=KEEP))
    await machines.fetched(machines.one)
    ((key, record),) = machines.shelf.records.items()
    machines.shelf.records[key] = replace(record, stale_at=record.born)
    machines.one.world.loop.advance(1)
    machines.two.ask()
    await machines.settled()
    assert machines.two.last == (Outcome.STALE, Reason.HIT)
    assert len(machines.two.world.upstreams.open) == 1


async def test_a_restarted_gateway_whose_context_is_down_shows_the_stale_copy() -> None:
    machines = Machines(fragment(layer=KEEP))
    await machines.fetched(machines.one)
    machines.one.world.loop.advance(20)
    machines.two.ask()
    await machines.settled()
    machines.two.world.upstreams.to("/card").fail()
    assert machines.two.last == (Outcome.STALE, Reason.CONNECT)
    assert machines.two.html == b"<p>one</p>"
    await machines.settled()
    assert machines.shelf.leases == set()


async def test_a_confirmed_copy_is_fresh_for_all() -> None:
    machines = Machines(fragment(layer=KEEP))
    await machines.fetched(machines.one, etag='"a"')
    machines.one.world.loop.advance(20)
    machines.two.ask()
    await machines.settled()
    flown = machines.two.world.upstreams.to("/card")
    assert flown.headers["if-none-match"] == '"a"'
    flown.reply(b"", 304)
    await machines.settled()
    assert machines.two.last == (Outcome.FRESH, Reason.REVALIDATED)
    machines.one.ask()
    await machines.settled()
    assert machines.one.last == FRESH_HIT


async def test_a_changed_registration_makes_it_a_stale_copy() -> None:
    machines = Machines(fragment(layer=KEEP))
    await machines.fetched(machines.one)
    changed = replace(fragment(layer=KEEP), version="2")
    asker = Asker(changed, World(fragments={changed.name: changed}, tier=machines.shelf, loop=machines.one.world.loop))
    asker.ask()
    await machines.settled()
    asker.world.upstreams.to("/card").fail()
    assert asker.last == (Outcome.STALE, Reason.CONNECT)


async def test_what_comes_from_the_tier_is_checked_like_an_answer() -> None:
    machines = Machines(fragment(layer=KEEP))
    await machines.fetched(machines.one)
    (key,) = machines.shelf.records
    machines.shelf.records[key] = replace(machines.shelf.records[key], body=b"</div><base href=//evil><p>x")
    machines.two.ask()
    await machines.settled()
    assert machines.two.html is not None
    assert b"<base" not in machines.two.html
    assert not machines.two.html.startswith(b"</div>")


@pytest.mark.parametrize("change", [{"fragment": "shop/other"}, {"headers": ((b"content-type", b"image/png"),)}])
async def test_what_is_not_the_fragments_own_is_not_taken(change: dict[str, object]) -> None:
    machines = Machines(fragment(layer=KEEP))
    await machines.fetched(machines.one)
    (key,) = machines.shelf.records
    machines.shelf.records[key] = replace(machines.shelf.records[key], **change)  # type: ignore[arg-type] # one of its fields
    machines.two.ask()
    await machines.settled()
    assert len(machines.two.world.upstreams.open) == 1


async def test_cookies_and_hop_by_hop_fields_are_never_written() -> None:
    machines = Machines(fragment(layer=KEEP))
    await machines.fetched(machines.one, connection="keep-alive", age="0", etag='"a"')
    (record,) = machines.shelf.records.values()
    assert {name for name, _ in record.headers} == {b"content-type", b"etag", b"date"}


async def test_private_answers_stay_with_their_principal() -> None:
    machines = Machines(fragment(layer=KEEP | {"cache.scope": "private"}))
    machines.one.ask("ada")
    await machines.settled()
    machines.one.world.upstreams.to("/card").reply(b"<p>ada's</p>")
    await machines.settled()
    machines.two.ask("bob")
    await machines.settled()
    assert len(machines.two.world.upstreams.open) == 1
    machines.two.ask("ada")
    await machines.settled()
    assert machines.two.html == b"<p>ada's</p>"


async def test_an_answer_that_may_not_be_shared_frees_the_others_at_once() -> None:
    machines = Machines(fragment(layer=KEEP))
    machines.one.ask()
    await machines.settled()
    machines.two.ask()
    machines.one.world.upstreams.to("/card").reply(cache_control="no-store")
    await until(lambda: machines.two.world.upstreams.flown, "the other one asks")
    assert machines.shelf.records == {}


async def test_a_tier_that_is_away_costs_a_look_and_nothing_else() -> None:
    machines = Machines(fragment(layer=KEEP))
    machines.shelf.away = True
    await machines.fetched(machines.one)
    assert machines.one.last == (Outcome.FRESH, Reason.OK)


async def test_a_useless_flight_that_is_still_looking_ends_with_its_browser() -> None:
    machines = Machines(fragment(layer=KEEP | {"late": "drop"}))
    wait = machines.one.ask()
    assert isinstance(wait, Wait)
    wait.leave()
    await machines.settled()
    assert machines.one.world.upstreams.flown == []
    assert machines.one.world.seen.inflight.total() == 0


async def test_closing_ends_what_is_looked_for() -> None:
    machines = Machines(fragment(layer=KEEP))
    machines.one.ask()
    machines.one.world.resolver.close()
    await machines.settled()
    assert machines.one.world.upstreams.flown == []
    assert machines.one.world.replica is not None
    await machines.one.world.replica.aclose()


class Broken:
    """A source with a defect, at once or in a worker thread."""

    accept = "text/html"

    def __init__(self, *, later: bool) -> None:
        self._later = later

    def read(self, fragment: Fragment, found: Fields, body: bytes, params: Mapping[str, Any], *, head: bool) -> Read:
        if self._later:
            return partial(self._fail)
        return self._fail()

    def _fail(self) -> Content:
        raise RuntimeError("a defect")


@pytest.mark.parametrize("later", [False, True])
async def test_a_defect_of_a_sources_makes_its_answer_unreadable(later: bool, caplog: pytest.LogCaptureFixture) -> None:
    world = World(fragments={"shop/card": fragment()})
    call = world.planner.call(fragment(), policy(), {})
    assert call is not None
    read = reading({"html": Broken(later=later)}, call, 200, {}, b"x")
    made = read() if callable(read) else read
    assert made == Unreadable("reading it failed; the log says how")
    assert "a defect" in caplog.text


class Late(Shelf):
    """Whoever has the lease has kept it just before it goes to the next one."""

    hidden: Record | None = None

    async def lease(self, key: str, seconds: float) -> bool:
        if self.hidden is not None:
            self.records[key] = self.hidden
        return await super().lease(key, seconds)


async def test_what_was_kept_while_the_lease_changed_hands_is_not_fetched_again() -> None:
    shelf = Late()
    machines = Machines(fragment(layer=KEEP), shelf)
    await machines.fetched(machines.one)
    ((key, shelf.hidden),) = shelf.records.items()
    del shelf.records[key]
    machines.two.ask()
    await machines.settled()
    assert machines.two.last == FRESH_HIT
    assert machines.two.world.upstreams.flown == []
    assert shelf.leases == set(), "and it is given back"


async def test_a_template_says_after_a_restart_what_it_said_before_of_when_its_source_answered() -> None:
    """The context states no Date: what was recorded when it answered counts, not when the copy is read again."""

    def template(_data: Any, _params: Mapping[str, Any], meta: Meta, _within: float) -> str:
        return meta.date

    machines = Machines(fragment(layer=KEEP, source="json", template=template))
    wall = machines.one.world.replica._wall()  # type: ignore[union-attr] # there is one
    await machines.fetched(machines.one, b"{}", kind=b"application/json")
    machines.one.world.loop.advance(7)
    machines.two.ask()
    await machines.settled()
    assert machines.two.last == FRESH_HIT
    assert machines.two.html == rfc3339(wall).encode()


@pytest.mark.parametrize(
    ("later", "last"),
    [
        (0, FRESH_HIT),
        (12, (Outcome.STALE, Reason.HIT)),
        (20, (Outcome.STALE, Reason.OFF)),
        (100, (Outcome.OMITTED, Reason.OFF)),
    ],
)
async def test_who_is_not_to_ask_looks_in_the_tier(later: float, last: tuple[Outcome, Reason]) -> None:
    shelf = Shelf()
    machines = Machines(fragment(layer=KEEP), shelf)
    await machines.fetched(machines.one)
    made = fragment(layer=KEEP | {"state": "stored"})
    asker = Asker(made, World(fragments={made.name: made}, tier=shelf, loop=machines.one.world.loop))
    machines.one.world.loop.advance(later)
    asker.ask()
    await machines.settled()
    assert asker.last == last
    assert asker.world.upstreams.flown == []
    assert not asker.world.resolver._alone
