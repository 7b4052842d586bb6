import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.model import Forward, Ref
from bff.rules import keys
from tests.build import fragment, int_param, text_param

word = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), word), st.dictionaries(st.sampled_from(["a", "b", "c"]), word))
def test_keys_are_equal_only_for_equal_parameters(one: dict[str, str], other: dict[str, str]) -> None:
    first = keys.base("x/y", {name: (text,) for name, text in one.items()})
    second = keys.base("x/y", {name: (text,) for name, text in other.items()})
    assert (first == second) == (one == other)


def test_a_primary_has_entries_of_its_own() -> None:
    assert keys.base("x/y", {}) != keys.base("x/y", {}, primary=True)


def test_defaults_fill_in_and_required_ones_are_missed() -> None:
    params = {"a": text_param("a"), "b": int_param("b", required=False, default=("1",))}
    assert keys.values(params, {"a": ["x"]}) == {"a": ("x",), "b": ("1",)}
    assert keys.values(params, {}) is None
    assert keys.values(params, {"a": ["x"], "b": ["no"]}) is None
    assert keys.values(params, {"a": ["x", "y"]}) is None
    assert keys.values(params, {"a": []}) is None


def test_many_values_up_to_their_cap() -> None:
    params = {"a": text_param("a", many=True, max=2, required=False)}
    assert keys.values(params, {"a": ["x", "y"]}) == {"a": ("x", "y")}
    assert keys.values(params, {"a": ["x", "y", "z"]}) is None
    assert keys.values(params, {}) == {"a": ()}


def test_a_value_stays_one_segment() -> None:
    made = fragment(params={"n": text_param("n")})
    assert keys.target(made, {"n": ("course-v1:edX+DemoX/2026",)}) == "/card/course-v1%3AedX%2BDemoX%2F2026"


@pytest.mark.parametrize("text", ["..", ".", ""])
def test_a_value_never_leaves_its_place(text: str) -> None:
    assert keys.target(fragment(params={"n": text_param("n")}), {"n": (text,)}) is None


def test_queries_repeat_many_values() -> None:
    made = fragment(
        path=("/x",),
        params={"n": text_param("n", many=True)},
        query=(("q", ("", Ref("param", "n"), "")), ("lit", ("a b",)), ("mix", ("p-", Ref("param", "n"), ""))),
    )
    assert keys.target(made, {"n": ("1", "2")}) == "/x?q=1&q=2&lit=a%20b&mix=p-1%2C2"


def test_nothing_of_the_request_is_sent_unless_registered() -> None:
    variant = keys.variant(fragment(), {"cookie": "a=1", "x-a": "1"}, {"a": "1"}, "ada", "en")
    assert variant == keys.NO_VARIANT


def test_forwarded_headers_are_keyed() -> None:
    made = fragment(forward=Forward(headers=("x-a", "accept-language")))
    variant = keys.variant(made, {"x-a": "1", "accept-language": "fr;q=0.3"}, {}, None, "fr")
    assert variant.lines == b"x-a: 1\r\naccept-language: fr\r\n"
    assert variant.key == "#x-a:1&accept-language:fr"
    assert variant.shareable


def test_the_principal_stands_for_the_credentials() -> None:
    made = fragment(forward=Forward(headers=("authorization",), cookies=("s", "t"), principal="x-user"))
    one = keys.variant(made, {"authorization": "Bearer 1"}, {"s": "1", "t": "2", "u": "3"}, "ada", "en")
    other = keys.variant(made, {"authorization": "Bearer 2"}, {"s": "9"}, "ada", "en")
    assert one.lines == b"authorization: Bearer 1\r\ncookie: s=1; t=2\r\nx-user: ada\r\n"
    assert one.key == other.key == "#principal:ada"
    assert keys.variant(made, {}, {}, "bob", "en").key != one.key


def test_answers_to_nobody_verified_are_nobodys_to_share() -> None:
    made = fragment(forward=Forward(cookies=("s",)))
    assert not keys.variant(made, {}, {"s": "1"}, None, "en").shareable


def test_a_principal_cannot_break_out_of_its_header() -> None:
    made = fragment(forward=Forward(principal="x-user"))
    assert keys.variant(made, {}, {}, "a\r\nx-evil: 1", "en").lines == b"x-user: a%0D%0Ax-evil%3A 1\r\n"


NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,5}", fullmatch=True)


@given(
    st.dictionaries(NAMES, st.lists(st.text(max_size=5), max_size=3), max_size=3), st.booleans(), st.text(max_size=8)
)
def test_a_key_says_what_was_asked(given_: dict[str, list[str]], primary: bool, language: str) -> None:
    key = keys.base("shop/card", {name: tuple(values) for name, values in given_.items()}, primary=primary)
    made = fragment(forward=Forward(headers=("x-l",)))
    sent = keys.variant(
        made, {"x-l": language} if language.isascii() and language.isprintable() else {}, {}, None, "en"
    )
    found = keys.recalled(key + sent.key)
    assert found is not None
    assert (found.fragment, found.primary) == ("shop/card", primary)
    assert found.given == {name: values for name, values in given_.items() if values}
    assert found.variant == sent


def test_a_key_of_somebodys_own_is_not_recalled() -> None:
    assert keys.recalled("shop/card?#principal:ada") is None
