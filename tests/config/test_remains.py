"""`bff.config.remains`: what is left of a tree without its mistakes, and what stands in for them."""

from __future__ import annotations

from typing import Any

import pytest

from bff.config.options import Settings
from bff.config.remains import remains, untold
from bff.config.spec import Spec
from bff.errors import Finding

BASE: dict[str, Any] = {"owner": "a", "upstream": "http://x"}


def left(**more: Any) -> Spec:
    spec = remains(Spec, BASE | more)
    assert spec is not None
    return spec


def test_what_is_right_stays_as_it_is() -> None:
    tree = BASE | {"fragments": {"a": {"path": "/a"}}}
    assert remains(Spec, tree) == Spec.model_validate(tree)


def test_a_mistake_takes_nothing_else_with_it_and_the_tree_stays() -> None:
    tree = BASE | {
        "ownr": "b",
        "policy": {"timeout": {"total": "1", "first_byte": "1s"}},
        "csp": {"img-src": {"a": "b"}},
    }
    spec = remains(Spec, tree)
    assert spec is not None
    assert spec.policy == {"timeout.first_byte": 1.0}
    assert spec.csp == {}
    assert tree["ownr"] == "b"


def test_what_is_missing_or_none_of_its_kind_is_stood_in_for() -> None:
    spec = remains(Spec, {"upstream": ["x"], "source": {}, "fragments": {"a": {}, "b": [], "c": {"path": []}}})
    assert spec is not None
    assert (spec.owner, spec.upstream, spec.source) == ("-", "http://localhost", "json")
    assert {name: each.path for name, each in spec.fragments.items()} == {
        "a": "", "b": "/-", "c": "/-/fragments/c",
    }  # fmt: skip


def test_two_pages_without_a_path_are_not_on_one_route() -> None:
    spec = left(pages={"a": {}, "b": {"template": "b.html"}}, proxy=[{"to": "/x"}, {}], events=[{}])
    assert len({*(each.path for each in spec.pages.values()), *(each.path for each in spec.proxy)}) == 4
    assert (spec.pages["a"].template, spec.events[0].type, spec.events[0].tags) == ("", "-", ())


def test_a_broken_parameter_is_declared_all_the_same_and_never_missed() -> None:
    params: dict[str, Any] = {"a": {"type": "nope", "many": "yes"}, "b": [], "C": {}, "d": {"type": "int"}}
    spec = left(
        fragments={"f": {"path": "/f", "params": params}},
        pages={"p": {"path": "/", "template": "", "query": {"q": {"max": "x"}}}},
    )
    made = spec.fragments["f"].params
    assert ([*made], made["a"].default, made["d"].type) == (["a", "b", "d"], ("",), "int")
    assert spec.pages["p"].query["q"].default == ("",)


def test_a_list_with_a_bad_item_goes_as_a_whole() -> None:
    spec = left(
        forward={"headers": ["a", "b c"], "cookies": ["d"]}, proxy=[{"path": "/p", "to": "/p", "methods": ["GET", {}]}]
    )
    assert (spec.forward.headers, spec.forward.cookies) == ((), ("d",))
    assert spec.proxy[0].methods == ("GET", "HEAD", "OPTIONS")


def test_sections_go_that_lack_what_they_need() -> None:
    tree = {
        "identity": {"jwt": {"issuer": "a"}},
        "admin": {"tokens": {"a": {"token": "abcdefgh"}}},
        "workers": "2",
        "listen": "x",
    }
    settings = remains(Settings, tree)
    assert settings is not None
    assert (settings.identity.jwt, settings.admin.tokens, settings.workers) == (None, {}, 2)
    assert settings.listen == "127.0.0.1:8000"


@pytest.mark.parametrize("tree", ["text", [], ["a"]])
def test_of_what_is_no_mapping_nothing_is_left(tree: Any) -> None:
    assert remains(Spec, tree) is None


def test_one_mistake_is_told_once() -> None:
    def at(line: int, code: str) -> Finding:
        return Finding(file="f", line=line, column=1, code=code, message="m", remedy="r")

    more = [at(1, "b"), at(2, "b"), at(1, "missing-key")]
    assert untold(more, [at(1, "a")]) == more[1:]
