from collections.abc import Mapping
from dataclasses import replace
from email.utils import formatdate
from typing import Any

import pytest

from bff.errors import TemplateFailed
from bff.model import Forward, Meta, Outcome, Purge, Reason, Result
from bff.page.call import Call
from tests.asker import KEEP, Asker
from tests.build import WALL, World, fragment, slot, text_param


def test_an_answer_is_fresh_then_a_hit() -> None:
    asker = Asker(fragment(layer=KEEP))
    assert asker.ask() is not None
    asker.world.upstreams.to("/card").reply(b"<p>one</p>")
    assert asker.last == (Outcome.FRESH, Reason.OK)
    asker.world.loop.advance(3)
    asker.ask()
    assert asker.last == (Outcome.FRESH, Reason.HIT)
    assert asker.html == b"<p>one</p>"
    assert asker.results[-1].age == 3
    assert len(asker.world.upstreams.flown) == 1
    assert asker.world.seen.cached == ["miss", "hit"]


def test_a_hits_result_is_made_once_a_second() -> None:
    asker = Asker(fragment(layer=KEEP))
    asker.ask()
    asker.world.upstreams.to("/card").reply()
    asker.ask()
    asker.ask()
    assert asker.results[-1] is asker.results[-2]


@pytest.mark.parametrize("step", [0.1, 0.25, 0.9])
def test_a_hit_is_as_old_as_it_is_until_it_is_stale(step: float) -> None:
    asker = Asker(fragment(layer=KEEP))
    asker.ask()
    asker.world.upstreams.to("/card").reply()
    call, born, cache = asker.call(), asker.world.loop.time(), asker.call().policy.cache
    while (passed := asker.world.loop.time() - born) < cache.fresh:
        found = asker.world.resolver.start(call, asker.world.visit(), asker.results.append)
        assert isinstance(found, Result)
        assert (found.outcome, found.reason, found.age) == (Outcome.FRESH, Reason.HIT, int(passed))
        assert cache.fresh - passed - 1e-6 <= found.left <= cache.fresh - int(passed) + 1e-6
        asker.world.loop.advance(step)
    stale = asker.world.resolver.start(call, asker.world.visit(), asker.results.append)
    assert isinstance(stale, Result)
    assert stale.outcome is Outcome.STALE


def test_what_a_moment_ago_was_fresh_is_not_once_it_is_marked_tuned_or_registered_anew() -> None:
    asker = Asker(fragment(layer=KEEP))
    asker.ask()
    asker.world.upstreams.to("/card").reply()
    call, world = asker.call(), asker.world

    def outcome(call: Call) -> Outcome:
        found = world.resolver.start(call, world.visit(), asker.results.append)
        return found.outcome if isinstance(found, Result) else Outcome.PENDING

    assert [outcome(call), outcome(call)] == [Outcome.FRESH, Outcome.FRESH]
    world.loop.advance(0.5)
    tuned = replace(call, policy=replace(call.policy, cache=replace(call.policy.cache, fresh=0.25)))
    assert [outcome(tuned), outcome(call)] == [Outcome.STALE, Outcome.FRESH]
    anew = replace(call, fragment=replace(call.fragment, version="anew"))
    assert [outcome(anew), outcome(call)] == [Outcome.PENDING, Outcome.FRESH]
    off = replace(call, policy=replace(call.policy, state="off"))
    assert [outcome(off), outcome(call)] == [Outcome.OMITTED, Outcome.FRESH]
    world.store.purge(Purge(kind="all", soft=True), world.loop.time())
    assert outcome(call) is Outcome.STALE


def test_a_kept_404_is_each_askers_own() -> None:
    asker = Asker(fragment(layer=KEEP), primary=True)
    asker.ask()
    asker.world.upstreams.to("/card").reply(b"<p>none</p>", 404)
    call, world = asker.call(), asker.world
    for primary, outcome in ((True, Outcome.FRESH), (False, Outcome.OMITTED), (True, Outcome.FRESH)):
        found = world.resolver.start(replace(call, primary=primary), world.visit(), asker.results.append)
        assert isinstance(found, Result)
        assert found.outcome is outcome


def test_stale_while_revalidate_serves_at_once_and_refreshes_once() -> None:
    asker = Asker(fragment(layer=KEEP))
    asker.ask()
    asker.world.upstreams.to("/card").reply(b"<p>one</p>")
    asker.world.loop.advance(12)
    asker.ask()
    asker.ask()
    assert asker.last == (Outcome.STALE, Reason.HIT)
    assert asker.results[-1].age == 12
    asker.world.upstreams.to("/card").reply(b"<p>two</p>")
    asker.ask()
    assert asker.html == b"<p>two</p>"


def test_a_failed_refresh_is_held_down() -> None:
    asker = Asker(fragment(layer=KEEP))
    asker.ask()
    asker.world.upstreams.to("/card").reply()
    asker.world.loop.advance(11)
    asker.ask()
    asker.world.upstreams.to("/card").fail()
    asker.ask()
    assert len(asker.world.upstreams.flown) == 2
    asker.world.loop.advance(1.1)
    asker.ask()
    assert len(asker.world.upstreams.flown) == 3


@pytest.mark.parametrize("status", [500, 503, 429, 418, 302])
def test_an_error_shows_the_stale_copy_and_never_replaces_it(status: int) -> None:
    asker = Asker(fragment(layer=KEEP))
    asker.ask()
    asker.world.upstreams.to("/card").reply(b"<p>good</p>")
    asker.world.loop.advance(20)
    asker.ask()
    asker.world.upstreams.to("/card").reply(b"<p>bad</p>", status)
    assert asker.last == (Outcome.STALE, Reason.STATUS)
    assert asker.html == b"<p>good</p>"
    asker.ask()
    asker.world.upstreams.to("/card").fail(Reason.TORN, "reset")
    assert asker.last == (Outcome.STALE, Reason.TORN)


def test_beyond_its_window_a_copy_is_not_shown() -> None:
    asker = Asker(fragment(layer=KEEP))
    asker.ask()
    asker.world.upstreams.to("/card").reply()
    asker.world.loop.advance(31)
    asker.ask()
    asker.world.upstreams.to("/card").fail()
    assert asker.last == (Outcome.OMITTED, Reason.CONNECT)


def test_the_fallback_stands_in_where_nothing_is_kept() -> None:
    asker = Asker(fragment(fallback_html=b"<p>sorry</p>", fallback_json=b"{}"))
    asker.ask()
    asker.world.upstreams.to("/card").reply(status=500)
    assert asker.last == (Outcome.FALLBACK, Reason.STATUS)
    assert asker.html == b"<p>sorry</p>"
    assert asker.results[-1].data == b"{}"
    assert asker.results[-1].status == 500


@pytest.mark.parametrize(
    ("template", "html"), [("<b>{0[a]} {1[n]}</b>", b"<b>x 1</b>"), ("{0[missing]}", b""), ("", b"")]
)
def test_a_template_makes_markup_of_a_fallback_that_is_json_alone(template: str, html: bytes) -> None:
    def render(data: Any, params: Mapping[str, Any], meta: Meta, within: float) -> str:
        try:
            return template.format(data, params)
        except KeyError as error:
            raise TemplateFailed(str(error)) from None

    params = {"n": text_param("n", required=False, default=("1",))}
    made = fragment(fallback_json=b'{"a": "x"}', params=params, source="json", template=render if template else None)
    asker = Asker(made)
    asker.ask()
    asker.world.upstreams.to("/card/1").fail()
    assert asker.last == (Outcome.FALLBACK, Reason.CONNECT)
    assert asker.results[-1].data == b'{"a": "x"}'
    markup = asker.results[-1].markup
    assert (markup.flat if markup else b"") == html


def test_a_broken_fallback_is_repaired() -> None:
    asker = Asker(fragment(fallback_html=b"<p>sorry"))
    asker.ask()
    asker.world.upstreams.to("/card").fail()
    assert asker.html == b"<p>sorry</p>"


def test_not_found_is_an_answer_that_hides_behind_no_stale_copy() -> None:
    asker = Asker(fragment(layer=KEEP))
    asker.ask()
    asker.world.upstreams.to("/card").reply(b"<p>good</p>")
    asker.world.loop.advance(20)
    asker.ask()
    asker.world.upstreams.to("/card").reply(status=404)
    assert asker.last == (Outcome.OMITTED, Reason.NOT_FOUND)
    asker.ask()
    assert asker.last == (Outcome.OMITTED, Reason.NOT_FOUND)
    assert asker.results[-1].status == 404
    assert len(asker.world.upstreams.flown) == 2
    asker.world.loop.advance(5.1)
    assert asker.ask() is not None


@pytest.mark.parametrize("status", [401, 403])
def test_refusals_are_neither_kept_nor_hidden(status: int) -> None:
    asker = Asker(fragment(layer=KEEP))
    asker.ask()
    asker.world.upstreams.to("/card").reply(b"<p>good</p>")
    asker.world.loop.advance(20)
    asker.ask()
    asker.world.upstreams.to("/card").reply(status=status)
    assert asker.last == (Outcome.OMITTED, Reason.AUTH)
    assert asker.ask() is not None


def test_no_content_is_fresh_and_empty() -> None:
    asker = Asker(fragment())
    asker.ask()
    asker.world.upstreams.to("/card").reply(b"", 204)
    assert asker.last == (Outcome.FRESH, Reason.OK)
    assert asker.html == b""


def test_the_wrong_type_is_refused() -> None:
    asker = Asker(fragment())
    asker.ask()
    asker.world.upstreams.to("/card").reply(b"{}", kind=b"application/json")
    assert asker.last == (Outcome.OMITTED, Reason.REFUSED)
    assert "application/json" in asker.results[-1].detail


def test_hostile_markup_is_repaired_before_anybody_sees_it() -> None:
    asker = Asker(fragment())
    asker.ask()
    asker.world.upstreams.to("/card").reply(b"<div><!-- unclosed")
    assert asker.html == b"<div><!-- unclosed--></div>"


# --- sharing ----------------------------------------------------------------------------------------------------------


def test_identical_calls_share_one_exchange() -> None:
    asker = Asker(fragment(layer=KEEP))
    for _ in range(5):
        asker.ask()
    asker.world.upstreams.to("/card").reply()
    assert [result.outcome for result in asker.results] == [Outcome.FRESH] * 5
    assert asker.world.seen.joined == 4
    assert asker.world.seen.inflight.total() == 0
    assert [result.cache for result in asker.results] == [
        "fwd=uri-miss; stored",
        *["fwd=uri-miss; collapsed"] * 4,
    ]


def test_a_fetch_is_joined_by_whom_its_answer_is_read_for() -> None:
    asker = Asker(fragment(layer=KEEP))
    asker.ask()
    asker.fragment = replace(asker.fragment, version="sanitized:1", trust="sanitized")
    asker.ask()
    asker.ask()
    first, second = asker.world.upstreams.open
    first.reply(b'<p id="mine">one</p>')
    assert asker.html == b'<p id="mine">one</p>', "it asked before"
    second.reply(b"<p>two</p>")
    assert asker.html == b"<p>two</p>"
    assert len(asker.results) == 3
    asker.ask()
    assert asker.html == b"<p>two</p>"
    assert not asker.world.upstreams.open


def test_a_fetch_that_nobody_joins_any_more_ends_with_the_gateway() -> None:
    asker = Asker(fragment(layer=KEEP))
    asker.ask()
    asker.fragment = replace(asker.fragment, version="2")
    asker.ask()
    first, second = asker.world.upstreams.open
    asker.world.resolver.close()
    assert first.cancelled
    assert second.cancelled


def test_different_parameters_do_not() -> None:
    made = fragment(params={"n": text_param("n")}, layer=KEEP)
    asker = Asker(made)
    asker.ask(n="1")
    asker.ask(n="2")
    assert len(asker.world.upstreams.open) == 2


def test_an_answer_that_may_not_be_shared_goes_to_the_first_and_the_others_ask_for_themselves() -> None:
    asker = Asker(fragment(layer=KEEP))
    for _ in range(3):
        asker.ask()
    asker.world.upstreams.to("/card").reply(b"<p>1</p>", set_cookie="a=1")
    assert len(asker.results) == 1
    assert len(asker.world.upstreams.open) == 2
    asker.world.upstreams.open[0].reply(b"<p>2</p>", cache_control="no-store")
    asker.world.upstreams.open[0].reply(b"<p>3</p>", cache_control="no-store")
    assert {r.markup.flat for r in asker.results if r.markup} == {b"<p>1</p>", b"<p>2</p>", b"<p>3</p>"}
    assert asker.world.store.entries == 0


def test_a_key_known_to_be_unshareable_is_not_queued_for() -> None:
    asker = Asker(fragment(layer=KEEP))
    asker.ask()
    asker.world.upstreams.to("/card").reply(cache_control="no-store")
    asker.ask()
    asker.ask()
    assert len(asker.world.upstreams.open) == 2
    asker.world.loop.advance(11)
    asker.ask()
    asker.ask()
    assert len(asker.world.upstreams.open) == 3


def test_two_principals_share_nothing() -> None:
    asker = Asker(fragment(layer=KEEP, forward=Forward(principal="x-user")))
    asker.ask("ada")
    asker.ask("bob")
    ada, bob = asker.world.upstreams.open
    assert (ada.headers["x-user"], bob.headers["x-user"]) == ("ada", "bob")
    ada.reply(b"<p>ada</p>")
    bob.reply(b"<p>bob</p>")
    asker.ask("ada")
    assert asker.html == b"<p>ada</p>"
    asker.ask("bob")
    assert asker.html == b"<p>bob</p>"


def test_nobodys_private_answer_is_neither_kept_nor_shared() -> None:
    asker = Asker(fragment(layer=KEEP, forward=Forward(cookies=("s",))))
    asker.ask()
    asker.ask()
    assert len(asker.world.upstreams.open) == 2
    for each in asker.world.upstreams.open:
        each.reply()
    assert asker.world.store.entries == 0
    assert "bypass" in asker.world.seen.cached


def test_nothing_is_kept_where_the_cache_is_off() -> None:
    asker = Asker(fragment(layer={"cache.mode": "off", "cache.fresh": "10s"}))
    asker.ask()
    asker.ask()
    for each in asker.world.upstreams.open:
        each.reply(cache_control="max-age=60")
    assert asker.world.store.entries == 0


def test_a_new_version_of_the_registration_misses_but_may_fall_back_on_the_old_copy() -> None:
    world = World()
    old = Asker(fragment(layer=KEEP), world)
    old.ask()
    world.upstreams.to("/card").reply(b"<p>old</p>")
    new = Asker(fragment(layer=KEEP), world)
    object.__setattr__(new.fragment, "version", "2")
    new.ask()
    world.upstreams.to("/card").fail()
    assert new.last == (Outcome.STALE, Reason.CONNECT)
    assert new.html == b"<p>old</p>"


# --- time -------------------------------------------------------------------------------------------------------------


def test_a_slot_whose_time_is_over_takes_what_there_is_and_the_late_answer_is_kept() -> None:
    asker = Asker(fragment(layer=KEEP))
    wait = asker.ask()
    assert wait is not None
    asker.world.loop.advance(1)
    wait.expire()
    wait.expire()
    assert asker.last == (Outcome.PENDING, Reason.TIMEOUT)
    assert len(asker.results) == 1
    asker.world.upstreams.to("/card").reply(b"<p>late</p>")
    asker.ask()
    assert asker.last == (Outcome.FRESH, Reason.HIT)


def test_late_drop_ends_the_exchange_with_its_last_waiter() -> None:
    asker = Asker(fragment(layer=KEEP | {"late": "drop"}))
    first, second = asker.ask(), asker.ask()
    assert first is not None
    assert second is not None
    first.expire()
    assert not asker.world.upstreams.flown[0].cancelled
    second.expire()
    assert asker.world.upstreams.flown[0].cancelled
    assert asker.world.seen.inflight.total() == 0
    assert asker.ask() is not None


def test_when_the_browser_goes_useless_exchanges_end_and_useful_ones_go_on() -> None:
    off = Asker(fragment(layer={"cache.mode": "off"}))
    wait = off.ask()
    assert wait is not None
    wait.leave()
    wait.leave()
    assert off.world.upstreams.flown[0].cancelled
    assert off.results == []
    kept = Asker(fragment(layer=KEEP))
    wait = kept.ask()
    assert wait is not None
    wait.leave()
    kept.world.upstreams.to("/card").reply()
    kept.ask()
    assert kept.last == (Outcome.FRESH, Reason.HIT)


def test_who_joins_a_longer_flight_still_keeps_to_its_own_timeout() -> None:
    world = World()
    patient = Asker(fragment(layer=KEEP | {"timeout.total": "1500ms"}), world)
    hasty = Asker(fragment(layer=KEEP | {"timeout.total": "300ms"}), world)
    patient.ask()
    hasty.ask()
    world.loop.advance(0.35)
    assert hasty.last[1] is Reason.TIMEOUT
    assert patient.results == []
    world.upstreams.to("/card").reply()
    assert patient.last == (Outcome.FRESH, Reason.OK)
    assert len(hasty.results) == 1


def test_who_joins_and_is_answered_has_no_alarm_left() -> None:
    world = World()
    patient = Asker(fragment(layer=KEEP), world)
    hasty = Asker(fragment(layer=KEEP | {"timeout.total": "300ms"}), world)
    patient.ask()
    hasty.ask()
    world.upstreams.to("/card").reply()
    world.loop.advance(1)
    assert len(hasty.results) == 1


# --- conditions -------------------------------------------------------------------------------------------------------


def test_a_stale_copy_is_revalidated() -> None:
    asker = Asker(fragment(layer=KEEP))
    asker.ask()
    asker.world.upstreams.to("/card").reply(b"<p>one</p>", etag='"a"', last_modified=formatdate(WALL, usegmt=True))
    asker.world.loop.advance(16)
    asker.ask()
    flown = asker.world.upstreams.to("/card")
    assert flown.headers["if-none-match"] == '"a"'
    assert flown.headers["if-modified-since"] == formatdate(WALL, usegmt=True)
    flown.reply(b"", 304)
    assert asker.last == (Outcome.FRESH, Reason.REVALIDATED)
    assert asker.html == b"<p>one</p>"
    asker.world.loop.advance(5)
    asker.ask()
    assert asker.last == (Outcome.FRESH, Reason.HIT)
    assert asker.results[-1].etag == '"a"'


def test_no_cache_with_a_validator_is_kept_and_always_asked() -> None:
    asker = Asker(fragment())
    asker.ask()
    asker.world.upstreams.to("/card").reply(b"<p>one</p>", etag='"a"', cache_control="no-cache")
    asker.ask()
    asker.world.upstreams.to("/card").reply(b"", 304, cache_control="no-cache")
    assert asker.last == (Outcome.FRESH, Reason.REVALIDATED)


# --- policy -----------------------------------------------------------------------------------------------------------


def test_a_fragment_that_is_off_is_not_asked() -> None:
    asker = Asker(fragment(layer={"state": "off"}, fallback_html=b"<p>off</p>"))
    assert asker.ask() is None
    assert asker.last == (Outcome.FALLBACK, Reason.OFF)
    assert asker.world.upstreams.flown == []


def test_a_fragment_that_is_stored_shows_what_is_kept() -> None:
    world = World()
    on = Asker(fragment(layer=KEEP), world)
    on.ask()
    world.upstreams.to("/card").reply()
    stored = Asker(fragment(layer=KEEP | {"state": "stored"}), world)
    stored.ask()
    assert stored.last == (Outcome.FRESH, Reason.HIT)
    world.loop.advance(20)
    stored.ask()
    assert stored.last == (Outcome.STALE, Reason.OFF)
    world.loop.advance(20)
    stored.ask()
    assert stored.last == (Outcome.OMITTED, Reason.OFF)


def test_refused_locally_says_when_to_come_back() -> None:
    asker = Asker(fragment())
    asker.ask()
    asker.world.upstreams.to("/card").fail(Reason.CONCURRENCY)
    assert asker.results[-1].retry_after == 1


def test_then_fresh_shows_the_stale_copy_first() -> None:
    world = World()
    asker = Asker(fragment(layer=KEEP), world)
    asker.ask()
    world.upstreams.to("/card").reply(b"<p>one</p>")
    world.loop.advance(12)
    asker.slot = slot(1, "shop/card", then_fresh=True)
    wait = asker.ask()
    assert wait is not None
    assert wait.first is not None
    assert wait.first.outcome is Outcome.STALE
    world.upstreams.to("/card").reply(b"<p>two</p>")
    assert asker.last == (Outcome.FRESH, Reason.OK)


# --- primaries --------------------------------------------------------------------------------------------------------


def test_a_primarys_redirect_and_cookies_are_handed_on() -> None:
    asker = Asker(fragment(), primary=True)
    asker.ask()
    asker.world.upstreams.to("/card").reply(b"", 303, location="/next", set_cookie="a=1")
    result = asker.results[-1]
    assert (result.status, result.location, result.cookies) == (303, "/next", (b"a=1",))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422])
def test_a_primarys_own_error_keeps_its_body(status: int) -> None:
    asker = Asker(fragment(), primary=True)
    asker.ask()
    asker.world.upstreams.to("/card").reply(b"<h1>no</h1>", status)
    assert asker.results[-1].status == status
    assert asker.html == b"<h1>no</h1>"


def test_a_primarys_own_error_without_html_still_has_its_status() -> None:
    asker = Asker(fragment(), primary=True)
    asker.ask()
    asker.world.upstreams.to("/card").reply(b"{}", 404, b"application/json")
    assert asker.results[-1].status == 404
    assert asker.html == b""


def test_a_primarys_kept_not_found_is_a_hit_with_its_body() -> None:
    asker = Asker(fragment(), primary=True)
    asker.ask()
    asker.world.upstreams.to("/card").reply(b"<h1>no</h1>", 404)
    assert asker.ask() is None
    assert (asker.results[-1].status, asker.html) == (404, b"<h1>no</h1>")


# --- what is sent -----------------------------------------------------------------------------------------------------


def test_fetches_carry_identity_and_the_time_left_and_nothing_else() -> None:
    asker = Asker(fragment(layer={"timeout.total": "800ms"}))
    asker.world.resolver.start(asker.call(), asker.world.visit(cookie="a=1", x_evil="1"), asker.results.append)
    assert asker.world.upstreams.to("/card").headers == {
        "accept": "text/html",
        "user-agent": "bff",
        "x-request-id": "r1",
        "bff-deadline": "800",
    }


def test_closing_cancels_everything() -> None:
    asker = Asker(fragment(layer=KEEP))
    asker.ask()
    other = Asker(fragment("shop/off", layer={"cache.mode": "off"}), asker.world)
    other.ask()
    asker.world.resolver.close()
    assert all(each.cancelled for each in asker.world.upstreams.flown)
    assert asker.results == other.results == []
    assert asker.world.seen.inflight.total() == 0


def test_tags_of_the_registration_and_of_the_upstream_each_once() -> None:
    made = fragment(
        params={"n": text_param("n")},
        layer=KEEP,
        tags=(("course:", *fragment(params={"n": text_param("n")}).path[1:2], ""),),
    )
    asker = Asker(made)
    asker.ask(n="1")
    asker.world.upstreams.to("/card/1").reply(surrogate_key="a b course:1", cache_tag="c, d, a")
    assert asker.results[-1].tags == ("course:1", "a", "b", "c", "d")
