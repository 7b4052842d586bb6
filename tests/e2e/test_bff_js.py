"""static/bff.js alone: the wire format, sent piece by piece, in a browser that needs the script and in one that does not."""

import gzip
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bff.paths import static_folder
from tests.e2e.browsers import LEFT_OVER, View, seen, shown
from tests.e2e.stage import NONCE, TRUSTED, Stage

pytestmark = pytest.mark.anyio

HEAD = f"""<!doctype html><html lang=en><head><meta charset=utf-8><title>Stage</title>
<script type="module" async src="/_bff/static/bff.js" nonce="{NONCE}"></script></head><body><main>"""


def slot(number: int, name: str) -> str:
    return (
        f'<?start name="s{number}.k7f3qa"><bff-fragment name="{name}" data-slot="s{number}" state="loading" aria-busy="true">'
        f"<p>waiting {number}</p></bff-fragment><?end>"
    )


def late(number: int, html: str) -> str:
    return f'<template for="s{number}.k7f3qa">{html}</template><wbr hidden>'


def fresh(number: int, text: str) -> str:
    return f'<bff-fragment data-slot="s{number}" state="fresh"><p>{text}</p></bff-fragment>'


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with Stage(TRUSTED) as stage:
        yield stage
        stage.finish()


@pytest.fixture
def view(any_browser: View) -> View:
    return any_browser


@pytest.mark.browser
async def test_each_fragment_shows_before_the_next_is_sent(stage: Stage, view: View) -> None:
    stage.push(HEAD + slot(1, "a/one") + slot(2, "a/two") + slot(3, "a/three") + "<footer>the end</footer></main>")
    await view.goto(f"{stage.origin}/page")
    await shown(view, "the end")
    for number in (3, 1, 2):
        assert f"waiting {number}" in await view.evaluate("document.body.innerText")
        stage.push(late(number, fresh(number, f"here is {number}")))
        await shown(view, f"here is {number}")
        assert await view.evaluate("document.readyState") == "loading"
    stage.push("</body></html>")
    stage.finish()
    await seen(view, "document.readyState == 'complete'")
    assert (await view.evaluate("document.querySelector('main').innerText")).split("\n\n") == [
        "here is 1", "here is 2", "here is 3", "the end",
    ]  # fmt: skip
    assert await view.evaluate(LEFT_OVER) == []


@pytest.mark.browser
async def test_a_template_cut_anywhere_is_placed_whole_and_once(stage: Stage, view: View) -> None:
    stage.push(HEAD + slot(1, "a/one") + "</main>")
    await view.goto(f"{stage.origin}/page")
    await shown(view, "waiting 1")
    html = late(1, fresh(1, "<b>cut</b> &amp; whole") + "<custom-count></custom-count>")
    for piece in [html[at : at + 7] for at in range(0, len(html), 7)]:
        stage.push(piece)
    await shown(view, "cut & whole")
    stage.finish()
    await seen(view, "document.readyState == 'complete'")
    assert await view.evaluate(LEFT_OVER) == []
    assert await view.evaluate("document.querySelectorAll('custom-count').length") == 1


@pytest.mark.browser
async def test_a_custom_element_in_a_late_fragment_connects_once(stage: Stage, view: View) -> None:
    counting = """customElements.define("custom-count", class extends HTMLElement {
        connectedCallback() { this.dataset.times = +(this.dataset.times ?? 0) + 1; }
        disconnectedCallback() { this.dataset.gone = 1; }
    })"""
    stage.push(f'{HEAD}<script nonce="{NONCE}">{counting}</script>{slot(1, "a/one")}</main>')
    await view.goto(f"{stage.origin}/page")
    await shown(view, "waiting 1")
    stage.push(late(1, fresh(1, "arrived <custom-count></custom-count>")))
    await shown(view, "arrived")
    stage.finish()
    await seen(view, "document.readyState == 'complete'")
    assert await view.evaluate("[...document.querySelectorAll('custom-count')].map(e => ({...e.dataset}))") == [
        {"times": "1"}
    ]


@pytest.mark.browser
async def test_a_stale_copy_gives_way_to_the_fresh_one(stage: Stage, view: View) -> None:
    stage.push(HEAD + slot(1, "a/one") + slot(2, "a/two") + "</main>")
    await view.goto(f"{stage.origin}/page")
    await shown(view, "waiting 1")
    stale = '<?start name="s1.k7f3qa"><bff-fragment data-slot="s1" state="stale"><p>old price</p></bff-fragment><?end>'
    stage.push(late(1, stale))
    await shown(view, "old price")
    assert "waiting 2" in await view.evaluate("document.body.innerText")
    stage.push(late(1, fresh(1, "new price")))
    await shown(view, "new price")
    stage.push(late(2, fresh(2, "two")))
    stage.finish()
    await seen(view, "document.readyState == 'complete'")
    assert "old price" not in await view.evaluate("document.body.textContent")
    assert await view.evaluate(LEFT_OVER) == []


@pytest.mark.browser
async def test_slots_within_a_fragment_and_in_a_table_are_filled(stage: Stage, view: View) -> None:
    rows = '<?start name="s2.k7f3qa"><tr><td>waiting row</td></tr><?end>'
    stage.push(f"{HEAD}{slot(1, 'a/one')}<table><tbody>{rows}</tbody></table></main>")
    await view.goto(f"{stage.origin}/page")
    await shown(view, "waiting row")
    stage.push(late(2, "<tr><td>row</td></tr><tr><td>row 2</td></tr>"))
    await seen(view, "document.querySelector('tbody').rows.length == 2")
    stage.push(late(1, f'<bff-fragment data-slot="s1" state="fresh"><h2>outer</h2>{slot(3, "a/inner")}</bff-fragment>'))
    await shown(view, "outer")
    stage.push(late(3, fresh(3, "inner")))
    await shown(view, "inner")
    stage.finish()
    await seen(view, "document.readyState == 'complete'")
    assert await view.evaluate("document.querySelector('[data-slot=s1] [data-slot=s3]').innerText") == "inner"
    assert await view.evaluate(LEFT_OVER) == []


@pytest.mark.browser
async def test_scripts_with_the_nonce_run_once_and_others_never(stage: Stage, view: View) -> None:
    stage.push(HEAD + slot(1, "a/one") + slot(2, "a/two") + "</main>")
    await view.goto(f"{stage.origin}/page")
    await shown(view, "waiting 1")
    script = "document.body.dataset.ran = Number(document.body.dataset.ran ?? 0) + 1"
    stage.push(late(1, fresh(1, "with") + f'<script nonce="{NONCE}">{script}</script>'))
    stage.push(late(2, fresh(2, "without") + f"<script>{script}0</script>"))
    await shown(view, "without")
    stage.finish()
    await seen(view, "document.readyState == 'complete'")
    assert await view.evaluate("document.body.dataset.ran") == "1"


@pytest.mark.browser
async def test_what_is_typed_and_focused_elsewhere_stays(stage: Stage, view: View) -> None:
    stage.push(HEAD + slot(1, "a/one") + "<input id=name></main>")
    await view.goto(f"{stage.origin}/page")
    await seen(view, "!!document.querySelector('#name')")
    await view.evaluate("(document.querySelector('#name').focus(), document.querySelector('#name').value = 'Ada', 1)")
    stage.push(late(1, fresh(1, "arrived")))
    await shown(view, "arrived")
    assert await view.evaluate("[document.activeElement.id, document.activeElement.value]") == ["name", "Ada"]


def pending(number: int, attributes: str = "") -> str:
    return (
        f'<bff-fragment name="a/p{number}" data-slot="s{number}" state="pending" src="/_bff/fragments/a/p{number}?x=1&amp;y=2"'
        f"{attributes}><p>placeholder {number}</p></bff-fragment>"
    )


@pytest.mark.browser
async def test_a_pending_slot_is_fetched_once_the_document_is_complete(stage: Stage, view: View) -> None:
    first = stage.route("/_bff/fragments/a/p1", "<p>one, late</p>", headers={"BFF-Outcome": "stale"}, gated=True)
    stage.push(HEAD + pending(1) + pending(2, " load=click") + pending(4, " load=none"))
    stage.push(slot(5, "a/five") + "</main>")
    await view.goto(f"{stage.origin}/page")
    await shown(view, "waiting 5")
    assert first.requests == []
    stage.push(late(5, pending(5)))
    fifth = stage.route("/_bff/fragments/a/p5", "<p>five, late</p>")
    stage.finish()
    await shown(view, "five, late")
    await first.asked()
    assert "placeholder 1" in await view.evaluate("document.body.innerText")
    first.open()
    await shown(view, "one, late")
    await seen(view, "document.querySelector('[data-slot=s1]').getAttribute('state') == 'stale'")
    assert first.requests[0].query == "x=1&y=2"
    assert len(first.requests) == len(fifth.requests) == 1
    for number in (2, 4):
        assert f"placeholder {number}" in await view.evaluate("document.body.innerText")


@pytest.mark.browser
async def test_a_pending_slot_keeps_its_placeholder_where_nothing_is_to_be_had(stage: Stage, view: View) -> None:
    refusing = stage.route("/_bff/fragments/a/p1", "no", status=400)
    stage.push(HEAD + pending(1) + "</main>")
    stage.finish()
    await view.goto(f"{stage.origin}/page")
    await refusing.asked()
    await seen(view, "document.readyState == 'complete' && !document.querySelector('[aria-busy]')")
    assert await view.evaluate("document.querySelector('[data-slot=s1]').innerText") == "placeholder 1"
    assert await view.evaluate("document.querySelector('[data-slot=s1]').getAttribute('state')") == "pending"


@pytest.mark.browser
@pytest.mark.parametrize(
    "link", ["", '<a rel="next" href="/page?page=2">Further</a>'], ids=["without a link", "with a link"]
)
async def test_a_list_goes_on_below_it_where_its_slot_is_still_being_parsed(
    stage: Stage, view: View, link: str
) -> None:
    stage.push(HEAD)
    await view.goto(f"{stage.origin}/page")
    await seen(view, "!!window.customElements?.get('bff-fragment')")
    stage.push(
        '<bff-fragment name="a/list" data-slot="s1" state="fresh" more="click" next="/_bff/fragments/a/list?page=2">'
    )
    stage.push("<p>the first</p>")
    await shown(view, "the first")
    stage.push(f"<p>the last</p>{link}</bff-fragment></main></body></html>")
    stage.finish()
    await seen(view, "document.querySelector('bff-fragment a')?.parentNode.children.length == 3")
    texts = "[...document.querySelector('bff-fragment').children].map(each => each.textContent)"
    assert await view.evaluate(texts) == ["the first", "the last", "Further" if link else "More"]


def test_the_script_fits_into_four_kibibytes() -> None:
    file = static_folder() / "bff.js"
    named = len(f"{file.name}\0")  # `gzip -9` of a file writes its name, too
    assert len(gzip.compress(file.read_bytes(), 9)) + named <= 4096


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed; types are checked where it is")
def test_the_types_of_the_scripts_hold() -> None:
    tools = Path(sys.prefix) / "js"
    compiler = tools / "node_modules/.bin/tsc"
    if not compiler.exists():
        tools.mkdir(exist_ok=True)
        install = ["npm", "install", "--prefix", str(tools), "--no-audit", "--no-fund", "--silent", "typescript@7.0.2"]
        subprocess.run(install, check=True, timeout=100)
    project = Path(__file__).with_name("tsconfig.json")
    check = subprocess.run([compiler, "--project", project], capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout
