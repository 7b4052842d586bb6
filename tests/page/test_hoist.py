"""The assets of a page's fragments in its head: once each, and only those that may act in the page."""

from bff.model import Fragment
from bff.page.hoist import MOST, Hoisted, Link, elements, of_page, preloads
from tests.build import fragment

CARD, LINES, ROW = fragment("shop/card", embeds=("shop/row",)), fragment("shop/lines"), fragment("shop/row")
ALL: dict[str, Fragment] = {each.name: each for each in (CARD, LINES, ROW)}


def link(name: str, content: str = "") -> Link:
    return Link(f"/_bff/assets/shop/{name}", f"sha384-{content or name}")


HELD = {
    "shop/card": Hoisted(css=(link("card.css"),), js=(link("card.js"),), imports=(link("lib.js"),)),
    "shop/lines": Hoisted(css=(link("base.css"), link("copy.css", "card.css")), js=(link("card.js"),)),
    "shop/row": Hoisted(css=(link("row.css"),)),
}


def urls(links: tuple[Link, ...]) -> list[str]:
    return [each.url.rpartition("/")[2] for each in links]


def test_each_content_once_in_the_order_of_the_page() -> None:
    page = of_page([LINES, CARD, LINES], ALL, HELD)
    assert urls(page.css) == ["base.css", "copy.css", "row.css"], "copy.css is card.css by another name"
    assert urls(page.js) == ["card.js"]
    assert urls(page.imports) == ["lib.js"]


def test_only_what_is_checked_acts_in_the_page() -> None:
    for trust in ("sanitized", "sandboxed"):
        held = {"shop/x": HELD["shop/card"]}
        assert of_page([fragment("shop/x", trust=trust)], ALL, held) == Hoisted()


def test_fragments_that_embed_each_other_end() -> None:
    one, other = fragment("shop/a", embeds=("shop/b",)), fragment("shop/b", embeds=("shop/a", "shop/gone"))
    held = {"shop/a": HELD["shop/card"], "shop/b": HELD["shop/row"]}
    assert urls(of_page([one], {"shop/a": one, "shop/b": other}, held).css) == ["card.css", "row.css"]


def test_elements_hold_up_no_parser() -> None:
    assert elements(HELD["shop/card"]) == (
        b'<link rel="stylesheet" href="/_bff/assets/shop/card.css" integrity="sha384-card.css">'
        b'<script type="module" async src="/_bff/assets/shop/card.js" integrity="sha384-card.js"></script>'
    )
    assert b"&quot;&gt;" in elements(Hoisted(css=(Link('/a">', "x"),)))
    assert elements(Hoisted()) == b""


def test_preloads_are_few() -> None:
    assert preloads(HELD["shop/card"]) == (
        b'</_bff/assets/shop/card.css>; rel=preload; as=style; integrity="sha384-card.css", '
        b'</_bff/assets/shop/card.js>; rel=modulepreload; integrity="sha384-card.js", '
        b'</_bff/assets/shop/lib.js>; rel=modulepreload; integrity="sha384-lib.js"'
    )
    many = Hoisted(css=tuple(link(f"{n}.css") for n in range(MOST + 5)))
    assert preloads(many).count(b"rel=preload") == MOST
    assert preloads(Hoisted()) == b""


def test_the_json_forms_list_urls() -> None:
    assert HELD["shop/card"].urls() == {"css": ["/_bff/assets/shop/card.css"], "js": ["/_bff/assets/shop/card.js"]}
    assert Hoisted().urls() is None
