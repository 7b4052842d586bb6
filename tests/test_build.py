"""One context's folder becomes values: everything it says, and everything that is wrong with it where it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bff.build import build
from bff.config.options import Settings
from bff.errors import Finding
from bff.link import Built
from bff.model import Meta, Ref
from tests.folders import SHELL, context, shop, slot, write


def compiled(folder: Path, last: Built | None = None, **settings: Any) -> tuple[Built | None, list[Finding]]:
    return build(folder, settings=Settings.model_validate(settings), env={}, last=last)


def good(folder: Path, **settings: Any) -> Built:
    built, findings = compiled(folder, **settings)
    assert [each for each in findings if each.severity != "note"] == []
    assert built is not None
    return built


FULL = """\
contact: "#shop"
source: json
forward: {headers: [x-flag], cookies: [session], principal: x-user}
grant: {cookies: [basket], redirects: ["https://pay.example"]}
csp: {img-src: [https://img.example]}
policy: {timeout: {total: 1s}}
fragments:
  line:
    path: /lines/{id}
    query: {lang: "{lang}"}
    params:
      id: {type: str, example: "7"}
      lang: {type: str, default: en}
    template: templates/line.html
    as_of: modified
    paginate: {items: rows, next: more}
    embeds: [site/price]
    tags: ["line:{id}"]
    fallback: [fallbacks/line.html, fallbacks/line.json]
    assets: {css: [/a.css], js: [/a.js]}
    reserve: 120px
    policy: {cache: {fresh: 30s}}
pages:
  cart:
    path: /cart/{id}
    query: {q: {type: str, default: ""}}
    template: pages/cart.html
    error: pages/error.html
    deadline: 3s
    cross_site: true
"""
FILES = {
    "templates/line.html": "<p>{{ data.name }}</p>",
    "fallbacks/line.html": "<p>–</p>",
    "fallbacks/line.json": "{}",
    "pages/cart.html": SHELL.format(slot("shop/line", 'primary param:id="{path.id}"')),
    "pages/error.html": SHELL.format("<p>sorry</p>"),
}


def test_everything_that_is_written_arrives(tmp_path: Path) -> None:
    made = good(context(tmp_path, "shop", FULL, FILES)).context
    assert (made.name, made.owner, made.contact) == ("shop", "team-shop", "#shop")
    assert made.upstream is not None
    assert made.grant.redirects == ("https://pay.example",)
    assert made.csp == {"img-src": ("https://img.example",)}
    assert made.policy.timeout.total == 1.0
    line = made.fragments["shop/line"]
    assert (line.name, line.context, line.owner, line.upstream) == ("shop/line", "shop", "team-shop", made.upstream)
    assert line.path == ("/lines/", Ref("param", "id"), "")
    assert line.query == (("lang", ("", Ref("param", "lang"), "")),)
    assert (line.params["id"].required, line.params["lang"].default) == (True, ("en",))
    assert (line.source, line.as_of, line.paginate) == ("json", "modified", {"items": "rows", "next": "more"})
    assert line.template is not None
    assert line.template({"name": "<Ada>"}, {}, Meta(date="", as_of=""), 1.0) == "<p>&lt;Ada&gt;</p>"
    assert (line.embeds, line.tags) == (("site/price",), (("line:", Ref("param", "id"), ""),))
    assert (line.fallback_html, line.fallback_json) == ("<p>–</p>".encode(), b"{}")
    assert (line.assets.css, line.assets.js, line.reserve) == (("/a.css",), ("/a.js",), "120px")
    assert (line.forward.headers, line.forward.cookies, line.forward.principal) == (("x-flag",), ("session",), "x-user")
    assert line.private
    assert (line.csp, line.grant) == (made.csp, made.grant)
    cart = made.pages["shop/cart"]
    assert (cart.route, cart.deadline, cart.cross_site) == ("/cart/{id}", 3.0, True)
    assert [each.fragment for each in cart.shell.slots] == ["shop/line"]
    assert cart.error is not None
    assert cart.query["q"].default == ("",)


def test_policies_merge_from_all_layers_with_their_origins(tmp_path: Path) -> None:
    line = good(
        context(tmp_path, "shop", FULL, FILES),
        policy={"retry": {"extra": "0"}},
        overrides={"contexts": {"shop": {"state": "stored"}}, "fragments": {"shop/line": {"late": "drop"}}},
    ).context.fragments["shop/line"]
    assert line.policy.retry.extra == 0
    assert (line.policy.timeout.total, line.policy.cache.fresh) == (1.0, 30.0)
    assert (line.policy.state, line.policy.late) == ("stored", "drop")
    told = {key: line.origins[key] for key in ("retry.extra", "timeout.total", "cache.fresh", "state", "late")}
    assert told == {
        "retry.extra": "bff.yaml",
        "timeout.total": "context",
        "cache.fresh": "fragment",
        "state": "override",
        "late": "override",
    }
    assert [origin for origin, _ in line.layers] == ["bff.yaml", "context", "fragment", "override"]


def test_private_fragments_are_careful_with_old_copies(tmp_path: Path) -> None:
    line = good(context(tmp_path, "shop", FULL, FILES)).context.fragments["shop/line"]
    assert line.policy.cache.stale_if_error == 0.0


def test_layers_that_say_nothing_are_left_out(tmp_path: Path) -> None:
    assert good(shop(tmp_path)).context.fragments["shop/lines"].layers == ()


@pytest.mark.parametrize(
    ("policy", "where"), [("    policy: {timeout: {total: 20s}}\n", 6), ("policy: {timeout: {total: 20s}}\n", 6)]
)
def test_a_ceiling_is_told_where_it_lowers_a_value(tmp_path: Path, policy: str, where: int) -> None:
    built, findings = compiled(shop(tmp_path, rest=policy))
    (finding,) = findings
    assert built is not None
    assert built.context.fragments["shop/lines"].policy.timeout.total == 10.0
    assert (finding.code, finding.severity, finding.line) == ("over-ceiling", "warning", where)
    assert finding.message == "timeout.total of shop/lines is 20s"


def test_the_operators_own_values_over_a_ceiling_are_not_the_teams_finding(tmp_path: Path) -> None:
    good(shop(tmp_path), policy={"timeout": {"total": "20s"}})


def test_an_operator_may_shorten_a_pages_deadline(tmp_path: Path) -> None:
    made = good(shop(tmp_path), overrides={"pages": {"shop/cart": {"deadline": "1s"}}})
    assert made.context.pages["shop/cart"].deadline == 1.0


def test_the_version_changes_with_what_makes_an_answer(tmp_path: Path) -> None:
    folder = context(tmp_path, "shop", FULL, FILES)

    def version() -> str:
        return good(folder).context.fragments["shop/line"].version

    first = version()
    assert version() == first
    context(tmp_path, "shop", FULL.replace("reserve: 120px", "reserve: 90px").replace("fresh: 30s", "fresh: 9s"))
    assert version() == first
    write(folder / "templates/line.html", "<b>{{ data.name }}</b>")
    second = version()
    assert second != first
    context(tmp_path, "shop", FULL.replace("/lines/{id}", "/rows/{id}"))
    assert version() not in {first, second}


@pytest.mark.parametrize(
    ("file", "form"), [("templates/line.html", True), ("fallbacks/line.html", True), ("x.html", False)]
)
def test_a_form_in_a_template_or_a_fallback_is_noted(tmp_path: Path, file: str, form: bool) -> None:
    built = good(context(tmp_path, "shop", FULL, FILES | {file: '<FORM action="/a"></FORM>'}))
    assert built.context.fragments["shop/line"].form is form


def test_the_version_changes_with_what_a_template_includes(tmp_path: Path) -> None:
    files = FILES | {"templates/line.html": "{% include 'templates/x.html' %}", "templates/x.html": "1"}
    folder = context(tmp_path, "shop", FULL, files)
    first = good(folder).context.fragments["shop/line"].version
    write(folder / "templates/x.html", "2")
    assert good(folder).context.fragments["shop/line"].version != first


def test_a_template_is_compiled_once_as_long_as_it_stays_the_same(tmp_path: Path) -> None:
    text = FULL.replace("pages:", "  other:\n    path: /o\n    template: templates/line.html\npages:")
    folder = context(tmp_path, "shop", text, FILES)
    first = good(folder)
    line, other = (first.context.fragments[name].template for name in ("shop/line", "shop/other"))
    assert line is other
    again, _ = compiled(folder, first)
    assert again is not None
    assert again.context.fragments["shop/line"].template is line
    write(folder / "templates/line.html", "<i>{{ data.name }}</i>")
    changed, _ = compiled(folder, again)
    assert changed is not None
    template = changed.context.fragments["shop/line"].template
    assert template is not None
    assert template({"name": "x"}, {}, Meta(date="", as_of=""), 1.0) == "<i>x</i>"


# --- what is wrong ----------------------------------------------------------------------------------------------------


def test_a_broken_registration_gives_findings_alone(tmp_path: Path) -> None:
    built, findings = compiled(context(tmp_path, "shop", "nonsense: 1\n"))
    assert built is None
    assert findings[0].code == "unknown-key"


def test_all_errors_are_told_at_once(tmp_path: Path) -> None:
    files = FILES | {
        "templates/line.html": "{% if %}",
        "pages/cart.html": SHELL.format(
            slot("shop/gone") + "\n" + slot("shop/line", 'param:id="{path.nr}" timeout.total="1 s"')
        ),
        "pages/error.html": "{% block",
    }
    built, findings = compiled(context(tmp_path, "shop", FULL, files))
    assert built is None
    files_told = {Path(each.file).name for each in findings}
    assert {"line.html", "cart.html", "error.html"} <= files_told
    codes = {each.code for each in findings}
    assert {"unknown-fragment", "unknown-reference", "bad-policy"} <= codes
    assert "no-template" not in codes
    assert {(each.context, each.owner) for each in findings} == {("shop", "team-shop")}


def test_a_page_whose_shell_does_not_compile_is_left_out_with_its_findings(tmp_path: Path) -> None:
    built, findings = compiled(shop(tmp_path, slot("not a name")))
    assert built is None
    assert findings[0].file == str(tmp_path / "shop/pages/cart.html")
    assert findings[0].line == 3


ALL_AT_ONCE = """\
upstreem: x
forward: {headers: [cookie]}
fragments:
  card:
    path: /card/{id}/{nope}
    params: {id: {type: strng}, n: {type: int, pattern: a}}
    template: templates/card.html
    source: json
  price:
    path: /price/{sku}
    params: {sku: {type: int}}
    reserve: tall
  lonely: [a]
  nopath: {reserve: 3px}
pages:
  home: {path: /, template: pages/home.html, deadline: 2}
  about: {path: "/about/{id}", template: pages/about.html, error: pages/none.html}
  twin: {path: "/about/{other}", template: pages/gone.html}
  asked: {path: /asked, template: pages/asked.html, query: {x: {type: enum}}}
policy: {timeout: {totl: 1s}}
"""
BROKEN_FILES = {
    "pages/home.html": SHELL.format(slot("shop/price", 'sku="1" load="lazy"') + "\n" + slot("shop/nope")),
    "pages/about.html": SHELL.format(
        "\n".join(
            [
                slot("shop/price", 'sku="x"'),
                slot("shop/price"),
                slot("shop/card", 'id="{path.zz}"'),
                slot("shop/nopath", 'x="{path.id}"'),
                slot("shop/lonely"),
                slot("shop/price", 'sku="{path.zz}"'),
            ]
        )
    ),
    "pages/asked.html": SHELL.format("<!--"),
    "templates/card.html": "{% if %}",
}


def test_what_is_wrong_anywhere_is_told_at_once_and_nothing_that_follows_from_it(tmp_path: Path) -> None:
    built, findings = compiled(
        context(tmp_path, "shop", ALL_AT_ONCE, BROKEN_FILES),
        allow={"shop": {"routes": ["/", "/about/*", "/asked"], "cookies": []}},
    )
    assert built is None
    told = [(Path(each.file).name, each.line, each.code) for each in findings]
    assert told == [
        ("context.yaml", 3, "unknown-key"),
        ("context.yaml", 4, "forbidden-header"),
        ("context.yaml", 7, "params-mismatch"),
        ("context.yaml", 8, "bad-value"),
        ("context.yaml", 8, "bad-param"),
        ("context.yaml", 14, "bad-value"),
        ("context.yaml", 15, "wrong-type"),
        ("context.yaml", 16, "missing-key"),
        ("context.yaml", 18, "bad-value"),
        ("context.yaml", 19, "missing-file"),
        ("context.yaml", 20, "duplicate-route"),
        ("context.yaml", 20, "missing-file"),
        ("context.yaml", 21, "bad-param"),
        ("context.yaml", 22, "unknown-key"),
        ("about.html", 3, "bad-param"),
        ("about.html", 4, "missing-param"),
        ("about.html", 8, "unknown-reference"),
        ("asked.html", 3, "unclosed-comment"),
        ("home.html", 3, "bad-attribute"),
        ("home.html", 4, "unknown-fragment"),
        ("card.html", 1, "template"),
    ]
    assert {(each.context, each.owner) for each in findings} == {("shop", "team-shop")}
    assert all(each.remedy for each in findings)


def test_a_page_s_other_slots_are_judged_beside_what_is_wrong_with_it(tmp_path: Path) -> None:
    body = "\n".join([slot("shop/lines", 'load="lazy"'), slot("shop/gone"), slot("shop/lines", 'q="{cookie.a}"')])
    built, findings = compiled(shop(tmp_path, body))
    assert built is None
    assert [(each.line, each.code) for each in findings] == [
        (3, "bad-attribute"), (4, "unknown-fragment"), (5, "bad-reference"),
    ]  # fmt: skip


def test_without_an_owner_nobody_is_named(tmp_path: Path) -> None:
    write(tmp_path / "shop/context.yaml", "upstream: http://x\npages: {p: {path: /, template: p.html}}\n")
    write(tmp_path / "shop/p.html", SHELL.format(slot("shop/gone")))
    _, findings = compiled(tmp_path / "shop")
    assert {(each.code, each.owner) for each in findings} == {("missing-key", ""), ("unknown-fragment", "")}


def test_a_page_whose_template_does_not_parse_is_told(tmp_path: Path) -> None:
    built, findings = compiled(shop(tmp_path, "{% block"))
    assert built is None
    assert findings[0].file == str(tmp_path / "shop/pages/cart.html")


# --- layouts ----------------------------------------------------------------------------------------------------------

LAYOUT = SHELL.format("<header>" + slot("site/header") + "</header>\n<main>{% block main %}{% endblock %}</main>")
EXTENDING = '{% extends "site/layouts/default.html" %}\n{% block main %}\n' + slot("shop/lines") + "\n{% endblock %}\n"


def extending(root: Path) -> Path:
    folder = shop(root)
    write(folder / "pages/cart.html", EXTENDING)
    return folder


def test_slots_of_a_layout_are_placed_in_the_layout(tmp_path: Path) -> None:
    write(tmp_path / "site/layouts/default.html", LAYOUT)
    built = good(extending(tmp_path))
    header, lines = (built.places[f"shell:shop/cart:{index}"] for index in (1, 2))
    assert (header.file, header.line, header.context) == (str(tmp_path / "site/layouts/default.html"), 3, "site")
    assert (lines.file, lines.line, lines.context) == (str(tmp_path / "shop/pages/cart.html"), 3, "shop")


def test_a_missing_layout_is_dangling_and_the_built_in_one_stands_in(tmp_path: Path) -> None:
    built, findings = compiled(extending(tmp_path))
    assert built is not None
    assert [each.code for each in findings] == ["dangling"]
    assert [each.fragment for each in built.context.pages["shop/cart"].shell.slots] == ["shop/lines"]


def test_a_layout_that_went_leaves_the_last_good_compilation(tmp_path: Path) -> None:
    write(tmp_path / "site/layouts/default.html", LAYOUT)
    folder = extending(tmp_path)
    before = good(folder)
    (tmp_path / "site/layouts/default.html").unlink()
    after, findings = compiled(folder, before)
    assert after is not None
    assert after.context.pages["shop/cart"].shell is before.context.pages["shop/cart"].shell
    assert after.places == before.places
    assert [(each.code, each.severity, each.owner) for each in findings] == [("dangling", "warning", "team-shop")]


def test_a_bad_policy_in_another_contexts_layout_is_left_out(tmp_path: Path) -> None:
    layout = LAYOUT.replace('name="site/header"', 'name="site/header" timeout.total="soon" retry.extra="0"')
    write(tmp_path / "site/layouts/default.html", layout)
    built, findings = compiled(extending(tmp_path))
    assert built is not None
    (finding,) = findings
    assert (finding.code, finding.severity) == ("dangling", "warning")
    header = built.context.pages["shop/cart"].shell.slots[0]
    assert header.policy == {"retry.extra": "0"}
    assert header in built.context.pages["shop/cart"].shell.parts


def test_what_events_a_context_hears_of(tmp_path: Path) -> None:
    event = "org.openedx.content_authoring.course.created.v1"
    folder = context(
        tmp_path,
        "shop",
        f"events: [{{type: {event}, topic: courses, tags: ['c:{{course.course_key}}'], action: purge}}]",
    )
    (found,) = good(folder).context.events
    assert (found.context, found.type, found.topic, found.action) == ("shop", event, "courses", "purge")
    assert found.tags == (("c:", Ref("field", "course.course_key"), ""),)


@pytest.mark.parametrize(
    ("event", "code", "remedy"),
    [
        ("{type: shop.changed, topic: shop, tags: [a]}", "unknown-event", "as JSON, or over the webhook"),
        ("{type: shop.changed, tags: []}", "no-tags", "write tags"),
    ],
)
def test_an_event_that_nobody_could_heed(tmp_path: Path, event: str, code: str, remedy: str) -> None:
    built, findings = compiled(context(tmp_path, "shop", f"events: [{event}]"))
    assert built is not None, "a warning leaves nothing out"
    (found,) = [each for each in findings if each.severity != "note"]
    assert (found.code, found.severity, found.context) == (code, "warning", "shop")
    assert remedy in found.remedy
    assert good(context(tmp_path, "shop", "events: [{type: shop.changed, tags: [a]}]")).context.events[0].topic == ""


def test_a_podlets_manifest_is_where_podlets_have_it(tmp_path: Path) -> None:
    rest = (
        "source: podium\nfragments:\n  basket: {}\n  other: {path: /other.json}\n  page: {source: html, path: /page}\n"
    )
    made = good(context(tmp_path, "shop", rest)).context.fragments
    assert {name: each.path for name, each in made.items()} == {
        "shop/basket": ("/manifest.json",),
        "shop/other": ("/other.json",),
        "shop/page": ("/page",),
    }
