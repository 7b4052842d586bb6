"""One fragment asked for again and again, for tests of what becomes of a call."""

from bff.model import Fragment, Outcome, Reason, Result
from bff.page.call import Call
from bff.page.flight import Wait
from tests.build import World, slot

KEEP = {"cache.fresh": "10s", "cache.stale_while_revalidate": "5s", "cache.stale_if_error": "20s"}


class Asker:
    """Resolves one fragment again and again, and remembers what came of it."""

    def __init__(self, made: Fragment, world: World | None = None, *, primary: bool = False, **more: str) -> None:
        self.world = world or World(fragments={made.name: made})
        self.fragment = made
        own = slot(1, made.name, kind="primary" if primary else "optional", policy=more)
        self.slot = own
        self.results: list[Result] = []

    def call(self, **passed: str) -> Call:
        planner = self.world.planner
        found = planner.call(
            self.fragment,
            planner.policy(self.fragment, self.slot),
            {name: [text] for name, text in passed.items()},
            slot=self.slot,
        )
        assert found is not None
        return found

    def ask(self, principal: str | None = None, **passed: str) -> Wait | None:
        answer = self.world.resolver.start(self.call(**passed), self.world.visit(principal), self.results.append)
        if isinstance(answer, Wait):
            return answer
        self.results.append(answer)
        return None

    @property
    def last(self) -> tuple[Outcome, Reason]:
        return self.results[-1].outcome, self.results[-1].reason

    @property
    def html(self) -> bytes | None:
        markup = self.results[-1].markup
        return markup.flat if markup is not None else None
