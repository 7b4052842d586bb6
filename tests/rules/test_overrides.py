import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.rules import overrides
from bff.rules.overrides import Kind, Override
from bff.rules.policy import NOTHING


def override(target: str = "shop/card", **more: object) -> Override:
    given = {"kind": "fragment", "values": {"state": "off"}, "until": 10.0, "reason": "r", "by": "b", "made": 1.0}
    return Override(target=target, **(given | more))  # type: ignore[arg-type] # the fields of one


def test_it_holds_until_its_time() -> None:
    assert overrides.holding([override()], 9.9) == [override()]
    assert overrides.holding([override()], 10.0) == []


def test_layers_by_target_and_kind() -> None:
    made = overrides.layers(
        [
            override(),
            override("shop", kind="context", values={"timeout.total": "2s"}),
            override("shop/home", kind="page", values={"deadline": "800ms"}),
        ]
    )
    assert made.fragments == {"shop/card": {"state": "off"}}
    assert made.contexts == {"shop": {"timeout.total": 2.0}}
    assert made.deadlines == {"shop/home": 0.8}


@pytest.mark.parametrize(("text", "why"), [("50ms", "is not between"), ("2m", "is not between"), ("fast", "duration")])
def test_a_pages_deadline_is_within_reason(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        overrides.parse("page", {"deadline": text}, NOTHING)


def test_a_ceiling_is_a_bound_not_a_limit() -> None:
    assert overrides.parse("fragment", {"timeout.total": "10s"}, {"timeout.total": 10.0}) == {"timeout.total": 10.0}


@pytest.mark.parametrize("text", ["0s", "31d"])
def test_it_lasts_for_a_while(text: str) -> None:
    with pytest.raises(ValueError, match=r"bff\.yaml"):
        overrides.lasting(text)
    assert overrides.lasting("30d") == overrides.LONGEST


TEXT = st.text(max_size=20)


@given(
    st.lists(
        st.builds(
            Override,
            target=TEXT,
            kind=st.sampled_from(["context", "fragment", "page"]),
            values=st.dictionaries(TEXT, TEXT, max_size=3),
            until=st.floats(0, 1e10),
            reason=TEXT,
            by=TEXT,
            made=st.floats(0, 1e10),
        ),
        max_size=4,
    )
)
def test_what_is_written_is_read(made: list[Override]) -> None:
    assert overrides.read(overrides.written(made)) == made
    overrides.layers(made)


@given(st.binary(max_size=60))
def test_reading_never_raises(data: bytes) -> None:
    overrides.read(data)
    assert overrides.read(None) == []


@pytest.mark.parametrize("kind", ["context", "fragment"])
@pytest.mark.parametrize("level", ["checked", "sanitized", "sandboxed"])
def test_trust_is_overridden_beside_the_policy(kind: Kind, level: str) -> None:
    assert overrides.parse(kind, {"trust": level, "state": "on"}, NOTHING) == {"trust": level, "state": "on"}
    made = overrides.layers([override(kind=kind, values={"trust": level})])
    assert made.trust == {"shop/card": level}
    assert (made.contexts, made.fragments) == ({}, {})


def test_trust_is_one_of_three_levels_and_within_what_is_allowed() -> None:
    with pytest.raises(ValueError, match="checked, sanitized, sandboxed"):
        overrides.parse("fragment", {"trust": "blind"}, NOTHING)
    with pytest.raises(ValueError, match="a page has no key trust"):
        overrides.parse("page", {"trust": "sanitized"}, NOTHING)
    with pytest.raises(ValueError, match=r"`allow` in bff\.yaml"):
        overrides.parse("fragment", {"trust": "checked"}, NOTHING, trusted=lambda level: level == "sandboxed")
    assert overrides.layers([override(values={"trust": "of-tomorrow"})]).trust == {}
