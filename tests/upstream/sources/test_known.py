import logging
from importlib.metadata import EntryPoint

import pytest

from bff.markup.check import Checker
from bff.upstream.sources import known
from bff.upstream.sources.content import Kit, Unreadable
from tests.build import fragment

KIT = Kit(checker=Checker(), render=2.0)


def test_the_projects_own_sources_are_entry_points_like_any_other() -> None:
    assert {"html", "json", "podium", "web-fragment"} <= set(known.kinds())
    assert known.accepts()["web-fragment"] == "application/web-fragment"
    made = known.sources(KIT)
    assert {name: made[name].accept for name in made} == known.accepts()


def test_one_that_cannot_be_loaded_takes_down_its_fragments_only(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "bff.sources"):
        kind = known.load(EntryPoint("soap", "nobody.has.this:Soap", known.GROUP))
    assert "the source soap cannot be loaded" in caplog.text
    read = kind.made(KIT).read(fragment("shop/card", source="soap"), {}, b"", {}, head=False)
    assert isinstance(read, Unreadable)
    assert read.detail.startswith("the source soap is not there: ModuleNotFoundError")
