"""Events become purges, each once; nothing that comes ends the reading."""

import pytest

from bff.events import consumer as consumers
from bff.events.event import Event, Poison, Read, from_message
from bff.model import Purge, Ref
from tests.events.telling import CATALOG, NOW, Notes, attributes, event, subscription

pytestmark = pytest.mark.anyio


async def test_an_event_becomes_a_soft_purge_and_a_refresh() -> None:
    notes = Notes()
    assert await notes.consumer.take(event()) == "applied"
    assert notes.purges == [(Purge(kind="tag", value="course:A+1", soft=True, context="discovery"), True)]
    assert notes.counted == {(CATALOG, "applied"): 1}
    assert notes.lags == [2.0]


async def test_told_again_it_is_counted_and_nothing_else() -> None:
    notes = Notes()
    await notes.consumer.take(event())
    assert await notes.consumer.take(event()) == "duplicate"
    assert await notes.consumer.take(event(source="elsewhere")) == "applied", "an id is unique to its source alone"
    assert notes.counted == {(CATALOG, "applied"): 2, (CATALOG, "duplicate"): 1}


async def test_in_whatever_order() -> None:
    forwards, backwards = Notes(), Notes()
    told = [event(id=str(n), time=NOW - n, data={"catalog_info": {"course_key": f"A+{n % 3}"}}) for n in range(9)]
    for each in told:
        await forwards.consumer.take(each)
    for each in told[::-1]:
        await backwards.consumer.take(each)
    assert sorted(forwards.tags) == sorted(backwards.tags)


async def test_it_remembers_only_so_many() -> None:
    notes = Notes()
    for number in range(consumers.REMEMBERED + 1):
        await notes.consumer.take(event(id=str(number)))
    assert len(notes.consumer._seen) == consumers.REMEMBERED
    assert await notes.consumer.take(event(id="0")) == "applied", "forgotten, acted on again, harmless"


async def test_what_nobody_registered_is_ignored_under_no_name_of_its_own() -> None:
    notes = Notes()
    assert await notes.consumer.take(event(type="made.up.by.somebody")) == "ignored"
    assert notes.counted == {("other", "ignored"): 1}
    assert not notes.purges
    assert not notes.lags


async def test_an_event_without_the_fields_that_its_tags_need() -> None:
    notes = Notes(subscription(tags=(("x:", Ref("field", "no.such"), ""),)))
    assert await notes.consumer.take(event()) == "untagged"
    assert notes.counted == {(CATALOG, "untagged"): 1}


async def test_what_fails_is_told_and_may_come_again() -> None:
    notes = Notes()
    notes.broken = True
    assert await notes.consumer.take(event()) == "failed"
    assert notes.said("event-failed")[0]["why"] == "RuntimeError: no store"
    notes.broken = False
    assert await notes.consumer.take(event()) == "applied"


async def test_poison_is_told_counted_and_left() -> None:
    notes = Notes()
    told, body = attributes(0)

    def make(read: Read) -> Event:
        return from_message(told, body[:20], read)

    assert await notes.consumer.read(make) == "poison"
    assert notes.counted == {(CATALOG, "poison"): 1}
    assert str(notes.said("event-poison")[0]["why"]).startswith("the payload is not what")

    def nameless(_: Read) -> Event:
        raise Poison("nonsense", type="a" * 5000)

    assert await notes.consumer.read(nameless) == "poison"
    assert notes.counted["other", "poison"] == 1
    assert len(str(notes.said("event-poison")[1]["type"])) < 200


async def test_registrations_change_while_it_reads() -> None:
    notes = Notes()
    notes.subscriptions = [subscription(context="site", topic="b"), subscription(topic="a"), subscription(topic="")]
    assert notes.consumer.topics() == ("a", "b")
    await notes.consumer.take(event())
    assert [purge.context for purge, _ in notes.purges] == ["site", "discovery"]


async def test_lost_messages_make_their_contexts_stale() -> None:
    notes = Notes()
    await notes.consumer.lost(["course-catalog-info-changed"])
    assert notes.purges == [(Purge(kind="context", value="discovery", soft=True), False)]
    assert notes.counted == {("", "missed"): 1}
    assert notes.said("events-missed")[0]["topics"] == ["course-catalog-info-changed"]
