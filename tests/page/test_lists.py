import json

import pytest

from bff.gateway import fragments as endpoint
from bff.model import Ref, Slot
from bff.page.forms import JsonWriter
from bff.page.wire import HtmlWriter
from tests.build import World, document, fragment, int_param, page, slot, text_param

OFFERS = fragment(
    "shop/offers",
    path=("/o",),
    query=(("page", (Ref("param", "page"),)), ("size", (Ref("param", "size"),))),
    params={
        "page": int_param("page", required=False, default=("1",)),
        "size": int_param("size", required=False, default=("3",)),
    },
    paginate="link",
    layer={"cache.fresh": "10s"},
)
PAGE = {"page": int_param("page", required=False, default=("1",)), "q": text_param("q", required=False, default=("",))}
FED = (("page", ("", Ref("query", "page"), "")),)


class Shown:
    """A page with one slot, whose answer goes on."""

    def __init__(
        self, made: Slot, route: str = "/p", path: str = "/p", query: str = "", onward: str = "?page=2"
    ) -> None:
        self.world = World(page(document(made), route, query=PAGE), fragments={"shop/offers": OFFERS})
        self.path, self.query = path, query
        self.compose()
        (asked,) = self.world.upstreams.open
        asked.reply(b"<p>x</p>", link=f'</o{onward}>; rel="next"')

    def compose(self) -> HtmlWriter:
        composition = self.world.compose(self.path, self.query)
        composition.begin()
        return HtmlWriter(composition, nonce="n", suffix="abcdef", ordered=True)

    def html(self) -> str:
        return self.compose().advance().decode()


def test_the_page_itself_goes_on_where_its_query_decides() -> None:
    made = slot(1, "shop/offers", more="click", params=FED)
    html = Shown(made, query="page=4&q=a%26b&other=1", onward="?page=5").html()
    assert 'state="fresh" age="0" next="/_bff/fragments/shop/offers?page=5" more="click">' in html
    assert '<p>x</p><a rel="next" href="/p?page=5&amp;q=a%26b">More</a></bff-fragment>' in html


def test_path_parameters_stay() -> None:
    made = slot(1, "shop/offers", more="visible", params=FED)
    html = Shown(made, "/p/{key}/{rest:path}", "/p/a%2Fb/c/d%20e").html()
    assert 'href="/p/a%2Fb/c/d%20e?page=2"' in html


@pytest.mark.parametrize(
    ("params", "onward"),
    [
        ((), "?page=2"),
        ((("page", ("2",)),), "?page=3"),
        (FED, "?page=2&size=5"),
    ],
)
def test_else_the_fragment_goes_on(params: tuple[tuple[str, tuple[str, ...]], ...], onward: str) -> None:
    made = slot(1, "shop/offers", more="click", params=params)
    assert (
        f'<a rel="next" href="/_bff/fragments/shop/offers{onward.replace("&", "&amp;")}">'
        in Shown(made, onward=onward).html()
    )


def test_no_link_where_none_was_asked_for_and_none_on_the_last_page() -> None:
    html = Shown(slot(1, "shop/offers", params=FED)).html()
    assert 'next="/_bff/fragments/shop/offers?page=2">' in html
    assert "<a" not in html
    html = Shown(slot(1, "shop/offers", more="click", params=FED), onward="?page=1").html()
    assert "next=" not in html
    assert "<a" not in html


def test_an_answer_just_given_says_so_too_and_so_do_programs() -> None:
    world = World(page(document(slot(1, "shop/offers"))), fragments={"shop/offers": OFFERS})
    composition = world.compose()
    composition.begin()
    writer = HtmlWriter(composition, nonce="n", suffix="abcdef", ordered=True)
    writer.advance()
    world.upstreams.to("/o?page=1&size=3").reply(b"<p>x</p>", link="</o?page=2>; rel=next")
    assert 'state="fresh" next="/_bff/fragments/shop/offers?page=2">' in writer.advance().decode()
    composition = world.compose()
    composition.begin()
    (line,) = json.loads(JsonWriter(composition, world.loop.time).advance())["slots"].values()
    assert line["next"] == "/_bff/fragments/shop/offers?page=2"
    world.loop.advance(11)
    call = endpoint.call_for(world.planner, OFFERS, "", None)
    answers = list[object]()
    world.resolver.start(call, world.visit(), answers.append)
    world.upstreams.to("/o?page=1&size=3").fail()
    (result,) = answers
    answer = endpoint.answer(call, result, world.planner, {"headers": []})  # type: ignore[arg-type] # it is a Result
    assert dict(answer.headers)[b"link"] == b'</_bff/fragments/shop/offers?page=2>; rel="next"'
