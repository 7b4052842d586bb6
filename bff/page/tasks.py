"""Tasks that contexts have begun and not ended, by the key of what was asked: a reload shows the same one.

Bookkeeping of one process; what a 202 means is `rules.tasks`, who asks on is the gateway.
"""

from __future__ import annotations

from typing import Final

from bff.model import Clock, Failure, Reason, Reply, Result
from bff.page import results
from bff.page.call import Call
from bff.page.flight import Wait
from bff.rules import tasks
from bff.rules.caching import Fields
from bff.rules.tasks import LIFE, Signer, Task

KEPT: Final = 4096
"""Tasks remembered; beyond it the oldest are forgotten, and a reload offers to start those again."""


class Underway:
    """What was begun: `known` is asked by key, `end` is told by whoever learns that a task is over."""

    def __init__(self, signer: Signer, wall: Clock) -> None:
        self._signer = signer
        self._wall = wall
        self._tasks: dict[str, Task] = {}
        self._keys: dict[Task, str] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def begin(self, name: str, target: str, key: str | None) -> Task:
        """A task that has just begun; remembered under `key`, unless what was asked may be shared with nobody (None)."""
        task = Task(name=name, target=target, until=int(self._wall()) + LIFE)
        if key is not None:
            self._forget(key)
            if len(self._tasks) >= KEPT:
                self._forget(next(iter(self._tasks)))
            self._tasks[key], self._keys[task] = task, key
        return task

    def accept(self, call: Call, key: str | None, reply: Reply, found: Fields) -> Task | Failure:
        """What a 202 has begun, or why it is none: it must say where to ask, and that must be under its upstream."""
        stated = tasks.begun(found, reply.body)
        if not stated:
            return Failure(Reason.STATUS, "refused", "answered 202 without a Location")
        target = tasks.target(stated, call.target, call.fragment.upstream)
        if target is None:
            return Failure(Reason.REFUSED, "refused", "answered 202 with a Location that is not under its upstream")
        return self.begin(call.fragment.name, target, key)

    def begun(self, task: Task, wait: Wait, reply: Reply, found: Fields, *, now: float) -> Result:
        """What a slot becomes that waited for this answer."""
        url, pause = self.url(task, wait.visit.principal), tasks.pause(0.0, tasks.wait(found))
        return results.underway(url, began=wait.began, now=now, wait=pause, reply=reply)

    def shown(self, key: str, principal: str | None, now: float) -> Result | None:
        """What a slot becomes whose task was begun before and has not ended."""
        task = self.known(key)
        if task is None:
            return None
        pause = tasks.pause(self.age(task))
        return results.underway(self.url(task, principal), began=now, now=now, wait=pause)

    def known(self, key: str) -> Task | None:
        """The task that was begun by asking this, and has not ended as far as anybody here knows."""
        task = self._tasks.get(key)
        if task is not None and task.until <= self._wall():
            self._forget(key)
            return None
        return task

    def end(self, task: Task) -> None:
        key = self._keys.get(task)
        if key is not None:
            self._forget(key)

    def age(self, task: Task) -> float:
        """Seconds since it began."""
        return self._wall() - (task.until - LIFE)

    def read(self, signed: str, principal: str | None) -> Task | None:
        """The task of an id that this principal was given; None for any other."""
        return self._signer.read(signed, principal, self._wall())

    def url(self, task: Task, principal: str | None) -> str:
        """Where this principal asks for the task."""
        return f"/_bff/tasks/{self._signer.sign(task, principal)}"

    def _forget(self, key: str) -> None:
        task = self._tasks.pop(key, None)
        if task is not None and self._keys.get(task) == key:
            del self._keys[task]
