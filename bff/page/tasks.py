"""Tasks that contexts have begun and not ended, by the key of what was asked: a reload shows the same one.

What a 202 means is `rules.tasks`, who asks on is the gateway. Each process remembers what it has begun; where there is a
second tier it is told too, so that every other process shows the same task: begun by key, and ended by the task, because
whoever learns that one is over need not know what was asked.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from hashlib import blake2b
from typing import Any, Final

from bff.model import Clock, Failure, Fragment, Reason, Reply, Result
from bff.page import results
from bff.page.call import Call
from bff.page.flight import Wait
from bff.rules import tasks
from bff.rules.caching import Fields
from bff.rules.tasks import LIFE, Signer, Task
from bff.store.tier import Tier

KEPT: Final = 4096
"""Tasks remembered; beyond it the oldest are forgotten, and a reload offers to start those again."""


class Underway:
    """What was begun: `known` is asked by key, `end` is told by whoever learns that a task is over."""

    def __init__(self, signer: Signer, wall: Clock, tier: Tier | None = None) -> None:
        self._signer = signer
        self._wall = wall
        self._tier = tier
        self.underway: dict[str, Task] = {}  # by key; for the hot path, which looks whether there are any
        self._keys: dict[Task, str] = {}
        self._names: set[str] = set()  # fragments that have begun any
        self._telling: set[asyncio.Task[None]] = set()
        self.tiered = tier is not None  # other processes may begin tasks, and learn of ours

    def begin(self, name: str, target: str, key: str | None) -> Task:
        """A task that has just begun; remembered under `key`, unless what was asked may be shared with nobody (None)."""
        task = Task(name=name, target=target, until=int(self._wall()) + LIFE)
        if key is not None:
            self._names.add(name)
            self._remember(key, task)
            if self._tier is not None:
                self._tell(self._tier.set_value(_begun(key), _packed(task), keep=LIFE))
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
        return None if task is None else self.showing(task, principal, began=now, now=now)

    def showing(self, task: Task, principal: str | None, *, began: float, now: float) -> Result:
        """What a slot becomes whose task is this one."""
        return results.underway(self.url(task, principal), began=began, now=now, wait=tasks.pause(self.age(task)))

    def known(self, key: str) -> Task | None:
        """The task that was begun by asking this, and has not ended as far as anybody here knows."""
        task = self.underway.get(key)
        if task is not None and task.until <= self._wall():
            self._forget(key)
            return None
        return task

    def shared(self, fragment: Fragment) -> bool:
        """Whether to ask what other processes know: there may be some, and this fragment's answers may begin tasks."""
        return self._tier is not None and (fragment.starts_task or fragment.name in self._names)

    async def recall(self, key: str) -> Task | None:
        """The same as `known` as far as anybody knows who shares the second tier."""
        task = self.known(key)
        if self._tier is None:
            return task
        if task is None:
            task = _unpacked(await self._tier.value(_begun(key)))
        if task is None or task.until <= self._wall():
            return None
        if await self._tier.value(_ended(task)) is not None:
            if self.underway.get(key) == task:
                self._forget(key)
            return None
        if key not in self.underway:
            self._remember(key, task)
        return task

    def end(self, task: Task) -> None:
        """It is over, for everybody."""
        key = self._keys.get(task)
        if key is not None:
            self._forget(key)
        if self._tier is not None:
            self._tell(self._tier.set_value(_ended(task), b"1", keep=LIFE))

    def age(self, task: Task) -> float:
        """Seconds since it began."""
        return self._wall() - (task.until - LIFE)

    def read(self, signed: str, principal: str | None) -> Task | None:
        """The task of an id that this principal was given; None for any other."""
        return self._signer.read(signed, principal, self._wall())

    def url(self, task: Task, principal: str | None) -> str:
        """Where this principal asks for the task."""
        return f"/_bff/tasks/{self._signer.sign(task, principal)}"

    async def aclose(self) -> None:
        """Let what is being told be told."""
        while self._telling:
            await asyncio.gather(*self._telling, return_exceptions=True)

    def _tell(self, telling: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(telling)
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    def _remember(self, key: str, task: Task) -> None:
        self._forget(key)
        if len(self.underway) >= KEPT:
            self._forget(next(iter(self.underway)))
        self.underway[key], self._keys[task] = task, key

    def _forget(self, key: str) -> None:
        task = self.underway.pop(key, None)
        if task is not None and self._keys.get(task) == key:
            del self._keys[task]


def _begun(key: str) -> str:
    """The name of a shared setting; a key holds what visitors have sent, and may be long."""
    return f"task:{_digest(key)}"


def _ended(task: Task) -> str:
    return f"task-over:{_digest(_packed(task).decode())}"


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()


def _packed(task: Task) -> bytes:
    return json.dumps([task.name, task.target, task.until], separators=(",", ":")).encode()


def _unpacked(data: bytes | None) -> Task | None:
    """Never raises: others may have written it."""
    try:
        name, target, until = json.loads(data or b"")
    except (ValueError, TypeError):
        return None
    if not (isinstance(name, str) and isinstance(target, str) and isinstance(until, int)):
        return None
    return Task(name=name, target=target, until=until)
