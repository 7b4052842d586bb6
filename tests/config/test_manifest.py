"""`bff.config.manifest`: the contract's own example is a manifest, and every mistake is told where it is, all at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.config.manifest import Manifest, read_context, upstream_variable
from bff.errors import Finding

EXAMPLE = """\
owner: team-discovery                   # required
contact: "#discovery"
upstream: http://127.0.0.1:9102
source: html
forward:
  headers: [Accept-Language]
  cookies: [session]
  principal: X-User
grant:
  cookies: [sid]
  redirects: ["https://pay.example.org"]
csp: {img-src: "https://cdn.example.org", connect-src: [https://a.example, "wss:"]}
policy: {timeout: {total: 1s}, state: on}
fragments:
  price: {path: /price}
  course-card:
    path: /api/v1/courses/{course_key}/
    query: {page: "{page}"}
    params:
      course_key: {type: str, pattern: "course-v1:[^/]+", example: "course-v1:edX+DemoX+2026"}
      page: {type: int, default: 1, ge: 1, le: 500}
      subject: {type: str, default: [], many: true, max: 20}
      user: {from: principal}
    source: json
    template: templates/course-card.html
    as_of: modified
    paginate: drf
    embeds: [discovery/price, recommendations/for-you]
    tags: ["course:{course_key}"]
    fallback: [fallbacks/course-card.html, fallbacks/course-card.json]
    assets: {css: [/card.css], js: [/card.js]}
    reserve: 120px
    trust: checked
    starts_task: false
    policy: {cache: {fresh: 30s}}
pages:
  checkout:
    path: /checkout/{basket_id}
    query: {course: {type: str, default: ""}}
    template: pages/checkout.html
    deadline: 2s
    error: pages/error.html
proxy:
  - path: /discovery/api/{rest:path}
    to: /api/{rest}
    forward: {headers: "*"}
    methods: [GET, HEAD, OPTIONS]
    policy: {cache: {mode: http}}
events:
  - type: org.openedx.content_authoring.course.catalog_info.changed.v1
    topic: course-catalog-info-changed
    tags: ["course:{catalog_info.course_key}"]
    action: refresh
"""
FILES = {
    "templates/course-card.html": "",
    "fallbacks/course-card.html": "",
    "fallbacks/course-card.json": "{}",
    "pages/checkout.html": "",
    "pages/error.html": "",
}


def folder(tmp_path: Path, text: str, *, name: str = "discovery", files: Mapping[str, str] = FILES) -> Path:
    context = tmp_path / name
    for file, content in {**files, "context.yaml": text}.items():
        (context / file).parent.mkdir(parents=True, exist_ok=True)
        (context / file).write_text(content)
    return context


def found(tmp_path: Path, text: str, **options: str) -> list[Finding]:
    return read_context(folder(tmp_path, text), env={}, **options)[1]


def good(tmp_path: Path, text: str, **env: str) -> Manifest:
    manifest, findings = read_context(folder(tmp_path, text), env=env)
    assert findings == []
    assert manifest is not None
    return manifest


def test_the_contract_s_example_is_a_manifest(tmp_path: Path) -> None:
    manifest = good(tmp_path, EXAMPLE)
    spec = manifest.spec
    card, page, (proxy,) = spec.fragments["course-card"], spec.pages["checkout"], spec.proxy
    assert (manifest.name, manifest.owner, spec.contact) == ("discovery", "team-discovery", "#discovery")
    assert (spec.forward.headers, spec.forward.principal) == (("accept-language",), "x-user")
    assert spec.csp == {"img-src": ("https://cdn.example.org",), "connect-src": ("https://a.example", "wss:")}
    assert spec.policy == {"timeout.total": 1.0, "state": "on"}
    assert (card.policy, card.reserve, card.tags) == ({"cache.fresh": 30.0}, "120px", ("course:{course_key}",))
    assert (card.params["page"].default, card.params["subject"].default) == (("1",), ())
    assert (page.deadline, page.query["course"].default) == (2.0, ("",))
    assert card.paginate is not None
    assert card.paginate.style == "drf"
    assert proxy.forward is not None
    assert proxy.forward.headers == ("*",)
    assert spec.events[0].action == "refresh"


def test_the_smallest_manifest_has_the_contract_s_defaults(tmp_path: Path) -> None:
    spec = good(
        tmp_path,
        "owner: a\nupstream: http://x\nfragments: {b: {path: /}}\npages: {c: {path: /, template: pages/error.html}}",
    ).spec
    fragment = spec.fragments["b"]
    assert (spec.source, spec.forward.headers, spec.grant.cookies, spec.csp) == ("html", (), (), {})
    assert (fragment.trust, fragment.starts_task, fragment.reserve, fragment.params) == ("checked", False, "", {})
    assert (spec.pages["c"].deadline, spec.pages["c"].error, spec.pages["c"].cross_site) == (2.0, "", False)


def test_later_findings_have_a_place(tmp_path: Path) -> None:
    manifest = good(tmp_path, EXAMPLE)
    assert manifest.at("pages", "checkout", "path") == (38, 11)
    finding = manifest.finding(("fragments", "course-card", "policy", "cache.fresh"), "x", "message", "remedy")
    assert str(finding) == f"{manifest.file}:35:29: error: message — remedy [discovery, team-discovery]"


# --- mistakes ---------------------------------------------------------------------------------------------------------

BASE = "owner: team-a\nupstream: http://x\n"
CASES = [  # what is added to BASE; where, code and a piece of the text
    ("upstreem: x", (3, 1, "unknown-key", "did you mean 'upstream'")),
    ("zzz: x", (3, 1, "unknown-key", "known are owner, contact")),
    ("owner: team-b", (3, 1, "duplicate-key", "first on line 1")),
    ("policy: &p {late: keep}", (3, 9, "yaml-anchor", "&p")),
    ("contact: [a]", (3, 10, "wrong-type", "contact: must be text — write a single value instead of a list")),
    ("fragments: [a]", (3, 12, "wrong-type", "must be a mapping")),
    ("fragments:", (3, 11, "wrong-type", "must be a mapping")),
    ("fragments: {A_b: {path: /}}", (3, 13, "bad-value", "'A_b' is not a name — use a-z")),
    ("fragments: {a: {}}", (3, 16, "missing-key", "path is missing — add path: …")),
    ("fragments: {a: {path: [/]}}", (3, 23, "wrong-type", "path: must be text")),
    ("fragments: {a: {path: /, query: {b: {c}}}}", (3, 37, "wrong-type", "put quotes around text")),
    ("fragments: {a: {path: /, pth: /}}", (3, 26, "unknown-key", "did you mean 'path'")),
    ("fragments: {a: {path: a}}", (3, 23, "bad-value", "write /a")),
    ("fragments: {a: {path: '/{x}'}}", (3, 23, "params-mismatch", "{x} is not among its params — declare it")),
    ("fragments: {a: {path: '/{pge}', params: {page: {}}, query: {page: '{page}'}}}", (3, 23, "params-mismatch", "did you mean 'page'")),
    ("fragments: {a: {path: '/{x', params: {x: {}}, tags: ['{x}']}}", (3, 23, "bad-value", "brace")),
    ("fragments: {a: {path: '/{x}', params: {x: {many: true}}}}", (3, 23, "params-mismatch", "put it into query")),
    ("fragments: {a: {path: /, query: {b: '{b}'}}}", (3, 37, "params-mismatch", "{b}")),
    ("fragments: {a: {path: /, tags: [x, 'y:{b}']}}", (3, 36, "params-mismatch", "{b}")),
    ("fragments: {a: {path: /, params: {B: {}}}}", (3, 35, "bad-value", "not a parameter's name")),
    ("fragments: {a: {path: '/{b}', params: {b: {type: integer}}}}", (3, 50, "bad-value", "did you mean 'int'")),
    ("fragments: {a: {path: '/{b}', params: {b: {many: yes}}}}", (3, 50, "bad-value", "write true or false")),
    ("fragments: {a: {path: '/{b}', params: {b: {many: [true]}}}}", (3, 50, "wrong-type", "must be true or false")),
    ("fragments: {a: {path: '/{b}', params: {b: {max: 0}}}}", (3, 49, "bad-value", "must be at least 1")),
    ("fragments: {a: {path: '/{b}', params: {b: {max: 1001}}}}", (3, 49, "bad-value", "must be at most 1000")),
    ("fragments: {a: {path: '/{b}', params: {b: {max: ten}}}}", (3, 49, "bad-value", "whole number")),
    ("fragments: {a: {path: '/{b}', params: {b: {type: int, default: x}}}}", (3, 64, "bad-param", "'x' breaks")),
    ("fragments: {a: {path: '/{b}', params: {b: {pattern: '('}}}}", (3, 53, "bad-param", "does not compile")),
    ("fragments: {a: {path: '/{b}', params: {b: {from: cookie}}}}", (3, 50, "bad-value", "principal")),
    ("fragments: {a: {path: /, source: jsn}}", (3, 34, "unknown-source", "did you mean 'json'")),
    ("source: xml", (3, 9, "unknown-source", "known are html, json")),
    ("fragments: {a: {path: /, template: templates/course-card.html}}", (3, 26, "needs-json", "source: json")),
    ("fragments: {a: {path: /, paginate: drf}}", (3, 26, "needs-json", "source: json")),
    ("fragments: {a: {path: /, source: podium, as_of: x}}", (3, 42, "needs-json", "this source is podium")),
    ("fragments: {a: {path: /, source: json, paginate: pages}}", (3, 50, "bad-value", "is not one of drf, link")),
    ("fragments: {a: {path: /, source: json, paginate: {items: a}}}", (3, 50, "bad-value", "both items and next")),
    ("fragments: {a: {path: /, source: json, paginate: drv}}", (3, 50, "bad-value", "style: 'drv' is not one of")),
    ("fragments: {a: {path: /, source: json, template: x.html}}", (3, 50, "missing-file", "does not exist")),
    ("fragments: {a: {path: /, source: json, template: x.txt}}", (3, 50, "bad-file", "does not end in .html")),
    ("fragments: {a: {path: /, fallback: [../x.html]}}", (3, 37, "bad-file", "leaves the context's folder")),
    ("fragments: {a: {path: /, fallback: [/etc/x.html]}}", (3, 37, "bad-file", "leaves the context's folder")),
    ("fragments: {a: {path: /, fallback: [out.html]}}", (3, 37, "bad-file", "leaves the context's folder")),
    ("fragments: {a: {path: /, fallback: [pages/error.html, pages/checkout.html]}}", (3, 55, "bad-value", "a second .html")),
    ("fragments: {a: {path: /, fallback: pages/error.html}}", (3, 36, "wrong-type", "write [a, b]")),
    ("fragments: {a: {path: /, embeds: [price]}}", (3, 35, "bad-value", "not a full name")),
    ("fragments: {a: {path: /, embeds: [discovery/b]}}", (3, 35, "unknown-fragment", "no fragment 'b'")),
    ("fragments: {a: {path: /, reserve: '1px;}'}}", (3, 35, "bad-value", "not a CSS length")),
    ("fragments: {a: {path: /, trust: none}}", (3, 33, "bad-value", "checked, sanitized, sandboxed")),
    ("fragments: {a: {path: /, assets: {css: [x]}}}", (3, 41, "bad-value", "write /x")),
    ("fragments: {a: {path: /, assets: {vite: /m.json}}}", (3, 26, "bad-value", "one of the two")),
    ("fragments: {a: {path: /, assets: {vite: m.json, entry: a}}}", (3, 41, "bad-value", "write /m.json")),
    ("policy: {timeout: {totl: 1s}}", (3, 20, "unknown-key", "did you mean 'timeout.total'")),
    ("policy: {timeout: 1s}", (3, 19, "wrong-type", "timeout must be a mapping")),
    ("policy: {timeout: {total: [1s]}}", (3, 27, "wrong-type", "must be one value")),
    ("policy: {timeout: {total: 1}}", (3, 27, "bad-value", "write a number and a unit")),
    ("policy: {timeout: {total: 1s}, timeout.total: 2s}", (3, 32, "duplicate-key", "written twice")),
    ("policy: {on_error: [stale, retry]}", (3, 20, "bad-value", "not one of stale")),
    ("policy: {on_error: [[stale]]}", (3, 20, "wrong-type", "must be one value")),
    ("policy: x", (3, 9, "wrong-type", "must be a mapping")),
    ("forward: {headers: [cookie]}", (3, 21, "forbidden-header", "forward: {cookies: [NAME]}")),
    ("forward: {headers: ['*']}", (3, 21, "forbidden-header", "proxy routes only")),
    ("forward: {headers: '*'}", (3, 20, "forbidden-header", "proxy routes only")),
    ("forward: {headers: [X-Forwarded-For]}", (3, 21, "forbidden-header", "the gateway's own")),
    ("forward: {headers: ['a b']}", (3, 21, "bad-value", "not a header name")),
    ("forward: {headers: [x-user], principal: X-User}", (3, 41, "forbidden-header", "could write any name")),
    ("forward: {principal: Host}", (3, 22, "forbidden-header", "the gateway's own")),
    ("forward: {cookies: [a=b]}", (3, 21, "bad-value", "not a cookie name")),
    ("grant: {redirects: [pay.example.org]}", (3, 21, "bad-value", "not an upstream")),
    ("grant: {redirects: ['https://a/b']}", (3, 21, "bad-value", "more than an origin")),
    ("csp: {image-src: x}", (3, 7, "unknown-key", "did you mean 'img-src'")),
    ("csp: {img-src: 'a; script-src *'}", (3, 16, "bad-value", "not a source of a policy")),
    ("csp: {img-src: [x, 'a b']}", (3, 20, "bad-value", "not a source of a policy")),
    ("pages: {p: {path: /}}", (3, 12, "missing-key", "template is missing")),
    ("pages: {p: {path: /_bff/x, template: pages/error.html}}", (3, 19, "bad-value", "belongs to the gateway")),
    ("pages: {p: {path: '/{a', template: pages/error.html}}", (3, 19, "bad-value", "segment of a route")),
    ("pages: {p: {path: /, template: pages/none.html}}", (3, 32, "missing-file", "does not exist")),
    ("pages: {p: {path: /, template: pages/error.html, error: x.html}}", (3, 57, "missing-file", "does not exist")),
    ("pages: {p: {path: /, template: pages/error.html, deadline: 5}}", (3, 60, "bad-value", "write a number and a unit")),
    ("pages: {p: {path: /, template: pages/error.html, deadline: 50ms}}", (3, 60, "bad-value", "must be at least 100ms")),
    ("pages: {p: {path: /, template: pages/error.html, deadline: {a: b}}}", (3, 60, "wrong-type", "must be one value")),
    ("pages: {p: {path: '/{a}', template: pages/error.html, query: {a: {}}}}", (3, 63, "params-mismatch", "in the path too")),
    ("pages: {p: {path: /, template: pages/error.html, query: {a: {from: principal}}}}", (3, 68, "bad-value", "from its visitors")),
    ("pages: {p: {path: '/{a}', template: pages/error.html}, q: {path: '/{b}', template: pages/error.html}}", (3, 66, "duplicate-route", "page p is on this route")),
    ("proxy: [x]", (3, 9, "wrong-type", "must be a mapping")),
    ("proxy: [{path: /x, tu: /}]", (3, 9, "missing-key", "to is missing")),
    ("proxy: [{path: '/x/{rest:path}', to: '/{res}'}]", (3, 38, "params-mismatch", "did you mean 'rest'")),
    ("proxy: [{path: x, to: /}]", (3, 16, "bad-value", "write /x")),
    ("proxy: [{path: /x, to: /, methods: [get]}]", (3, 37, "bad-value", "not a method")),
    ("proxy: [{path: /x, to: /, methods: [TRACE]}]", (3, 37, "bad-value", "not a method")),
    ("proxy: [{path: /x, to: /, forward: {headers: [bff-x]}}]", (3, 47, "forbidden-header", "the gateway's own")),
    ("events: [{type: a, tags: ['{']}]", (3, 27, "bad-value", "not a tag")),
    ("events: [{type: a, action: drop}]", (3, 28, "bad-value", "refresh, expire, purge")),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), CASES, ids=[text for text, _ in CASES])
def test_a_mistake_is_told_where_it_is(tmp_path: Path, text: str, expected: tuple[int, int, str, str]) -> None:
    outside = tmp_path / "out.html"
    outside.write_text("")
    context = folder(tmp_path, BASE + text)
    (context / "out.html").symlink_to(outside)
    manifest, findings = read_context(context, env={})
    line, column, code, says = expected
    at_it = [f for f in findings if (f.line, f.column, f.code) == (line, column, code)]
    assert at_it, findings
    assert says in str(at_it[0])
    assert manifest is None
    for finding in findings:
        assert (finding.context, finding.owner, finding.file) == ("discovery", "team-a", str(context / "context.yaml"))
        assert finding.remedy


@pytest.mark.parametrize(
    ("rest", "codes"),
    [
        ("fallback: [fallbacks/course-card.json]", ["no-html-fallback"]),
        ("fallback: [fallbacks/course-card.json, fallbacks/course-card.html]", []),
        ("fallback: [fallbacks/course-card.json], source: json", []),
    ],
)
def test_a_json_fallback_shows_nothing_where_pages_are_given_html(tmp_path: Path, rest: str, codes: list[str]) -> None:
    findings = found(tmp_path, BASE + f"fragments: {{f: {{path: /f, {rest}}}}}")
    assert [(each.code, each.severity) for each in findings] == [(code, "warning") for code in codes]


def test_a_parameter_s_mistakes_are_told_key_by_key(tmp_path: Path) -> None:
    params = "a: {type: int, ge: x, le: y, pattern: b, default: z, example: '1'}, e: {type: enum, default: q}"
    findings = found(tmp_path, BASE + f"fragments: {{f: {{path: '/{{a}}/{{e}}', params: {{{params}}}}}}}")
    assert [(each.code, each.message.partition(" ")[0]) for each in findings] == [
        ("bad-param", "ge:"), ("bad-param", "le:"), ("bad-param", "pattern"), ("bad-param", "the"), ("bad-param", "values"),
    ]  # fmt: skip


def test_all_mistakes_are_told_at_once_in_order(tmp_path: Path) -> None:
    text = (
        BASE + "owner: b\nsource: htm\nfragments: {a: {path: x, reserve: 1}}\npages: {P: {path: /, template: x.html}}"
    )
    places = [(f.line, f.column) for f in found(tmp_path, text)]
    assert places == sorted(places)
    assert {line for line, _ in places} == {3, 4, 5, 6}


def test_an_alias_is_told_once_and_not_as_a_wrong_type_too(tmp_path: Path) -> None:
    findings = found(tmp_path, BASE + "csp: &x {}\npolicy: *x")
    assert [(f.line, f.code) for f in findings] == [(3, "yaml-anchor"), (4, "yaml-alias")]


def test_an_unused_parameter_is_a_warning_and_no_reason_to_be_left_out(tmp_path: Path) -> None:
    manifest, (finding,) = read_context(folder(tmp_path, BASE + "fragments: {a: {path: /, params: {b: {}}}}"), env={})
    assert manifest is not None
    assert (finding.severity, finding.code, finding.line, finding.column) == ("warning", "unused-param", 3, 35)


def test_a_parameter_may_be_for_the_template_alone(tmp_path: Path) -> None:
    good(
        tmp_path,
        BASE + "fragments: {a: {path: /, source: json, template: templates/course-card.html, params: {b: {}}}}",
    )


@pytest.mark.parametrize("text", ["fragments: {a: {path: /}}", "proxy: [{path: /x, to: /}]"])
def test_what_is_fetched_needs_an_upstream(tmp_path: Path, text: str) -> None:
    (finding,) = found(tmp_path, f"owner: a\n{text}")
    assert (finding.code, finding.line, finding.column) == ("missing-key", 1, 1)
    assert "upstream is missing" in finding.message


def test_a_context_of_pages_needs_none(tmp_path: Path) -> None:
    good(tmp_path, "owner: a\npages: {p: {path: /, template: pages/error.html}}")


@pytest.mark.parametrize("text", ["contact: x", "owner: ''", "owner: [a]", "", "- a"])
def test_an_owner_is_required(tmp_path: Path, text: str) -> None:
    findings = found(tmp_path, text)
    assert [f.severity for f in findings] == ["error"]
    assert findings[0].owner == ""


def test_the_environment_s_upstream_wins(tmp_path: Path) -> None:
    manifest, findings = read_context(
        folder(tmp_path, BASE, name="course-api"),
        env={"BFF_UPSTREAM__COURSE_API": "https://y/b", "BFF_UPSTREAM__X": "z"},
    )
    assert manifest is not None
    assert (manifest.spec.upstream, findings) == ("https://y/b", [])
    assert upstream_variable("course-api") == "BFF_UPSTREAM__COURSE_API"


def test_a_bad_upstream_is_told_where_it_was_said(tmp_path: Path) -> None:
    (in_file,) = found(tmp_path, "owner: a\nupstream: x")
    assert (in_file.line, in_file.column, in_file.code) == (2, 11, "bad-upstream")
    _, (in_variable,) = read_context(folder(tmp_path, BASE), env={"BFF_UPSTREAM__DISCOVERY": "x"})
    assert str(in_variable).startswith("BFF_UPSTREAM__DISCOVERY:1:1: error: 'x' is not an upstream")


def test_the_operator_s_identity_header_cannot_be_asked_for(tmp_path: Path) -> None:
    text = BASE + "forward: {headers: [remote-user]}"
    assert found(tmp_path, text) == []
    (finding,) = found(tmp_path, text, identity_header="Remote-User")
    assert finding.code == "forbidden-header"


def test_the_identity_header_may_carry_the_principal(tmp_path: Path) -> None:
    assert found(tmp_path, BASE + "forward: {principal: X-Forwarded-User}", identity_header="x-forwarded-user") == []


def test_a_folder_s_name_is_a_context_s(tmp_path: Path) -> None:
    manifest, (finding,) = read_context(folder(tmp_path, BASE, name="Course_API"), env={})
    assert manifest is None
    assert finding.code == "bad-name"


def test_a_static_json_answer_must_be_json(tmp_path: Path) -> None:
    context = folder(
        tmp_path, BASE + "fragments: {a: {path: /, source: json, fallback: [a.json]}}", files={"a.json": '{\n "a": }'}
    )
    _, (finding,) = read_context(context, env={})
    assert (finding.file, finding.line, finding.column, finding.code) == (str(context / "a.json"), 2, 7, "bad-fallback")
    (context / "a.json").write_bytes(b'"\xff"')
    _, (finding,) = read_context(context, env={})
    assert (finding.line, finding.column, finding.code) == (1, 1, "bad-fallback")
    (context / "a.json").write_bytes(b'{"price": NaN}')
    _, (finding,) = read_context(context, env={})
    assert (finding.code, "NaN is no JSON" in finding.message) == ("bad-fallback", True)


def test_links_within_the_folder_are_followed(tmp_path: Path) -> None:
    """A mounted config map is a folder of links into a hidden one beside them."""
    context = folder(tmp_path, BASE + "pages: {p: {path: /, template: shell.html}}", files={"..data/shell.html": ""})
    (context / "shell.html").symlink_to("..data/shell.html")
    assert read_context(context, env={})[1] == []


def test_a_missing_file_is_a_finding(tmp_path: Path) -> None:
    manifest, (finding,) = read_context(tmp_path / "nowhere", env={})
    assert manifest is None
    assert (finding.code, finding.context) == ("unreadable", "nowhere")


@pytest.mark.parametrize(("page", "taken"), [("a: {path: '/a/{x}'", True), ("a: {path: '/a/{x:path}'", False)])
def test_a_rest_is_another_route_than_a_segment(tmp_path: Path, page: str, taken: bool) -> None:
    text = (
        BASE + f"pages: {{{page}, template: pages/error.html}}, b: {{path: '/a/{{y}}', template: pages/error.html}}}}"
    )
    assert bool(found(tmp_path, text)) == taken


@pytest.mark.parametrize(("bound", "codes"), [("", ["unbounded-page"]), (", le: 100", [])])
def test_how_much_a_page_of_a_list_holds_is_bounded(tmp_path: Path, bound: str, codes: list[str]) -> None:
    params = f"params: {{n: {{type: int, default: 10{bound}}}, page: {{type: int, default: 1}}}}"
    query = "query: {limit: '{n}', page: '{page}'}"
    context = folder(tmp_path, BASE + f"fragments: {{a: {{path: /, paginate: link, {query}, {params}}}}}")
    manifest, findings = read_context(context, env={})
    assert manifest is not None
    assert [finding.code for finding in findings] == codes


# --- whatever is written ----------------------------------------------------------------------------------------------

_KEYS = st.sampled_from(
    ["owner", "upstream", "fragments", "pages", "policy", "path", "params", "type", "proxy", "forward", "csp", "x"]
)
_TREES = st.recursive(
    st.sampled_from(["", "a", "1s", "/", "{x}", "true", "json", "*"]),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_KEYS, inner, max_size=4)),
    max_leaves=12,
)


def _flow(tree: object) -> str:
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{key}: {_flow(value)}" for key, value in tree.items()) + "}"
    return "[" + ", ".join(map(_flow, tree)) + "]" if isinstance(tree, list) else f"'{tree}'"


@given(st.dictionaries(_KEYS, _TREES, max_size=6))
def test_no_tree_is_a_traceback(tmp_path_factory: pytest.TempPathFactory, tree: dict[str, object]) -> None:
    context = tmp_path_factory.getbasetemp() / "any"
    context.mkdir(exist_ok=True)
    (context / "context.yaml").write_text(_flow(tree))
    manifest, findings = read_context(context, env={})
    assert (manifest is None) == any(f.severity == "error" for f in findings)
    assert all(f.message and f.line and f.column for f in findings)
    assert findings == sorted(replace(f) for f in findings)
