"""Proxy routes from a registration to the world: compiled, linked with pages, held by one, left out alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from bff.config.options import Settings
from bff.model import Ref
from bff.registry import Registry, World
from tests.folders import SHELL, context

ROUTE = """\
forward: {headers: [x-flag], principal: x-user}
grant: {cookies: [csrftoken]}
policy: {timeout: {total: 2s}}
proxy:
  - path: /%s/api/{rest:path}
    to: /api/{rest}
    forward: {headers: "*", cookies: [session]}
    methods: "*"
    cross_site: true
    policy: {cache: {mode: fixed, fresh: 1m}}
  - path: /%s/status
    to: /healthz
"""
PAGE = "pages: {p: {path: '%s', template: pages/p.html}}\n"
FILES = {"pages/p.html": SHELL.format("x")}


def loaded(root: Path, **settings: object) -> World:
    return Registry(Settings.model_validate({"fragments": root, **settings}), {}).load()


def codes(world: World) -> list[str]:
    return [finding.code for finding in world.findings if finding.severity != "note"]


def test_a_route_is_compiled_with_what_stands_for_it(tmp_path: Path) -> None:
    context(tmp_path, "shop", ROUTE % ("shop", "shop"))
    world = loaded(tmp_path)
    assert codes(world) == []
    api, status = world.routes.values()
    assert api.name == "shop/proxy:/shop/api/{rest:path}"
    assert (api.route, api.to) == ("/shop/api/{rest:path}", ("/api/", Ref("param", "rest"), ""))
    assert (api.methods, api.cross_site) == (frozenset({"*"}), True)
    assert (status.methods, status.cross_site) == (frozenset({"GET", "HEAD", "OPTIONS"}), False)
    made = api.fragment
    assert (made.name, made.owner, api.owner, api.context) == ("shop/proxy", "team-shop", "team-shop", "shop")
    assert made.forward.headers == ("*",)
    assert made.forward.cookies == ("session",)
    assert made.forward.principal == ""
    assert made.private
    assert status.fragment.forward.principal == "x-user"
    assert (made.policy.timeout.total, made.policy.cache.mode, made.policy.cache.fresh) == (2.0, "fixed", 60.0)
    assert status.fragment.policy.cache.mode == "http"
    assert made.grant.cookies == ("csrftoken",)
    assert [back.route for back in made.grant.back] == ["/shop/status", "/shop/api/{rest:path}"]
    assert made.version != status.fragment.version
    assert world.contexts["shop"].routes == dict(world.routes)


def test_any_method_that_has_a_name_may_be_let_through(tmp_path: Path) -> None:
    context(
        tmp_path,
        "shop",
        "proxy: [{path: '/dav/{rest:path}', to: '/{rest}', methods: [GET, M-SEARCH, VERSION-CONTROL]}]\n",
    )
    world = loaded(tmp_path)
    (dav,) = world.routes.values()
    assert sorted(dav.methods) == ["GET", "M-SEARCH", "VERSION-CONTROL"]
    assert codes(world) == []


@pytest.mark.parametrize(
    ("written", "part"),
    [
        ("path: /a/{x}\n    to: /b/{y}", "{y}"),
        ("path: a\n    to: /b", "does not begin with a slash"),
        ("path: /a\n    to: /b\n    methods: [TRACE]", "not a method that is let through"),
        ("path: /a\n    to: /b\n    forward: {headers: [x-forwarded-for]}", "the gateway's own"),
    ],
)
def test_what_is_wrong_with_a_route_is_said(tmp_path: Path, written: str, part: str) -> None:
    context(tmp_path, "shop", f"proxy:\n  - {written}\n")
    (finding,) = loaded(tmp_path).findings
    assert finding.severity == "error"
    assert part in f"{finding.message}; {finding.remedy}"


def test_a_context_claims_a_route_once(tmp_path: Path) -> None:
    context(tmp_path, "shop", PAGE % "/shop/{a}" + "proxy: [{path: '/shop/{b}', to: /x}]\n", FILES)
    (finding,) = loaded(tmp_path).findings
    assert (finding.code, finding.line) == ("duplicate-route", 4)
    assert "the page p is on this route" in finding.message


def test_a_page_and_a_proxy_of_two_contexts_on_one_route(tmp_path: Path) -> None:
    context(tmp_path, "alpha", "proxy: [{path: '/x/{b}', to: /x}]\n")
    context(tmp_path, "beta", PAGE % "/x/{a}" + "proxy: [{path: /y, to: /y}]\n", FILES)
    registry = Registry(Settings.model_validate({"fragments": tmp_path}), {})
    world = registry.load()
    assert codes(world) == ["route-taken"]
    assert ([*world.routes], [*world.pages]) == (["alpha/proxy:/x/{b}", "beta/proxy:/y"], [])
    context(tmp_path, "aardvark", "proxy: [{path: '/x/{c}', to: /x}]\n")
    world = registry.load()
    assert [*world.routes] == ["alpha/proxy:/x/{b}", "beta/proxy:/y"], "who holds a route keeps it"
    assert [*world.contexts["aardvark"].routes] == []


def test_an_operator_decides_who_may_claim_a_route(tmp_path: Path) -> None:
    context(tmp_path, "shop", "proxy: [{path: /admin/x, to: /x}]\n")
    assert codes(loaded(tmp_path, allow={"shop": {"routes": ["/shop/*"]}})) == ["not-allowed"]


def test_a_value_over_a_ceiling_is_told_where_it_stands(tmp_path: Path) -> None:
    context(tmp_path, "shop", "proxy:\n  - path: /x\n    to: /x\n    policy: {timeout: {total: 1m}}\n")
    (finding,) = loaded(tmp_path).findings
    assert (finding.code, finding.line) == ("over-ceiling", 6)
