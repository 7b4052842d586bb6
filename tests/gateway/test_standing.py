"""How several workers stand, as one."""

from __future__ import annotations

from typing import Any

from bff.gateway.standing import together


def standing(pid: str, **more: Any) -> dict[str, Any]:
    return {"process": {"pids": [pid], "streams": 2, "lag": [1, 0]}, "store": {"reached": True}, "actions": [], **more}


def test_counts_add_up_and_names_that_one_alone_has_seen_are_there() -> None:
    here = {"shop/card": {"ends": {"fresh": {"ok": 2}}, "seconds": [1, 1]}, "shop/list": {"seconds": []}}
    there = {
        "shop/card": {"ends": {"fresh": {"ok": 3}, "stale": {"hit": 1}}, "seconds": [0, 4]},
        "shop/list": {"seconds": [5]},
    }
    found = together([standing("1", fragments=here), standing("2", fragments=there)])
    assert found["fragments"] == {
        "shop/card": {"ends": {"fresh": {"ok": 5}, "stale": {"hit": 1}}, "seconds": [1, 5]},
        "shop/list": {"seconds": [5]},
    }
    assert found["process"] == {"pids": ["1", "2"], "streams": 4, "lag": [2, 0]}


def test_one_alone_is_as_it_is() -> None:
    assert together([standing("1")]) == standing("1")


def test_what_one_worker_cannot_reach_is_not_reached() -> None:
    assert together([standing("1"), standing("2", store={"reached": False})])["store"] == {"reached": False}


def test_what_workers_allow_adds_up_as_what_is_under_way_does() -> None:
    found = together([standing(pid, contexts={"shop": {"inflight": 3, "limit": 12}}) for pid in ("1", "2")])
    assert found["contexts"]["shop"] == {"inflight": 6, "limit": 24}


def test_a_breaker_is_told_at_its_worst_and_since_the_first() -> None:
    def told(state: str, **since: float) -> dict[str, Any]:
        return standing("1", fragments={"shop/card": {"breaker": {"state": state, "left": 1.0, "why": state, **since}}})

    def breaker(*found: dict[str, Any]) -> Any:
        return together(found)["fragments"]["shop/card"]["breaker"]

    assert breaker(told("closed"), told("closed")) == {"state": "closed", "left": 1.0, "why": "closed"}
    assert breaker(told("half-open", since=5.0), told("open", since=9.0)) == {
        "state": "open", "left": 1.0, "why": "open", "since": 5.0,
    }  # fmt: skip
    assert breaker(told("closed"), told("half-open", since=5.0))["state"] == "half-open"
    assert breaker(told("closed"), standing("2", fragments={"shop/card": {"seconds": [1]}}))["state"] == "closed"


def test_actions_are_in_the_order_of_their_time() -> None:
    first, second, third = ({"time": f"2026-11-24T10:00:0{n}+00:00", "who": "ada"} for n in range(3))
    found = together([standing("1", actions=[first, third]), standing("2", actions=[second])])
    assert found["actions"] == [first, second, third]
