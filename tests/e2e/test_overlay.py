"""static/overlay.js alone: a page as `bff dev` writes it, under the strict policy, in both browsers."""

import json
from collections.abc import AsyncIterator

import pytest

from tests.e2e.browsers import View, seen
from tests.e2e.stage import NONCE, TRUSTED, Stage

pytestmark = [pytest.mark.anyio, pytest.mark.browser]

TIMING = {"queued": 1.0, "connected": 2.5, "first_byte": 90.0, "total": 120.0}
REPORT = {
    "page": "ecommerce/checkout",
    "ms": 640.2,
    "slots": [
        {"slot": "s1", "as": "lines", "fragment": "ecommerce/lines", "owner": "team-ecommerce", "outcome": "fresh",
         "reason": "ok", "age": None, "ms": 120.0, "started": 2.0, "status": 200, "detail": "", "params": {"basket_id": "1"},
         "timing": TIMING},
        {"slot": "s2", "as": "card", "fragment": "discovery/course-card", "owner": "team-discovery", "outcome": "stale",
         "reason": "timeout", "age": 37, "ms": 512.3, "started": 2.0, "status": None, "detail": "no answer within 500 ms",
         "params": {}, "timing": None},
        {"slot": "s3", "as": "offers", "fragment": "enterprise/offers", "owner": "team-enterprise", "outcome": "omitted",
         "reason": "status", "age": None, "ms": 14.0, "started": 2.0, "status": 500, "detail": "<b>500</b>", "params": {},
         "timing": TIMING},
    ],
}  # fmt: skip
PAGE = f"""<!doctype html><html lang=en><head><meta charset=utf-8><title>Overlay</title></head><body>
<main><bff-fragment data-slot="s1" state="fresh"><p>lines</p></bff-fragment>
<bff-fragment data-slot="s2" state="stale" age="37"><p>card</p></bff-fragment>
<bff-fragment data-slot="s3" state="omitted" hidden></bff-fragment></main>
<script id="blocked">1</script>
<script type="application/json" id="bff-overlay">{json.dumps(REPORT).replace("<", chr(92) + "u003c")}</script>
<script type="module" async src="/_bff/static/overlay.js" nonce="{NONCE}"></script></body></html>"""
ROOT = "document.querySelector('#bff-overlay-host').shadowRoot"


@pytest.fixture
async def view(any_browser: View) -> AsyncIterator[View]:
    async with Stage(TRUSTED) as stage:
        stage.push(PAGE)
        stage.finish()
        await any_browser.goto(f"{stage.origin}/page")
        await seen(any_browser, f"!!{ROOT}.querySelector('button')")
        yield any_browser


async def test_a_corner_button_sums_the_page_up_and_opens_the_panel(view: View) -> None:
    corner = f"{ROOT}.querySelector('.corner')"
    assert "640 ms · 1 fresh, 1 stale, 1 omitted" in await view.evaluate(f"{corner}.textContent")
    assert await view.evaluate(f"{corner}.getAttribute('aria-expanded')") == "false"
    assert await view.evaluate(f"{ROOT}.querySelector('.panel').hidden") is True
    await view.evaluate(f"({corner}.click(), 1)")
    assert await view.evaluate(f"{corner}.getAttribute('aria-expanded')") == "true"
    assert await view.evaluate(f"{ROOT}.querySelector('.panel').checkVisibility()") is True
    assert await view.evaluate(f"getComputedStyle({ROOT}.querySelector('.panel')).position") == "fixed"
    escape = "new KeyboardEvent('keydown', {key: 'Escape', bubbles: true})"
    await view.evaluate(f"({ROOT}.querySelector('th button').dispatchEvent({escape}), 1)")
    assert await view.evaluate(f"{ROOT}.querySelector('.panel').hidden") is True
    assert await view.evaluate(f"{ROOT}.activeElement === {corner}") is True


async def test_each_slot_is_outlined_with_owner_outcome_age_time_and_reason(view: View) -> None:
    await view.evaluate(f"({ROOT}.querySelector('.corner').click(), 1)")
    boxes = f"[...{ROOT}.querySelectorAll('.box:not([hidden])')]"
    await seen(view, f"{boxes}.length == 2")
    assert await view.evaluate(f"{boxes}.map(box => box.textContent)") == [
        "team-ecommerce · ecommerce/lines · fresh (ok 200) · 120 ms",
        "team-discovery · discovery/course-card · stale (timeout) · 37 s old · 512 ms",
    ]
    over = "(box, slot) => Math.abs(box.getBoundingClientRect().top - slot.getBoundingClientRect().top) < 1"
    assert await view.evaluate(f"({over})({boxes}[1], document.querySelector('[data-slot=s2]'))") is True
    await view.evaluate("(document.querySelector('main').style.paddingTop = '90px', 1)")
    await seen(view, f"({over})({boxes}[1], document.querySelector('[data-slot=s2]'))")


async def test_the_panel_lists_every_slot_with_its_waterfall(view: View) -> None:
    await view.evaluate(f"({ROOT}.querySelector('.corner').click(), 1)")
    rows = f"[...{ROOT}.querySelectorAll('tbody tr')]"
    assert await view.evaluate(f"{rows}.map(row => row.querySelector('button').textContent)") == [
        "lines",
        "card",
        "offers",
    ]
    text = await view.evaluate(f"{ROOT}.querySelector('.panel').textContent")
    for part in ("team-enterprise", "basket_id=1", "no answer within 500 ms", "<b>500</b>", "omitted status 500"):
        assert part in text
    assert await view.evaluate(f"{rows}[0].querySelectorAll('.bar').length") == 4
    assert await view.evaluate(f"{rows}[1].querySelectorAll('.bar').length") == 1
    await view.evaluate(f"({rows}[1].querySelector('button').focus(), 1)")
    await seen(view, f"!!{ROOT}.querySelector('.box.lit')")
    assert "course-card" in await view.evaluate(f"{ROOT}.querySelector('.box.lit').textContent")


async def test_the_corner_keeps_clear_of_what_the_page_has_at_the_bottom(view: View) -> None:
    corner = f"{ROOT}.querySelector('.corner').getBoundingClientRect()"
    above = f"Math.round(innerHeight - {corner}.bottom)"
    assert await view.evaluate(above) == 12
    bar = "position: fixed; inset: auto 0 0 0; height: 50px"
    await view.evaluate(
        f"(window.bar = document.createElement('div'), bar.style.cssText = '{bar}', document.body.append(bar), 1)"
    )
    await view.evaluate("(dispatchEvent(new Event('resize')), 1)")
    assert await view.evaluate(above) == 62
    await view.evaluate("(bar.style.height = '90px', 1)")
    await seen(view, f"{above} == 102")
    await view.evaluate(f"({ROOT}.querySelector('.corner').click(), 1)")
    assert await view.evaluate(above) == 12, "the panel lies over the bar"
    await view.evaluate(f"({ROOT}.querySelector('.corner').click(), 1)")
    assert await view.evaluate(above) == 102
    await view.evaluate("(bar.style.height = '90vh', dispatchEvent(new Event('resize')), 1)")
    assert await view.evaluate(above) == 12, "nor does it leave for a dialog"
    await view.evaluate("(bar.remove(), dispatchEvent(new Event('resize')), 1)")
    assert await view.evaluate(above) == 12


async def test_violations_of_the_policy_are_listed(view: View) -> None:
    image = "document.createElement('img')"
    await view.evaluate(f"(document.body.append(Object.assign({image}, {{src: 'http://127.0.0.1:9/x.png'}})), 1)")
    await seen(
        view,
        f"[...{ROOT}.querySelectorAll('li')].some(item => item.textContent.startsWith('img-src blocked http://127.0.0.1:9'))",
    )
    assert "CSP" in await view.evaluate(f"{ROOT}.querySelector('.corner').textContent")
