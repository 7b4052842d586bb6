"""<bff-fragment> in real browsers: what is loaded late, by a click, on a timer, and what becomes of it when that fails."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Browser

from tests.e2e.browsers import ChromiumTab, View, seen, shown
from tests.e2e.stage import NONCE, TRUSTED, Stage
from tests.fakes import Route, Seen, until

pytestmark = [pytest.mark.anyio, pytest.mark.browser]

WATCH = f"""<script nonce="{NONCE}">
  window.violations = [], window.told = [];
  document.addEventListener("securitypolicyviolation", e => violations.push(e.violatedDirective + " " + e.sample));
  for (const type of ["bff:load", "bff:stale", "bff:error"])
    document.addEventListener(type, e => told.push([type, e.target.dataset.slot, e.detail]));
  window.hide = hidden => {{
    Object.defineProperty(document, "hidden", {{ get: () => hidden, configurable: true }});
    document.dispatchEvent(new Event("visibilitychange"));
  }};
</script>"""
HEAD = f"""<!doctype html><html lang=en><head><meta charset=utf-8><title>Stage</title>{WATCH}
<script type="module" async src="/_bff/static/bff.js" nonce="{NONCE}"></script></head><body><main>"""
SLOT = "document.querySelector('[data-slot=s1]')"


def slot(number: int, attributes: str = 'state="pending"', inside: str = "<p>placeholder</p>") -> str:
    src = f'src="/_bff/fragments/a/p{number}"'
    return f'<bff-fragment name="a/p{number}" data-slot="s{number}" {src} {attributes}>{inside}</bff-fragment>'


def counting(text: str) -> Any:
    """An answer that says which one it is."""
    asked = 0

    def answer(_: Seen) -> str:
        nonlocal asked
        asked += 1
        return text.replace("%", str(asked))

    return answer


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with Stage(TRUSTED) as stage:
        yield stage
        stage.finish()


class Play:
    """A page with slots, shown in a browser, and the routes that they are loaded from."""

    def __init__(self, stage: Stage, view: View) -> None:
        self.stage, self.view = stage, view

    def route(self, number: int, body: Any, **more: Any) -> Route:
        return self.stage.route(f"/_bff/fragments/a/p{number}", body, **more)

    async def open(self, slots: str, *, finish: bool = True) -> None:
        self.stage.push(f"{HEAD}{slots}<footer>the end</footer></main>")
        if finish:
            self.stage.finish()
        await self.view.goto(f"{self.stage.origin}/page")
        await shown(self.view, "the end")
        await seen(self.view, "!!customElements.get('bff-fragment')")

    async def told(self) -> Any:
        return await self.view.evaluate("told")

    async def run(self, script: str) -> Any:
        return await self.view.evaluate(f"(async () => {{ {script} }})()")


@pytest.fixture
async def play(stage: Stage, any_browser: View) -> AsyncIterator[Play]:
    play = Play(stage, any_browser)
    yield play
    assert await any_browser.evaluate("window.violations ?? []") == [], "the page's policy is kept"


@pytest.fixture
async def calm(stage: Stage, chromium: Browser) -> AsyncIterator[Play]:
    """In Chromium alone, without motion."""
    tab = await ChromiumTab.open(chromium, reduced_motion="reduce")
    yield Play(stage, tab)
    await tab.close()


async def test_the_client_s_own_are_fetched_while_the_page_still_streams(play: Play) -> None:
    play.route(1, "<p>it is here</p>", headers={"BFF-Outcome": "fresh", "BFF-Reason": "hit", "Age": "7"})
    await play.open(slot(1, 'state="pending" load="client"'), finish=False)
    await shown(play.view, "it is here")
    assert await play.view.evaluate("document.readyState") == "loading"
    play.stage.finish()
    state = f"[{SLOT}.getAttribute('state'), {SLOT}.getAttribute('age'), {SLOT}.ariaBusy]"
    assert await play.view.evaluate(state) == ["fresh", "7", None]
    assert await play.told() == [
        ["bff:load", "s1", {"fragment": "a/p1", "outcome": "fresh", "age": 7, "reason": "hit", "data": None}]
    ]


async def test_what_is_far_is_fetched_when_it_comes_near(play: Play) -> None:
    route = play.route(1, "<p>it is here</p>")
    other = play.route(2, "<p>the other</p>")
    far = f'<div id="far"></div>{slot(1, "state=pending load=visible")}'
    await play.open(f'{slot(2, "state=pending load=visible")}{far}<style nonce="{NONCE}">#far{{height:9000px}}</style>')
    await other.asked()
    await shown(play.view, "the other")
    assert route.requests == []
    await play.run(f"{SLOT}.scrollIntoView()")
    await shown(play.view, "it is here")
    assert len(route.requests) == 1


async def test_a_click_loads_and_the_focus_stays_near(play: Play) -> None:
    route = play.route(1, "<p>it is here</p>", gated=True)
    await play.open(slot(1, 'state="pending" load="click"', '<a href="/elsewhere" id="press">Show</a>'))
    assert route.requests == []
    await play.run("press.focus(); press.click(); press.click()")
    await route.asked()
    assert await play.view.evaluate(f"[{SLOT}.ariaBusy, {SLOT}.ariaLive]") == ["true", "polite"]
    route.open()
    await shown(play.view, "it is here")
    assert len(route.requests) == 1
    assert await play.view.evaluate(f"document.activeElement == {SLOT}") is True
    assert (await play.view.evaluate("location.pathname")) == "/page"


async def test_scripts_load_and_ask_for_something_else(play: Play) -> None:
    route = play.route(1, lambda seen: f"<p>for {seen.query or 'all'}</p>")
    await play.open(slot(1, 'state="pending" load="none"'))
    assert route.requests == []
    await play.run(f"await {SLOT}.load()")
    await shown(play.view, "for all")
    await play.run(f"await {SLOT}.reload({{ page: 2, q: 'a b' }})")
    await shown(play.view, "for page=2&q=a+b")
    await play.run(f"await {SLOT}.reload([['q', 1], ['q', 2]])")
    await shown(play.view, "for q=1&q=2")
    await play.run(
        "const made = document.createElement('bff-fragment'); made.setAttribute('name', 'a/p1'); document.body.append(made)"
    )
    await seen(play.view, "document.querySelectorAll('main ~ bff-fragment p').length == 1")
    assert route.requests[-1].query == ""


async def test_a_refusal_is_tried_again_when_it_is_time(play: Play) -> None:
    route = play.route(1, "later", status=503, headers={"Retry-After": "0.02", "BFF-Reason": "concurrency"})
    await play.open(slot(1, 'state="pending" retry-after="0.01" load="client"'))
    await route.asked(2)
    assert "placeholder" in await play.view.evaluate(f"{SLOT}.innerText")
    good = play.route(1, "<p>it is here</p>", headers={"BFF-Outcome": "stale", "BFF-Reason": "timeout", "Age": "90"})
    await shown(play.view, "it is here")
    assert len(good.requests) == 1
    (told,) = await play.told()
    assert told[:2] == ["bff:stale", "s1"]
    assert told[2] == {"fragment": "a/p1", "outcome": "stale", "age": 90, "reason": "timeout", "data": None}
    assert await play.view.evaluate(f"{SLOT}.hasAttribute('retry-after')") is False


async def test_it_gives_up_in_the_end_and_says_so(play: Play) -> None:
    route = play.route(1, "no", status=504, headers={"Retry-After": "0.01", "BFF-Reason": "timeout"})
    await play.open(slot(1, 'state="pending" load="client"'))
    await seen(play.view, "told.length == 1")
    assert len(route.requests) == 5
    error = {"fragment": "a/p1", "outcome": "pending", "age": None, "reason": "timeout", "data": None}
    assert await play.told() == [["bff:error", "s1", error]]
    assert await play.view.evaluate(f"[{SLOT}.innerText, {SLOT}.ariaBusy]") == ["placeholder", None]


@pytest.mark.parametrize("status", [401, 404])
async def test_what_is_not_for_this_reader_is_taken_away(play: Play, status: int) -> None:
    play.route(1, "nothing", status=status, headers={"BFF-Reason": "not_found"})
    await play.open(slot(1, 'state="fresh"', "<p>secret</p>"))
    await play.run(f"await {SLOT}.load()")
    state = f"[{SLOT}.hidden, {SLOT}.getAttribute('state'), {SLOT}.childNodes.length]"
    assert await play.view.evaluate(state) == [True, "omitted", 0]
    play.route(1, "<p>back again</p>")
    await play.run(f"await {SLOT}.load()")
    await shown(play.view, "back again")


async def test_it_is_asked_for_again_and_again_while_somebody_looks(play: Play) -> None:
    route = play.route(1, counting("<p>number %</p>"))
    await play.open(slot(1, 'state="fresh" refresh="0.05s"', "<p>number 0</p>"))
    await shown(play.view, "number 3")
    await play.run("hide(true); await new Promise(done => setTimeout(done, 300))")
    before = len(route.requests)
    await play.run("await new Promise(done => setTimeout(done, 400))")  # seven turns of the page's own timers
    assert len(route.requests) == before
    await play.run("hide(false)")
    await shown(play.view, f"number {before + 2}")


async def test_requests_never_overlap(play: Play) -> None:
    route = play.route(1, counting("<p>number %</p>"), gated=True)
    await play.open(slot(1, 'state="fresh" refresh="0.01s"'))
    await route.asked()
    await play.run("await new Promise(done => setTimeout(done, 200))")
    assert len(route.requests) == 1
    route.open()
    await route.asked(3)


async def test_a_context_that_dies_between_two_loads_leaves_what_was_there(play: Play) -> None:
    play.route(1, "<p>first</p>")
    await play.open(slot(1, 'state="pending" load="client"'))
    await shown(play.view, "first")
    play.route(1, "gone", status=502, headers={"Retry-After": "0.01", "BFF-Reason": "connect"})
    await play.run(f"await {SLOT}.load()")
    state = f"[{SLOT}.innerText, {SLOT}.getAttribute('state'), told.at(-1)[0], told.at(-1)[2].reason]"
    assert await play.view.evaluate(state) == ["first", "stale", "bff:error", "connect"]
    play.route(1, "<p>second</p>")
    await play.run(f"await {SLOT}.load()")
    await shown(play.view, "second")


async def test_what_somebody_typed_stays_and_where_they_are(play: Play) -> None:
    form = '<form>{0}<input name="q" value="{0}"><input type=checkbox name=c><select name=s><option>1<option>2</select><a href="#x">x</a><a href="#y">y</a></form>'
    play.route(1, counting(form.format("%")))
    await play.open(slot(1, 'state="fresh"', form.format("0")) + slot(2, 'state="fresh"', "<p>other</p>"))
    typed = """
      const typing = (el, change) => { change(el); el.dispatchEvent(new InputEvent("input", { bubbles: true })); };
      const [q, c, s] = document.querySelectorAll("input,select");
      q.focus(); typing(q, el => el.value = "Ada Lovelace"); typing(c, el => el.checked = true); typing(s, el => el.value = "2");
      q.setSelectionRange(2, 5);"""
    await play.run(f"{typed} await {SLOT}.load(); await {SLOT}.load()")
    read = """(([q, c, s]) => [q.form.firstChild.data, q.value, q.selectionStart, q.selectionEnd, c.checked, s.value, document.activeElement == q])(
        document.querySelectorAll("input,select"))"""
    assert await play.view.evaluate(read) == ["2", "Ada Lovelace", 2, 5, True, "2", True]
    await play.run(f"document.querySelectorAll('form a')[1].focus(); await {SLOT}.load()")
    assert await play.view.evaluate("document.activeElement.hash") == "#y"
    await play.run(f"{SLOT}.querySelector('form').reset(); {SLOT}.querySelector('input').blur(); await {SLOT}.load()")
    assert await play.view.evaluate("document.activeElement == document.body || document.activeElement.hash == '#y'")


async def test_the_same_answer_changes_nothing(play: Play) -> None:
    play.route(1, "<p>same</p>")
    await play.open(slot(1, 'state="pending" load="none"'))
    await play.run(f"await {SLOT}.load(); window.kept = {SLOT}.firstChild; await {SLOT}.load()")
    assert await play.view.evaluate(f"kept == {SLOT}.firstChild") is True


async def test_what_is_removed_is_called_off(play: Play) -> None:
    route = play.route(1, "<p>late</p>", gated=True)
    other = play.route(2, "<p>late</p>", gated=True)
    await play.open(slot(1, 'state="pending" load="client"') + slot(2, 'state="pending" load="client"'))
    await route.asked()
    await other.asked()
    await play.run(f"{SLOT}.remove()")
    await route.left()
    await play.run("document.querySelector('[data-slot=s2]').abort()")
    await other.left()
    assert await play.told() == []


async def test_a_slot_that_is_moved_goes_on(play: Play) -> None:
    route = play.route(1, "<p>it is here</p>", gated=True)
    await play.open(slot(1, 'state="pending" load="client"'))
    await route.asked()
    await play.run(f"document.querySelector('footer').moveBefore({SLOT}, null)")
    route.open()
    await shown(play.view, "it is here")
    assert len(route.requests) == 1


async def test_scripts_and_sheets_come_once_and_hold_nobody_up(play: Play) -> None:
    play.stage.route(
        "/once.js", "document.body.dataset.src = Number(document.body.dataset.src ?? 0) + 1", type="text/javascript"
    )
    sheet = play.stage.route("/card.css", "h3 { color: rgb(1, 2, 3) }", type="text/css", gated=True)
    count = "document.body.dataset.ran = Number(document.body.dataset.ran ?? 0) + 1"
    late = (
        f"<h3>head %</h3><script>{count}</script><script src=/once.js></script><link rel=stylesheet href=/card.css>"
        "<style>h3 { margin: 7px }</style>"
    )
    play.route(1, counting(late))
    play.route(2, "<p>the sibling</p>")
    await play.open(slot(1, 'state="pending" load="client"') + slot(2, 'state="pending" load="client"'))
    await shown(play.view, "head 1")
    await sheet.asked()
    await shown(play.view, "the sibling")
    await play.run(f"await {SLOT}.load()")
    await shown(play.view, "head 2")
    sheet.open()
    await seen(play.view, "getComputedStyle(document.querySelector('h3')).color == 'rgb(1, 2, 3)'")
    assert await play.view.evaluate("getComputedStyle(document.querySelector('h3')).marginTop") == "7px"
    await seen(play.view, "document.body.dataset.src == '1'")
    assert await play.view.evaluate("document.body.dataset.ran") == "1"
    assert len(sheet.requests) == 1


async def test_what_must_stay_apart_gets_a_frame(play: Play) -> None:
    play.route(
        1,
        "<p>apart</p><script>top.document.title = 'mine'</script>",
        headers={"Content-Security-Policy": "sandbox allow-scripts"},
    )
    await play.open(slot(1, 'state="pending" load="client"'))
    await seen(play.view, f"{SLOT}.querySelector('iframe')?.getAttribute('sandbox') == 'allow-scripts'")
    assert await play.view.evaluate(f"[{SLOT}.children.length, document.title]") == [1, "Stage"]


async def test_data_goes_to_whoever_listens(play: Play) -> None:
    play.route(1, json.dumps({"n": [1]}), type="application/json")
    await play.open(slot(1, 'state="pending" load="client"'))
    await seen(play.view, "told.length")
    assert (await play.told())[0][2]["data"] == {"n": [1]}
    assert await play.view.evaluate(f"{SLOT}.innerText") == "placeholder"


@pytest.mark.parametrize("how", ["click", "visible"])
async def test_a_list_goes_on_in_place(play: Play, how: str) -> None:
    def page(asked: Seen) -> str:
        return f"<ul><li>page {asked.query or 'one'}</li></ul>"

    first = play.route(1, page, headers={"Link": '</_bff/fragments/a/p1?page=2>; rel="next"'}, gated=how == "click")
    attributes = f'state="fresh" more="{how}" next="/_bff/fragments/a/p1?page=1"'
    await play.open(slot(1, attributes, '<ul><li>page zero</li></ul><a rel="next" href="/page?page=1">More</a>'))
    if how == "click":
        await play.run("const link = document.querySelector('a'); link.focus(); link.click(); link.click()")
        await first.asked()
        first.answer.headers = {}
        first.open()
        await shown(play.view, "page page=1")
        await seen(play.view, f"!{SLOT}.hasAttribute('next')")
        assert await play.view.evaluate("document.querySelectorAll('a').length") == 0
    else:
        await shown(play.view, "page page=2")
        first.answer.headers = {}
        await seen(play.view, f"!{SLOT}.hasAttribute('next')")
    texts = await play.view.evaluate("[...document.querySelectorAll('li')].map(each => each.innerText)")
    assert texts[:2] == ["page zero", "page page=1"]


async def test_slow_work_shows_how_far_it_is_and_then_where_to_have_it(play: Play) -> None:
    state: dict[str, Any] = {"id": "x", "state": "running", "progress": 0.25, "result": None}
    task = play.stage.route(
        "/_bff/tasks/x", lambda _: json.dumps(state), type="application/json", headers={"Retry-After": "0.02"}
    )
    play.route(
        1, "{}", status=202, type="application/json", headers={"Location": "/_bff/tasks/x", "Retry-After": "0.01"}
    )
    await play.open(slot(1, 'state="pending" load="click"', "<button id=press>Export</button>"))
    await play.run("press.click()")
    await seen(play.view, "document.querySelector('progress')?.value == 0.25")
    assert await play.view.evaluate(f"{SLOT}.getAttribute('task')") == "/_bff/tasks/x"
    await task.asked(2)
    state |= {"state": "succeeded", "result": "/_bff/tasks/x/result"}
    await seen(play.view, f"{SLOT}.querySelector('a')?.pathname == '/_bff/tasks/x/result'")
    assert await play.view.evaluate(f"[{SLOT}.getAttribute('state'), {SLOT}.hasAttribute('task')]") == ["fresh", False]


async def test_work_that_cannot_be_asked_for_any_more_is_an_error(play: Play) -> None:
    play.route(1, "{}", status=202, type="application/json", headers={"Location": "/_bff/tasks/x"})
    await play.open(slot(1, 'state="pending" load="click"', "<button id=press>Export</button>"))
    await play.run(
        "const { fetch, setTimeout } = window; window.setTimeout = (then, ms) => setTimeout(then, ms / 500);"
        "window.fetch = (url, how) => /tasks/.test(url) ? Promise.reject(new TypeError('offline')) : fetch(url, how);"
        "press.click()"
    )
    await seen(play.view, "told.length == 1")
    assert await play.view.evaluate("[told[0][0], told[0][2].reason]") == ["bff:error", "task"]
    assert await play.view.evaluate(f"[{SLOT}.innerText, {SLOT}.ariaBusy]") == ["Export", None]
    assert await play.view.evaluate("document.querySelector('progress')") is None


async def test_a_task_under_way_is_followed_after_a_reload_and_may_fail(play: Play) -> None:
    state = {"state": "failed", "progress": None, "result": None}
    play.stage.route("/_bff/tasks/x", json.dumps(state), type="application/json")
    await play.open(slot(1, 'state="pending" load="click" task="/_bff/tasks/x"', "<button>Export</button>"))
    await seen(play.view, "told.length")
    assert await play.view.evaluate("[told[0][0], told[0][2].reason]") == ["bff:error", "task"]
    assert await play.view.evaluate(f"{SLOT}.innerText") == "Export"


async def test_a_thousand_swaps_leave_nothing_behind(calm: Play) -> None:
    route = calm.route(1, counting("<p>number % <a href=#>link</a><button>press</button></p>"))
    await calm.open(slot(1, 'state="pending" load="none"'))
    assert isinstance(calm.view, ChromiumTab)
    session = await calm.view.page.context.new_cdp_session(calm.view.page)

    async def counts() -> tuple[int, int]:
        await session.send("HeapProfiler.collectGarbage")
        found = await session.send("Memory.getDOMCounters")
        return found["nodes"], found["jsEventListeners"]

    await calm.run(f"for (let i = 0; i < 20; i++) await {SLOT}.load()")
    nodes, listeners = await counts()
    await calm.run(f"for (let i = 0; i < 1000; i++) await {SLOT}.load()")
    assert len(route.requests) == 1020
    after = await counts()
    assert after[0] <= nodes + 50
    assert after[1] <= listeners + 5
    await calm.run(
        "for (let i = 0; i < 500; i++) { const s = document.createElement('bff-fragment'); s.setAttribute('name', 'a/p1'); s.setAttribute('live', ''); document.body.append(s); s.remove(); }"
    )
    after = await counts()
    assert after[0] <= nodes + 50
    assert after[1] <= listeners + 5
    await until(lambda: route.answered + route.abandoned == len(route.requests), "no fetch is left")


COUNTING = """
  window.open = new Map();
  const count = (kind, by) => open.set(kind, (open.get(kind) ?? 0) + by);
  const { addEventListener: add, removeEventListener: remove } = EventTarget.prototype;
  EventTarget.prototype.addEventListener = function (type, ...rest) {
    if (this == null || this === window || this === document) count("listeners of " + type, 1);
    return add.call(this, type, ...rest);
  };
  const { fetch, setTimeout, clearTimeout, EventSource } = window, timers = new Set();
  window.fetch = (...all) => (count("fetches", 1), fetch(...all).finally(() => count("fetches", -1)));
  window.setTimeout = (then, ...rest) => {
    const timer = setTimeout(() => (timers.delete(timer), then()), ...rest);
    timers.add(timer);
    return timer;
  };
  window.clearTimeout = (timer) => (timers.delete(timer), clearTimeout(timer));
  window.EventSource = class extends EventSource {
    constructor(url) { super(url); count("streams", 1); }
    close() { super.close(); count("streams", -1); }
  };
  window.left = () => ({ ...Object.fromEntries(open), timers: timers.size, nodes: document.querySelectorAll("*").length });
"""
"""Counts what is open: listeners of the window and the document, fetches, timers, event streams, elements."""


async def test_a_thousand_swaps_leave_nothing_open(play: Play) -> None:
    route = play.route(1, counting("<p>number % <a href=#>link</a><button>press</button></p>"))
    play.stage.route("/_bff/live", "", type="text/event-stream", gated=True)
    await play.open(slot(1, 'state="pending" load="none"'))
    await play.run(f"{COUNTING}; for (let i = 0; i < 20; i++) await {SLOT}.load()")
    before = await play.view.evaluate("left()")
    assert before["fetches"] == 0, "it counts them"
    for _ in range(10):
        await play.run(f"for (let i = 0; i < 100; i++) await {SLOT}.load()")
    assert len(route.requests) == 1020
    assert await play.view.evaluate("left()") == before
    await play.run(
        f"""for (let i = 0; i < 500; i++) {{
          const made = {SLOT}.cloneNode(); made.setAttribute("live", ""); made.setAttribute("refresh", "1s"); document.body.append(made);
          made.load(); made.remove();
        }}"""
    )
    await seen(play.view, f"left().fetches == 0 && left().timers == {before['timers']}")
    assert {"streams": 0} | await play.view.evaluate("left()") == {"streams": 0} | before
    await until(lambda: route.answered + route.abandoned == len(route.requests), "no fetch is left")


async def test_nothing_moves_where_a_height_is_reserved(calm: Play) -> None:
    route = calm.route(1, "<h2>head</h2><p>it is here</p>", gated=True)
    style = (
        f"<style nonce={NONCE}>bff-fragment[data-slot=s1]:not([hidden]){{display:flow-root;min-height:140px}}</style>"
    )
    await calm.open(style + slot(1, 'state="pending" load="client"') + "<hr>")
    await seen(calm.view, "performance.getEntriesByName('first-contentful-paint').length")
    route.open()
    await shown(calm.view, "it is here")
    shifts = """new Promise(resolve => {
        const seen = [];
        new PerformanceObserver(list => seen.push(...list.getEntries())).observe({type: 'layout-shift', buffered: true});
        requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => resolve(seen.map(e => e.value)))));
    })"""
    assert await calm.view.evaluate(shifts) == []


async def test_motion_is_shown_where_it_is_welcome(stage: Stage, chromium: Browser) -> None:
    tab = await ChromiumTab.open(chromium, reduced_motion="no-preference")
    play = Play(stage, tab)
    play.route(1, "<p>it is here</p>")
    await play.open(slot(1, 'state="pending" load="none"'))
    count = "const own = Element.prototype.startViewTransition; window.moved = 0; Element.prototype.startViewTransition = function (...all) { moved++; return own.apply(this, all); };"
    await play.run(f"{count} await {SLOT}.load()")
    await shown(tab, "it is here")
    assert await tab.evaluate("moved") == 1
    await tab.close()
