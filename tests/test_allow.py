"""What the operator lets a context claim."""

from __future__ import annotations

from pathlib import Path

import pytest

from bff.allow import refused
from bff.config.manifest import read_context
from bff.config.options import Allowed, Settings
from bff.errors import Finding
from bff.registry import Registry
from tests.folders import SHELL, context, shop

CLAIMS = """\
forward: {headers: [x-flag], cookies: [session]}
grant: {cookies: [basket], redirects: ["https://pay.example"]}
csp: {img-src: ["https://img.example"]}
fragments:
  lines:
    path: /lines
    trust: sanitized
pages:
  cart:
    path: /cart/{id}
    template: pages/cart.html
proxy:
  - path: /shop/api/{rest:path}
    to: /api/{rest}
    forward: {headers: [x-proxied], cookies: [token]}
  - path: /shop/plain
    to: /plain
"""


def judged(root: Path, allowed: Allowed | None) -> list[Finding]:
    manifest, _ = read_context(context(root, "shop", CLAIMS, {"pages/cart.html": SHELL.format("")}), env={})
    assert manifest is not None
    return list(refused(manifest, allowed))


def test_who_is_not_named_may_claim_anything(tmp_path: Path) -> None:
    assert judged(tmp_path, None) == []
    assert judged(tmp_path, Allowed()) == []


@pytest.mark.parametrize(
    ("kind", "claimed"),
    [
        ("routes", ["/shop/api/{rest:path}", "/shop/plain", "/cart/{id}"]),
        ("cookies", ["session", "token", "basket"]),
        ("headers", ["x-flag", "x-proxied"]),
        ("redirects", ["https://pay.example"]),
        ("csp", ["https://img.example"]),
        ("trust", ["sanitized"]),
    ],
)
def test_each_kind_is_held_to_its_list(tmp_path: Path, kind: str, claimed: list[str]) -> None:
    found = judged(tmp_path, Allowed.model_validate({kind: []}))
    assert [finding.message for finding in found] == [f"shop may not claim {text!r}" for text in claimed]
    assert {finding.remedy for finding in found} == {f"the operator allows it {kind}: none"}
    assert judged(tmp_path, Allowed.model_validate({kind: claimed})) == []


def test_upstreams_are_held_to_their_list(tmp_path: Path) -> None:
    assert [each.line for each in judged(tmp_path, Allowed(upstreams=("http://10.0.0.1",)))] == [2]
    assert judged(tmp_path, Allowed(upstreams=("http://127.0.0.1:*",))) == []


def test_a_star_is_any_text_and_nothing_else_is_special(tmp_path: Path) -> None:
    assert judged(tmp_path, Allowed(routes=("/shop/*", "/cart/*"))) == []
    assert len(judged(tmp_path, Allowed(routes=("/shop/*", "/car./*")))) == 1


def test_a_context_that_claims_too_much_is_left_out(tmp_path: Path) -> None:
    shop(tmp_path)
    settings = Settings.model_validate({"fragments": tmp_path, "allow": {"shop": {"routes": ["/shop/*"]}}})
    world = Registry(settings, {}).load()
    assert world.loaded == {"shop": False}
    assert [(each.code, each.line) for each in world.findings] == [("not-allowed", 8)]
