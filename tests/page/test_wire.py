import json
import re
from typing import Any

import pytest
from selectolax.lexbor import LexborHTMLParser

from bff.markup.patch import unfilled
from bff.model import NONCE, Hole
from bff.page.compose import Composition
from bff.page.forms import PIECE, JsonWriter, NdjsonWriter
from bff.page.wire import HtmlWriter, language
from tests.build import World, document, fragment, int_param, page, slot, text_param

A, B = fragment("shop/a"), fragment("shop/b")
JSON = fragment("shop/j", source="json", params={"n": int_param("n")})
ALL = {"shop/a": A, "shop/b": B, "shop/j": JSON}
KEEP = {"cache.fresh": "10s", "cache.stale_while_revalidate": "1m"}


def begun(world: World, **more: Any) -> tuple[Composition, HtmlWriter]:
    composition = world.compose(principal=more.pop("principal", None))
    composition.begin(ordered=bool(more.get("ordered")))
    return composition, HtmlWriter(composition, nonce="N0", suffix="k7f3qa", **more)


def test_everything_before_the_first_answer_is_flushed_with_placeholders() -> None:
    world = World(
        page(document(b"<main>", slot(1, "shop/a", placeholder=(b"<p>Loading</p>",)), b"</main>")), fragments=ALL
    )
    _, writer = begun(world)
    assert writer.advance().endswith(
        b'<main><?start name="s1.k7f3qa"><bff-fragment name="shop/a" data-slot="s1" state="loading" aria-busy="true">'
        b"<p>Loading</p></bff-fragment><?end></main>"
    )
    assert writer.advance() == b""
    world.upstreams.to("/a").reply(b"<b>hi</b>")
    assert writer.advance() == (
        b'<template for="s1.k7f3qa"><bff-fragment name="shop/a" data-slot="s1" state="fresh"><b>hi</b></bff-fragment>'
        b"</template><wbr hidden>" + unfilled("/p?_bff=ordered", "N0") + b"</body></html>"
    )
    assert writer.complete


def test_who_can_fill_no_markers_is_told_where_the_page_is_whole() -> None:
    made = page(
        document(slot(1, "shop/a"), slot(2, "shop/b")),
        "/p/{key}",
        query={"q": text_param("q", required=False, default=("",))},
    )
    world = World(made, fragments=ALL)
    composition = world.compose("/p/a%2Fb", "q=%3Cb%3E&other=1")
    composition.begin()
    world.upstreams.to("/a").reply(b"A")
    writer = HtmlWriter(composition, nonce="N0", suffix="k7f3qa")
    out = writer.advance()
    assert b"noscript" not in out, "it comes last, or it would be read before the page is"
    world.upstreams.to("/b").reply(b"B")
    out = writer.advance()
    assert out.count(b"<noscript") == 1
    assert b'href="/p/a%2Fb?q=%3Cb%3E&amp;_bff=ordered"' in out
    composition = world.compose("/p/x", "")
    composition.begin(ordered=True)
    for path in ("/a", "/b"):
        world.upstreams.to(path).reply(b"late, and in place")
    out = HtmlWriter(composition, nonce="N0", suffix="k7f3qa", ordered=True).advance()
    assert b"noscript" not in out, "nothing is missing"


def test_late_fragments_come_in_the_order_of_arrival() -> None:
    world = World(page(document(slot(1, "shop/a"), slot(2, "shop/b"))), fragments=ALL)
    _, writer = begun(world)
    writer.advance()
    world.upstreams.to("/b").reply(b"B")
    world.upstreams.to("/a").reply(b"A")
    out = writer.advance()
    assert out.index(b'for="s2.') < out.index(b'for="s1.')
    assert writer.complete


def test_a_core_slot_holds_the_stream_and_stands_in_place() -> None:
    world = World(page(document(b"1", slot(1, "shop/a", kind="core"), b"2")), fragments=ALL)
    _, writer = begun(world)
    first = writer.advance()
    assert first.endswith(b"<body>1")
    world.upstreams.to("/a").reply(b"A")
    assert (
        writer.advance() == b'<bff-fragment name="shop/a" data-slot="s1" state="fresh">A</bff-fragment>2</body></html>'
    )


def test_while_core_is_awaited_what_arrives_is_written_where_its_marker_is_reachable() -> None:
    shell = document(b"<main>", slot(1, "shop/a"), b"<section>", slot(2, "shop/b", kind="core"), b"</section></main>")
    world = World(page(shell), fragments=ALL)
    _, writer = begun(world)
    writer.advance()
    world.upstreams.to("/a").reply(b"A")
    assert writer.advance() == b"", "a template inside <section> would never reach a marker outside of it"
    world.upstreams.to("/b").reply(b"B")
    assert b'<template for="s1.k7f3qa">' in writer.advance()
    shell = document(b"<main>", slot(1, "shop/a"), slot(2, "shop/b", kind="core"), b"</main>")
    world = World(page(shell), fragments=ALL)
    _, writer = begun(world)
    writer.advance()
    world.upstreams.to("/a").reply(b"A")
    assert writer.advance().startswith(b'<template for="s1.k7f3qa">')


def test_ordered_pages_have_no_markers() -> None:
    world = World(page(document(slot(1, "shop/a"), b"-", slot(2, "shop/b"))), fragments=ALL)
    _, writer = begun(world, ordered=True)
    first = writer.advance()
    world.upstreams.to("/b").reply(b"B")
    assert writer.advance() == b""
    world.upstreams.to("/a").reply(b"A")
    out = first + writer.advance()
    assert b"<?start" not in out
    assert b"<template" not in out
    assert out.index(b">A<") < out.index(b">B<")


def nested() -> World:
    inner = fragment("shop/inner", embeds=("shop/a",))
    outer = fragment("shop/outer", embeds=("shop/inner", "shop/b"))
    known = ALL | {"shop/inner": inner, "shop/outer": outer}
    return World(page(document(slot(1, "shop/outer"), b"-", slot(2, "shop/a"))), fragments=known)


def test_ordered_pages_wait_for_what_answers_embed_wherever_it_is() -> None:
    world = nested()
    composition, writer = begun(world, ordered=True)
    out = writer.advance()
    world.upstreams.to("/outer").reply(
        b'(<bff-fragment name="shop/inner">wait</bff-fragment><bff-fragment name="shop/b"></bff-fragment>)'
    )
    out += writer.advance()
    world.upstreams.to("/b").reply(b"B")
    world.upstreams.to("/inner").reply(b'[<bff-fragment name="shop/a"></bff-fragment>]')
    out += writer.advance()
    assert b">B<" not in out
    assert composition.blocked is None, "whichever of them ends, the stream looks again"
    world.upstreams.to("/a").reply(b"A")
    out += writer.advance()
    assert writer.complete
    assert b"<?start" not in out
    shown = re.sub(rb"<[^>]+>", b"", out.partition(b"<body>")[2])
    assert shown == b"([A]B)-A"


def test_ordered_pages_begin_what_is_embedded_before_the_stream_is_there() -> None:
    world = nested()
    _, writer = begun(world, ordered=True)
    writer.advance()
    world.upstreams.to("/a").reply(b"A")
    world.upstreams.to("/outer").reply(b'<bff-fragment name="shop/inner"></bff-fragment>')
    writer.advance()
    assert [flown.ask.target for flown in world.upstreams.open] == ["/inner"]


def test_an_ordered_page_ends_in_time_without_what_it_embeds() -> None:
    world = nested()
    composition, writer = begun(world, ordered=True)
    writer.advance()
    world.upstreams.to("/outer").reply(b'(<bff-fragment name="shop/b"></bff-fragment>)')
    world.upstreams.to("/a").fail()
    writer.advance()
    composition.expire()
    assert writer.advance().endswith(b"</body></html>")
    assert writer.complete


def test_without_a_wrapper_an_answer_stands_alone_and_a_missing_one_is_nothing() -> None:
    world = World(
        page(document(b"[", slot(1, "shop/a", wrap=False), b"|", slot(2, "shop/b", wrap=False), b"]")), fragments=ALL
    )
    _, writer = begun(world)
    first = writer.advance()
    world.upstreams.to("/a").reply(b"A")
    second = writer.advance()
    world.upstreams.to("/b").fail()
    assert (first + second + writer.advance()).endswith(b"<body>[A|]</body></html>")


def test_outcomes_show_in_the_wrapper() -> None:
    world = World(page(document(slot(1, "shop/a", placeholder=(b"wait",)), slot(2, "shop/b"))), fragments=ALL)
    composition, writer = begun(world)
    writer.advance()
    world.upstreams.to("/b").fail()
    composition.expire()
    out = writer.advance()
    assert b'data-slot="s2" state="omitted" hidden></bff-fragment>' in out
    assert b'data-slot="s1" state="pending" src="/_bff/fragments/shop/a">wait</bff-fragment>' in out


def test_a_slot_that_is_asked_for_again_says_where_unless_it_is_not_for_this_reader() -> None:
    mine = slot(2, "shop/b", live=True, when="authenticated")
    world = World(page(document(slot(1, "shop/a", refresh="30s"), mine)), fragments=ALL)
    _, writer = begun(world)
    out = writer.advance()
    world.upstreams.to("/a").reply(b"A")
    out += writer.advance()
    assert b'data-slot="s1" state="fresh" src="/_bff/fragments/shop/a" refresh="30s">A</bff-fragment>' in out
    assert b'data-slot="s2" state="omitted" hidden live></bff-fragment>' in out


def test_a_slot_with_an_id_says_where_for_the_pages_own_scripts() -> None:
    mine = slot(1, "shop/a", kind="core", attributes=' id="a"')
    world = World(page(document(mine, slot(2, "shop/b", kind="core"))), fragments=ALL)
    _, writer = begun(world)
    out = writer.advance()
    assert b"/_bff/static/bff.js" in out, "and brings what has load()"
    world.upstreams.to("/a").reply(b"A")
    world.upstreams.to("/b").reply(b"B")
    out += writer.advance()
    assert b'data-slot="s1" state="fresh" src="/_bff/fragments/shop/a" id="a">A</bff-fragment>' in out
    assert b'data-slot="s2" state="fresh">B</bff-fragment>' in out


def test_a_list_that_goes_on_brings_the_module_even_where_nothing_else_is_late() -> None:
    world = World(page(document(slot(1, "shop/a", kind="core", more="click"))), fragments=ALL)
    _, writer = begun(world)
    assert b"/_bff/static/bff.js" in writer.advance()


def test_the_primarys_own_head_elements_replace_the_shells() -> None:
    shell = page(
        document(slot(1, "shop/a", kind="primary")),
    )
    world = World(shell, fragments=ALL)
    _, writer = begun(world)
    world.upstreams.to("/a").reply(b'<title>Mine</title><meta name="description" content="d"><p>x</p>')
    out = writer.advance()
    assert b"<title>Mine</title>" in out
    assert b"<title>T</title>" not in out
    assert b'<meta name="description" content="d"></head>' in out
    assert b'state="fresh"><p>x</p></bff-fragment>' in out


def test_scripts_of_late_fragments_get_this_responses_nonce() -> None:
    world = World(page(document(slot(1, "shop/a"))), fragments=ALL)
    _, writer = begun(world)
    writer.advance()
    world.upstreams.to("/a").reply(b"<script>1</script>")
    assert b'<script nonce="N0">1</script>' in writer.advance()


def test_the_shells_nonces_and_language_are_filled_in() -> None:
    shell = document(b'<i lang="', Hole("lang"), b'"></i><script nonce="', NONCE, b'">0</script>')
    _, writer = begun(World(page(shell)))
    out = writer.advance()
    assert b'<i lang="en"></i><script nonce="N0">0</script>' in out
    assert writer.complete


def test_reserved_heights_stand_in_one_style_and_the_module_is_there_where_something_is_late() -> None:
    world = World(page(document(slot(1, "shop/a", reserve="120px"), slot(2, "shop/b", kind="core"))), fragments=ALL)
    _, writer = begun(world)
    out = writer.advance()
    assert (
        b'<style nonce="N0">bff-fragment[data-slot=s1]:not([hidden]){display:flow-root;min-height:120px}</style>' in out
    )
    assert out.count(b"<style") == 1
    assert b'<script type="module" async src="/_bff/static/bff.js" nonce="N0"></script></head>' in out
    _, writer = begun(World(page(document(slot(1, "shop/a", kind="core"))), fragments=ALL))
    assert b"bff.js" not in writer.advance()


def test_the_tail_stands_before_the_end() -> None:
    _, writer = begun(World(page(document(b"x"))), tail=lambda: b"<!--tail-->")
    assert writer.advance().endswith(b"x<!--tail--></body></html>")


def test_a_stale_copy_in_place_is_replaced_in_the_same_response() -> None:
    made = fragment("shop/a", layer=KEEP)
    world = World(page(document(slot(1, "shop/a", then_fresh=True))), fragments={"shop/a": made})
    composition, writer = begun(world)
    writer.advance()
    world.upstreams.to("/a").reply(b"one")
    writer.advance()
    world.loop.advance(12)
    composition, writer = begun(world)
    out = writer.advance()
    assert b'<?start name="s1.k7f3qa"><bff-fragment name="shop/a" data-slot="s1" state="stale" age="12">one' in out
    world.upstreams.to("/a").reply(b"two")
    assert b'<template for="s1.k7f3qa"><bff-fragment name="shop/a" data-slot="s1" state="fresh">two' in writer.advance()
    lines = NdjsonWriter(composition, world.loop.time)
    assert b'"final":false' not in lines.advance()


def test_then_fresh_in_lines_says_that_more_comes() -> None:
    made = fragment("shop/a", layer=KEEP)
    world = World(page(document(slot(1, "shop/a", then_fresh=True))), fragments={"shop/a": made})
    begun(world)
    world.upstreams.to("/a").reply(b"one")
    world.loop.advance(12)
    composition = world.compose()
    composition.begin()
    lines = NdjsonWriter(composition, world.loop.time)
    first = [json.loads(line) for line in lines.advance().splitlines()]
    assert first[1]["final"] is False
    assert first[1]["html"] == "one"
    world.upstreams.to("/a").reply(b"two")
    rest = [json.loads(line) for line in lines.advance().splitlines()]
    assert [line.get("html") for line in rest] == ["two", None]
    assert "final" not in rest[0]
    assert rest[1]["done"] is True


def test_lines_as_slots_end() -> None:
    shell = document(slot(1, "shop/a", key="a"), slot(2, "shop/j", key="j", params=(("n", ("7",)),)))
    world = World(page(shell), fragments=ALL)
    composition = world.compose()
    composition.begin()
    writer = NdjsonWriter(composition, world.loop.time)
    (plan,) = [json.loads(line) for line in writer.advance().splitlines()]
    assert plan == {
        "page": "shop/p",
        "principal": False,
        "slots": [
            {"slot": "s1", "as": "a", "fragment": "shop/a", "params": {}},
            {"slot": "s2", "as": "j", "fragment": "shop/j", "params": {"n": 7}},
        ],
    }
    world.upstreams.to("/j/7").reply(b'{"x": "\xe2\x80\xa8"}', kind=b"application/json")
    (line,) = [json.loads(line) for line in writer.advance().splitlines()]
    assert (line["slot"], line["outcome"], line["reason"], line["status"], line["data"]) == (
        "s2",
        "fresh",
        "ok",
        200,
        {"x": "\u2028"},
    )
    assert "html" not in line
    world.upstreams.to("/a").reply(b"<script>1</script>")
    line, done = [json.loads(line) for line in writer.advance().splitlines()]
    assert line["html"] == "<script>1</script>"
    assert done["done"] is True
    assert writer.complete


def test_one_document_when_all_have_ended() -> None:
    shell = document(slot(1, "shop/a", key="a"), slot(2, "shop/b", key="b", load="click"))
    world = World(page(shell), fragments=ALL)
    composition = world.compose()
    composition.begin()
    writer = JsonWriter(composition, world.loop.time)
    assert writer.advance() == b""
    world.upstreams.to("/a").fail()
    found = json.loads(writer.advance())
    assert list(found) == ["page", "principal", "slots", "ms"]
    assert found["slots"]["a"]["outcome"] == "omitted"
    assert found["slots"]["b"] | {"ms": 0} == {
        "slot": "s2",
        "as": "b",
        "fragment": "shop/b",
        "outcome": "pending",
        "reason": "load",
        "ms": 0,
        "src": "/_bff/fragments/shop/b",
        "load": "click",
    }


@pytest.mark.parametrize("kind", [NdjsonWriter, JsonWriter])
def test_a_contexts_data_is_passed_on_as_it_was_written(kind: type[NdjsonWriter | JsonWriter]) -> None:
    world = World(page(document(slot(1, "shop/j", key="j", params=(("n", ("7",)),)))), fragments=ALL)
    composition = world.compose()
    composition.begin()
    writer = kind(composition, world.loop.time)
    writer.advance()
    body = b'\xef\xbb\xbf{"price": 19.90,\r\n "id": 12345678901234567890123, "text": "a\\nb"}\n'
    world.upstreams.to("/j/7").reply(body, kind=b"application/json")
    out = writer.advance()
    assert b'"data":{"price": 19.90,   "id": 12345678901234567890123, "text": "a\\nb"} }' in out
    found = json.loads(out.splitlines()[0])
    assert found.get("slots", {"j": found})["j"]["data"]["text"] == "a\nb"


def test_data_may_be_null() -> None:
    world = World(page(document(slot(1, "shop/j", key="j", params=(("n", ("7",)),)))), fragments=ALL)
    composition = world.compose()
    composition.begin()
    writer = JsonWriter(composition, world.loop.time)
    world.upstreams.to("/j/7").reply(b"null", kind=b"application/json")
    assert json.loads(writer.advance())["slots"]["j"]["data"] is None


def test_many_lines_are_made_as_they_are_taken() -> None:
    names = [f"shop/x{number}" for number in range(6)]
    shell = document(*(slot(number + 1, name, key=f"k{number}") for number, name in enumerate(names)))
    world = World(page(shell), fragments={name: fragment(name) for name in names})
    composition = world.compose()
    composition.begin()
    writer = NdjsonWriter(composition, world.loop.time)
    for number in range(6):
        world.upstreams.to(f"/x{number}").reply(b"<p>" + b"x" * 40_000 + b"</p>")
    pieces = [writer.advance()]
    while not writer.complete:
        assert composition.ready, "it wakes itself where more is left"
        pieces.append(writer.advance())
    assert [piece.count(b'"outcome"') for piece in pieces] == [2, 2, 2]
    assert max(map(len, pieces)) < 2 * PIECE
    lines = [json.loads(each) for each in b"".join(pieces).splitlines()]
    assert [each.get("as") for each in lines[1:]] == [*(f"k{number}" for number in range(6)), None]


@pytest.mark.parametrize("kind", [NdjsonWriter, JsonWriter])
def test_a_sandboxed_fragment_is_a_frame_for_apps_too(kind: type[NdjsonWriter | JsonWriter]) -> None:
    made = fragment("shop/a", trust="sandboxed", embeds=("shop/b",))
    world = World(page(document(slot(1, "shop/a", key="a"))), fragments={**ALL, "shop/a": made})
    composition = world.compose()
    composition.begin()
    writer = kind(composition, world.loop.time)
    writer.advance()
    world.upstreams.to("/a").reply(b'<script>steal()</script><bff-fragment name="shop/b"></bff-fragment>')
    found = json.loads(writer.advance().splitlines()[0])
    html = found.get("slots", {"a": found})["a"]["html"]
    assert html == '<iframe sandbox="allow-scripts" src="/_bff/fragments/shop/a" title="shop/a"></iframe>'
    assert len(composition.slots) == 1


def test_embedded_slots_name_their_parent_in_json() -> None:
    outer = fragment("shop/outer", embeds=("shop/a",))
    world = World(page(document(slot(1, "shop/outer", key="outer"))), fragments={"shop/outer": outer, **ALL})
    composition = world.compose()
    composition.begin()
    writer = JsonWriter(composition, world.loop.time)
    world.upstreams.to("/outer").reply(b'<bff-fragment name="shop/a"></bff-fragment>')
    assert writer.advance() == b""
    world.upstreams.to("/a").reply(b"<i>in</i>")
    found = json.loads(writer.advance())
    assert found["slots"]["a"]["parent"] == "s1"


def test_whatever_fragments_do_the_document_is_whole() -> None:
    world = World(page(document(slot(1, "shop/a"), b"<p id=end>end</p>", slot(2, "shop/b"))), fragments=ALL)
    _, writer = begun(world)
    out = writer.advance()
    world.upstreams.to("/a").reply(b'</template><template for="s2.k7f3qa">HIJACK<!-- <?end> <script>')
    world.upstreams.to("/b").reply(b"B")
    out += writer.advance()
    tree = LexborHTMLParser(out.decode())
    assert len(tree.css("template[for^=s]")) == 2
    assert len(tree.css("#end")) == 1
    assert out.endswith(b"</body></html>")


def test_parts_of_a_table_stand_only_where_nothing_wraps_them() -> None:
    world = World(
        page(document(slot(1, "shop/a"), b"<table>", slot(2, "shop/b", wrap=False), b"</table>")), fragments=ALL
    )
    composition, writer = begun(world)
    writer.advance()
    world.upstreams.to("/a").reply(b"<tr><td>1</td></tr>")
    world.upstreams.to("/b").reply(b"<tr><td>2</td></tr>")
    out = writer.advance()
    assert b"<td>1" not in out
    assert out.startswith(b"<tr><td>2")
    assert world.seen.slots == [("shop/a", "omitted", "refused"), ("shop/b", "fresh", "ok")]
    assert composition.pending == 0


def test_no_form_stands_in_a_form() -> None:
    world = World(
        page(document(b"<form>", slot(1, "shop/a", in_form=True), b"</form>", slot(2, "shop/a"))), fragments=ALL
    )
    _, writer = begun(world)
    first = writer.advance()
    world.upstreams.flown[0].reply(b"<form></form>")
    out = first + writer.advance()
    assert b'data-slot="s1" state="omitted"' in out
    assert b"<form></form>" not in out.partition(b"</form>")[0]


def test_no_form_stands_in_a_form_though_a_fragment_embeds_it() -> None:
    embed = b'<bff-fragment name="shop/a"></bff-fragment>'
    world = World(
        page(document(b"<form>", slot(1, "shop/outer", in_form=True), b"</form>")),
        fragments={**ALL, "shop/outer": fragment("shop/outer", path="/outer", embeds=("shop/a",))},
    )
    _, writer = begun(world)
    writer.advance()
    world.upstreams.to("/outer").reply(embed)
    out = writer.advance()
    world.upstreams.to("/a").reply(b"<form></form>")
    assert b"<form>" not in out + writer.advance()
    assert world.seen.slots == [("shop/outer", "fresh", "ok"), ("shop/a", "omitted", "refused")]


def test_no_fragment_makes_a_shadow_root_of_what_its_neighbours_stand_in() -> None:
    """Without a wrapper its place is the shell's element: its shadow root would hide all that element's own content."""
    world = World(
        page(document(slot(1, "shop/a"), b"<main>", slot(2, "shop/b", wrap=False), b"</main>")), fragments=ALL
    )
    _, writer = begun(world)
    writer.advance()
    world.upstreams.to("/a").reply(b"<template shadowrootmode=open>A</template>")
    world.upstreams.to("/b").reply(b"<template shadowrootmode=open>B</template>")
    out = writer.advance()
    assert b">A</template>" in out
    assert b">B</template>" not in out
    assert world.seen.slots == [("shop/a", "fresh", "ok"), ("shop/b", "omitted", "refused")]


def test_a_sandboxed_fragment_is_a_frame() -> None:
    made = fragment("shop/a", trust="sandboxed")
    world = World(page(document(slot(1, "shop/a"))), fragments={"shop/a": made})
    _, writer = begun(world)
    writer.advance()
    world.upstreams.to("/a").reply(b"<script>1</script>")
    out = writer.advance()
    assert b'<iframe sandbox="allow-scripts" src="/_bff/fragments/shop/a" title="shop/a"></iframe>' in out
    assert b"<script>1" not in out


@pytest.mark.parametrize(
    ("locale", "tag"),
    [("en", b"en"), ("pt-BR", b"pt-BR"), ("de-ch,de;q=0.9", b"de-ch"), ('"><script>', b""), ("*", b""), ("", b"")],
)
def test_nothing_but_a_language_tag_stands_in_lang(locale: str, tag: bytes) -> None:
    assert language(locale) == tag


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({}, "2025-06-15T15:06:40Z"),
        ({"date": "Mon, 24 Nov 2025 10:00:00 GMT"}, "2025-11-24T10:00:00Z"),
        (
            {"date": "Mon, 24 Nov 2025 10:00:00 GMT", "last_modified": "Sun, 23 Nov 2025 10:00:00 GMT"},
            "2025-11-23T10:00:00Z",
        ),
    ],
)
def test_apps_are_told_since_when_it_has_been_so(headers: dict[str, Any], said: str) -> None:
    world = World(page(document(slot(1, "shop/a"))), fragments=ALL)
    composition = world.compose()
    composition.begin()
    world.upstreams.to("/a").reply(b"A", **headers)
    (told,) = json.loads(JsonWriter(composition, world.loop.time).advance())["slots"].values()
    assert told["as_of"] == said
