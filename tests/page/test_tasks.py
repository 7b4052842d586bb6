import asyncio
import json

import pytest

from bff.model import Forward, Outcome, Reason, Result
from bff.page.flight import Wait
from bff.page.forms import JsonWriter
from bff.page.tasks import KEPT, Underway
from bff.page.wire import HtmlWriter
from bff.rules.tasks import LIFE, Signer
from tests.build import WALL, Shelf, World, document, fragment, int_param, page, slot

EXPORT = fragment("shop/export", starts_task=True, forward=Forward(principal="x-user"), params={"n": int_param("n")})
REPORT = fragment("shop/report", layer={"cache.mode": "off"})
FRAGMENTS = {"shop/export": EXPORT, "shop/report": REPORT}


class Asker:
    """Calls of one fragment, with what became of them in order."""

    def __init__(self, world: World, name: str, **params: str) -> None:
        self.world, self.results = world, list[Result]()
        made = world.planner.fragments[name]
        self.call = world.planner.call(made, made.policy, {key: [text] for key, text in params.items()})

    def ask(self, principal: str | None = None) -> "Wait | Result":
        assert self.call is not None
        answer = self.world.resolver.start(self.call, self.world.visit(principal), self.results.append)
        if isinstance(answer, Result):
            self.results.append(answer)
        return answer


def test_a_202_is_a_pending_slot_and_the_same_task_until_it_ends() -> None:
    world = World(fragments=FRAGMENTS)
    export = Asker(world, "shop/export", n="1")
    export.ask("ada")
    export.ask("ada")
    world.upstreams.to("/export/1").reply(b"", 202, location="/jobs/1", retry_after="5")
    export.ask("ada")
    first, second, third = export.results
    assert (first.outcome, first.reason, first.status) == (Outcome.PENDING, Reason.TASK, 202)
    assert (first.retry_after, third.retry_after) == (5, 1)
    assert first.task == second.task == third.task
    task = world.tasks.read(first.task.removeprefix("/_bff/tasks/"), "ada")
    assert task is not None
    assert (task.name, task.target) == ("shop/export", "/jobs/1")
    assert len(world.upstreams.flown) == 1
    assert world.upstreams.flown[0].ask.once  # never sent a second time
    export.ask("bob")
    Asker(world, "shop/export", n="2").ask("ada")
    assert len(world.upstreams.open) == 2
    world.tasks.end(task)
    export.ask("ada")
    assert len(world.upstreams.open) == 3


def test_a_task_that_all_may_share_has_an_id_for_each() -> None:
    world = World(fragments=FRAGMENTS)
    report = Asker(world, "shop/report")
    report.ask()
    world.upstreams.to("/report").reply(b'{"job_id": "7", "job_url": "http://127.0.0.1:9100/jobs/7"}', 202)
    report.ask("ada")
    mine, hers = (result.task.removeprefix("/_bff/tasks/") for result in report.results)
    assert mine != hers
    assert world.tasks.read(mine, None) == world.tasks.read(hers, "ada")
    assert world.tasks.read(mine, "ada") is None


def test_what_nobody_may_share_is_not_remembered() -> None:
    world = World(fragments=FRAGMENTS)
    export = Asker(world, "shop/export", n="1")
    export.ask(None)
    world.upstreams.to("/export/1").reply(b"", 202, location="/jobs/1")
    assert export.results[0].task
    assert not world.tasks.underway


@pytest.mark.parametrize(
    ("location", "reason"), [("http://evil.test/jobs/1", Reason.REFUSED), ("//x", Reason.REFUSED), ("", Reason.STATUS)]
)
def test_a_202_that_leads_nowhere_is_an_error(location: str, reason: Reason) -> None:
    world = World(fragments=FRAGMENTS)
    report = Asker(world, "shop/report")
    report.ask()
    world.upstreams.to("/report").reply(b"", 202, location=location)
    (result,) = report.results
    assert (result.outcome, result.reason, result.task) == (Outcome.OMITTED, reason, "")
    assert not world.tasks.underway


def test_a_primary_is_no_task() -> None:
    shell = document(slot(1, "shop/report", kind="primary"))
    world = World(page(shell), fragments=FRAGMENTS)
    composition = world.compose()
    composition.begin()
    world.upstreams.to("/report").reply(b"", 202, location="/jobs/1")
    result = composition.slots[0].result
    assert result is not None
    assert (result.outcome, result.reason) == (Outcome.OMITTED, Reason.STATUS)


def written(world: World) -> tuple[str, dict[str, object]]:
    """The page as HTML, and its first slot as JSON."""
    composition = world.compose(principal="ada")
    composition.begin()
    html = HtmlWriter(composition, nonce="n", suffix="abcdef").advance().decode()
    composition = world.compose(principal="ada")
    composition.begin()
    return html, next(iter(json.loads(JsonWriter(composition, world.loop.time).advance())["slots"].values()))


@pytest.mark.parametrize("load", ["stream", "visible", "client", "click"])
def test_a_page_begins_no_task_and_shows_the_one_that_was_begun(load: str) -> None:
    shell = document(slot(1, "shop/export", load=load, params=(("n", ("1",)),), placeholder=(b"<p>Export</p>",)))
    world = World(page(shell), fragments=FRAGMENTS)
    html, line = written(world)
    assert not world.upstreams.flown
    assert 'state="pending" src="/_bff/fragments/shop/export?n=1" load="click"' in html
    assert line["reason"] == "load"
    export = Asker(world, "shop/export", n="1")
    export.ask("ada")
    world.upstreams.to("/export/1").reply(b"", 202, location="/jobs/1")
    html, line = written(world)
    task = export.results[0].task
    assert f'load="click" task="{task}" retry-after="1"' in html
    assert f'<p>Export</p><noscript><a rel="nofollow" href="{task}">' in html
    assert (line["outcome"], line["reason"], line["task"], line["retry_after"]) == ("pending", "task", task, 1)


@pytest.mark.parametrize(
    ("inside", "linked"), [(b"<b>Export</b>", True), (b"", True), (b"<button>Export</button>", False)]
)
def test_what_a_click_loads_is_a_link_where_there_is_nothing_else_to_click(inside: bytes, linked: bool) -> None:
    shell = document(slot(1, "shop/export", load="click", params=(("n", ("1",)),), placeholder=(inside,)))
    html, _ = written(World(page(shell), fragments=FRAGMENTS))
    link = '<a rel="nofollow" href="/_bff/fragments/shop/export?n=1">'
    assert (f"{link}{inside.decode()}</a></bff-fragment>" in html) is linked
    assert ("<a" in html) is linked


def test_where_there_is_no_wrapper_a_script_begins_it() -> None:
    world = World(page(document(slot(1, "shop/export", wrap=False, params=(("n", ("1",)),)))), fragments=FRAGMENTS)
    html, _ = written(world)
    assert "bff-fragment" not in html
    assert not world.upstreams.flown


def test_what_is_remembered_is_bounded_and_ends() -> None:
    now = [WALL]
    known = Underway(Signer(["s"]), lambda: now[0])
    tasks = [known.begin("shop/export", f"/jobs/{number}", f"k{number}") for number in range(KEPT + 1)]
    assert len(known.underway) == KEPT
    assert known.known("k0") is None
    assert known.known("k1") == tasks[1]
    again = known.begin("shop/export", "/jobs/again", "k1")
    known.end(tasks[1])
    assert known.known("k1") == again
    now[0] += LIFE - 1
    assert known.age(again) == LIFE - 1
    assert known.known("k2") == tasks[2]
    now[0] += 1
    assert known.known("k2") is None
    assert len(known.underway) == KEPT - 1


class Machines:
    """Two processes that share a tier, and a visitor of both."""

    def __init__(self, name: str = "shop/export", **params: str) -> None:
        self.shelf = Shelf()
        self.first = World(fragments=FRAGMENTS, tier=self.shelf)
        self.second = World(fragments=FRAGMENTS, tier=self.shelf, loop=self.first.loop)
        self.here, self.there = (Asker(world, name, **params) for world in (self.first, self.second))

    @staticmethod
    async def settled() -> None:
        """Until every look-up has run, and what is told has been told."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def ask(self, asker: Asker, principal: str | None = "ada") -> Result | None:
        """What becomes of asking; None: it waits."""
        before = len(asker.results)
        asker.ask(principal)
        await self.settled()
        return asker.results[-1] if len(asker.results) > before else None

    async def begun(self) -> str:
        assert await self.ask(self.here) is None
        self.first.upstreams.to("/export/1").reply(b"", 202, location="/jobs/1")
        await self.settled()
        return self.here.results[-1].task


@pytest.mark.anyio
async def test_another_process_shows_the_same_task_until_anybody_learns_that_it_is_over() -> None:
    machines = Machines(n="1")
    begun = await machines.begun()
    for asker in (machines.there, machines.here):
        shown = await machines.ask(asker)
        assert shown is not None
        assert (shown.outcome, shown.reason, shown.task) == (Outcome.PENDING, Reason.TASK, begun)
    assert machines.second.upstreams.flown == []
    assert await machines.ask(machines.there, "bob") is None, "a task is its owner's"
    task = machines.second.tasks.read(begun.removeprefix("/_bff/tasks/"), "ada")
    assert task is not None
    machines.second.tasks.end(task)
    await machines.settled()
    assert await machines.ask(machines.here) is None
    assert len(machines.first.upstreams.open) == 1, "it is over: asking begins another"


@pytest.mark.anyio
async def test_two_processes_begin_slow_work_once() -> None:
    """Whoever waits for the other's answer is shown what that has begun."""
    machines = Machines(n="1")
    assert await machines.ask(machines.here) is None
    asking = asyncio.create_task(machines.ask(machines.there))
    assert await asking is None
    machines.first.upstreams.to("/export/1").reply(b"", 202, location="/jobs/1")
    while not machines.there.results:  # noqa: ASYNC110 - it looks again by itself
        await asyncio.sleep(0)
    assert machines.there.results[-1].task == machines.here.results[-1].task
    assert machines.second.upstreams.flown == []


@pytest.mark.anyio
async def test_a_slot_that_a_click_loads_shows_what_another_process_has_begun() -> None:
    shell = document(slot(1, "shop/export", load="click", params=(("n", ("1",)),)))
    machines = Machines(n="1")
    begun = await machines.begun()
    world = World(page(shell), fragments=FRAGMENTS, tier=machines.shelf, loop=machines.first.loop)
    for who, task in (("ada", begun), ("bob", "")):
        composition = world.compose(principal=who)
        composition.begin()
        assert composition.pending == 1
        await machines.settled()
        (running,) = composition.slots
        assert running.result is not None
        assert (running.result.outcome, running.result.task) == (Outcome.PENDING, task)
    assert world.upstreams.flown == []


@pytest.mark.anyio
async def test_a_page_that_is_left_or_over_looks_for_no_task_any_more() -> None:
    shell = document(slot(1, "shop/export", load="click", params=(("n", ("1",)),)))
    world = World(page(shell), fragments=FRAGMENTS, tier=Shelf())
    left, over = world.compose(principal="ada"), world.compose(principal="ada")
    left.begin()
    over.begin()
    left.leave()
    over.expire()
    await Machines.settled()
    assert left.slots[0].result is None
    assert over.slots[0].result is not None
    assert not world.resolver._alone


@pytest.mark.anyio
async def test_what_begins_tasks_unannounced_is_looked_for_once_it_has() -> None:
    """Its answers are never kept, so no lease is asked for either."""
    machines = Machines("shop/report")
    assert await machines.ask(machines.here) is None
    assert len(machines.first.upstreams.open) == 1
    machines.first.upstreams.to("/report").reply(b"", 202, location="/jobs/2")
    await machines.settled()
    shown = await machines.ask(machines.here)
    assert shown is not None
    assert shown.task == machines.here.results[0].task
    assert machines.shelf.leases == set()


@pytest.mark.anyio
async def test_a_tier_that_is_away_or_says_nonsense_hides_no_task_of_ones_own() -> None:
    machines = Machines(n="1")
    begun = await machines.begun()
    machines.shelf.away = True
    shown = await machines.ask(machines.here)
    assert shown is not None
    assert shown.task == begun
    machines.shelf.away = False
    for nonsense in (b"", b"[1]", b"[1, 2, 3]", b"\xff"):
        machines.shelf.values = dict.fromkeys(machines.shelf.values, nonsense)
        assert await machines.second.tasks.recall("shop/export?n=1#principal:ada") is None


@pytest.mark.anyio
async def test_a_day_later_nobody_remembers() -> None:
    machines = Machines(n="1")
    await machines.begun()
    machines.first.loop.advance(LIFE)
    await machines.first.tasks.aclose()
    assert await machines.ask(machines.there) is None
    assert len(machines.second.upstreams.open) == 1
