"""`bff.rules.policy`: every default is what the contract says, text and values agree, and layers merge by the rules."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.rules import policy
from bff.rules.policy import KEYS, Clamp, clamped, flat, merge, parse, show

CONTRACT = {
    "state": "on",
    "timeout.connect": 0.25,
    "timeout.first_byte": 1.0,
    "timeout.total": 1.5,
    "retry.extra": 1,
    "retry.budget": 0.2,
    "hedge.after": None,
    "hedge.budget": 0.05,
    "breaker.window": 10.0,
    "breaker.min_requests": 20,
    "breaker.failures": 0.5,
    "breaker.open": 5.0,
    "breaker.consecutive": 5,
    "concurrency": 64,
    "adaptive": "off",
    "max_body": 1024**2,
    "cache.mode": "http",
    "cache.scope": "shared",
    "cache.fresh": 0.0,
    "cache.stale_while_revalidate": 0.0,
    "cache.stale_if_error": 3600.0,
    "cache.max_stale": 86400.0,
    "cache.negative": 5.0,
    "cache.pull": None,
    "on_error": ("stale", "fallback", "client", "omit"),
    "late": "keep",
}


def test_the_defaults_are_the_contract_s() -> None:
    merged, origins = merge([])
    assert flat(merged) == CONTRACT
    assert origins == dict.fromkeys(CONTRACT, "built-in")


@pytest.mark.parametrize("key", KEYS.values(), ids=lambda k: k.name)
def test_every_key_says_what_it_is_and_why(key: policy.Key) -> None:
    assert key.help.endswith(".")
    assert len(key.why) > 10
    assert bool(key.unit) == (key.kind not in {"count", "word", "steps"})
    assert show(key.name, key.value) == key.default or parse(key.name, show(key.name, key.value)) == key.value


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("timeout.total", "800ms", 0.8),
        ("hedge.after", "off", None),
        ("hedge.after", "p95", "p95"),
        ("hedge.after", "200ms", 0.2),
        ("cache.pull", "off", None),
        ("cache.pull", "5m", 300.0),
        ("retry.extra", "0", 0),
        ("retry.budget", "12.5%", 0.125),
        ("max_body", "64KiB", 65536),
        ("state", "stored", "stored"),
        ("on_error", "fallback,omit", ("fallback", "omit")),
        ("late", "drop", "drop"),
    ],
)
def test_text_becomes_a_value_and_back(key: str, text: str, value: object) -> None:
    assert parse(key, text) == value
    assert parse(key, show(key, value)) == value


@pytest.mark.parametrize(
    ("key", "text", "says"),
    [
        ("timeout.totl", "1s", "did you mean 'timeout.total'"),
        ("zzz", "1s", "known are state, timeout.connect"),
        ("timeout.total", "1", "write a number and a unit"),
        ("timeout.total", "0s", "the least is 1ms"),
        ("concurrency", "0", "the least is 1"),
        ("concurrency", "many", "whole number"),
        ("concurrency", "1_000", "whole number"),
        ("retry.budget", "20", "percentage"),
        ("max_body", "1MB", "KiB"),
        ("state", "true", "on, stored, off"),
        ("on_error", "stale, retry", "not one of stale, fallback, client, omit"),
        ("on_error", "stale, stale", "twice"),
        ("on_error", "omit, stale", "omit last"),
        ("on_error", "", "not one of"),
        ("hedge.after", "p100", "percentile such as p95"),
        ("cache.pull", "p95", "duration"),
    ],
)
def test_bad_text_is_told_with_a_remedy(key: str, text: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        parse(key, text)


def test_later_layers_win_and_origins_say_so() -> None:
    merged, origins = merge(
        [
            ("bff.yaml", {"timeout.total": 1.0, "concurrency": 8}),
            ("context", {"timeout.total": 2.0}),
            ("slot", {"state": "off"}),
        ]
    )
    assert (merged.timeout.total, merged.concurrency, merged.state) == (2.0, 8, "off")
    assert (origins["timeout.total"], origins["concurrency"], origins["state"]) == ("context", "bff.yaml", "slot")
    assert origins["late"] == "built-in"


@pytest.mark.parametrize(
    ("layer", "primary", "private", "seconds"),
    [
        ({}, False, False, 3600.0),
        ({}, True, False, 0.0),
        ({}, False, True, 0.0),
        ({"cache.scope": "private"}, False, False, 0.0),
        ({"cache.stale_if_error": 60.0}, True, True, 60.0),
    ],
)
def test_nothing_private_or_primary_is_old_unless_asked_for(
    layer: Mapping[str, object], primary: bool, private: bool, seconds: float
) -> None:
    merged, _ = merge([("fragment", layer)], primary=primary, private=private)
    assert merged.cache.stale_if_error == seconds


def test_a_ceiling_lowers_and_is_reported() -> None:
    layers = [("fragment", {"timeout.total": 30.0, "concurrency": 10})]
    ceilings = {"timeout.total": 10.0, "concurrency": 1024}
    merged, origins = merge(layers, ceilings=ceilings)
    assert (merged.timeout.total, merged.concurrency) == (10.0, 10)
    assert origins["timeout.total"] == "fragment"
    assert clamped(layers, ceilings=ceilings) == (
        Clamp(key="timeout.total", origin="fragment", value=30.0, ceiling=10.0),
    )


def test_a_built_in_value_is_clamped_too() -> None:
    assert merge([], ceilings={"max_body": 1000})[0].max_body == 1000


# --- properties -------------------------------------------------------------------------------------------------------

_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "duration": st.integers(1, 10_000).map(lambda ms: ms / 1000),
    "pace": st.one_of(st.none(), st.integers(1, 600).map(float)),
    "trigger": st.one_of(st.none(), st.sampled_from(["p50", "p95"]), st.integers(1, 9).map(float)),
    "size": st.integers(1, 2**30),
    "share": st.integers(1, 100).map(lambda percent: percent / 100),
    "count": st.integers(1, 10_000),
    "steps": st.lists(st.sampled_from(["stale", "fallback", "client"]), unique=True, min_size=1).map(tuple),
}


def _value(key: policy.Key) -> st.SearchStrategy[Any]:
    return st.sampled_from(key.words) if key.kind == "word" else _VALUES[key.kind]


def layer() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={name: _value(key) for name, key in KEYS.items()})


ORIGINS = ("bff.yaml", "context", "fragment", "slot", "override")
LAYERS = st.tuples(*(layer() for _ in ORIGINS)).map(lambda layers: list(zip(ORIGINS, layers, strict=True)))
CEILINGS = st.fixed_dictionaries(
    {}, optional={k.name: _value(k) for k in KEYS.values() if k.kind in policy.CLAMPED_KINDS}
)


@given(LAYERS, CEILINGS, st.booleans(), st.booleans())
def test_each_value_is_the_last_layer_s_under_its_ceiling(
    layers: list[policy.Layer], ceilings: dict[str, Any], primary: bool, private: bool
) -> None:
    merged, origins = merge(layers, ceilings=ceilings, primary=primary, private=private)
    lowered = {clamp.key for clamp in clamped(layers, ceilings=ceilings, primary=primary, private=private)}
    for key, value in flat(merged).items():
        setters = [(origin, values[key]) for origin, values in layers if key in values]
        assert origins[key] == (setters[-1][0] if setters else "built-in")
        if key in lowered:
            assert value == ceilings[key]
        elif setters:
            assert value == setters[-1][1]
        elif key != "cache.stale_if_error":
            assert value == CONTRACT[key]
        if key in ceilings:
            assert value is not None
            assert value <= ceilings[key]


@given(LAYERS)
def test_merging_what_was_merged_changes_nothing(layers: list[policy.Layer]) -> None:
    merged, _ = merge(layers)
    assert merge([("override", flat(merged))])[0] == merged


@given(LAYERS)
def test_merging_leaves_its_input_alone(layers: list[policy.Layer]) -> None:
    before = [(origin, dict(values)) for origin, values in layers]
    merge(layers)
    assert layers == before


@given(st.data(), st.sampled_from(sorted(KEYS)))
def test_what_is_shown_can_be_read(data: st.DataObject, name: str) -> None:
    key = KEYS[name]
    value = data.draw(_value(key).filter(lambda v: not isinstance(v, float) or v >= key.least))
    assert parse(name, show(name, value)) == pytest.approx(value)


def test_of_many_names_few_are_compared_closely() -> None:
    """Hundreds of slots may ask for what is gone: what was meant is still found, in a time that hurts nobody."""
    compared = []

    def called(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_name == "real_quick_ratio":
            compared.append(frame)

    known = [f"fragment-{number}" for number in range(1000)]
    before = sys.getprofile()
    sys.setprofile(called)
    try:
        found = [policy.nearest(wrong, known) for wrong in ("frogment-123", "Fragment-456", "zzz")]
    finally:
        sys.setprofile(before)
    assert found == ["fragment-123", "fragment-456", ""]
    assert len(compared) <= 3 * policy.COMPARED
