"""Slow work: where a 202 leads, what a job says of itself, and the ids under which a client may ask for it.

Pure: knows neither who asks a context nor who is answered. Sources: RFC 9110 §15.3.3 (202), §10.2.3 (Retry-After); the job
shape of Open edX's Registrar (`job_id`, `job_url`; `state`, `result`), whose words are django-user-tasks'.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from bff.model import Upstream
from bff.rules.caching import Fields, text
from bff.rules.within import within

State = Literal["pending", "running", "succeeded", "failed", "canceled"]

LIFE: Final = 24 * 3600
"""Seconds after which an id means nothing: a task that nobody has asked for in a day is nobody's."""
LONGEST: Final = 1024  # characters of a job's target, so that an id stays within `limits.url_bytes`
_FIRST, _LAST, _SHARE = 1, 15, 5  # seconds between two questions: a fifth of the task's age, within these


# --- where it leads ---------------------------------------------------------------------------------------------------


def begun(found: Fields, body: bytes) -> str:
    """Where a 202 says that the work can be asked for: its Location, else the JSON's `job_url`; "" where it says nothing."""
    stated = text(found, b"location")
    if stated:
        return stated
    told = _object(body).get("job_url")
    return told if isinstance(told, str) else ""


def target(stated: str, asked: str, upstream: Upstream) -> str | None:
    """What to ask for a job that a URL names, or None where that leaves the upstream or is too long for an id."""
    found = within(stated, asked, upstream)
    return found if found is None or len(found) <= LONGEST else None


# --- what a job says --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """How far a task is. `result`: where its result is, as the upstream wrote it; "" where the answer itself is the result,
    None where there is none.
    """

    state: State
    progress: float | None = None  # 0 to 1
    result: str | None = None
    wait: int | None = None  # seconds until it is worth asking again, where the upstream says so

    @property
    def over(self) -> bool:
        return self.state not in ("pending", "running")


_WORDS: Final[Mapping[str, State]] = {
    "pending": "pending", "queued": "pending", "accepted": "pending", "created": "pending", "scheduled": "pending",
    "in progress": "running", "running": "running", "started": "running", "processing": "running", "retrying": "running",
    "retry": "running", "succeeded": "succeeded", "success": "succeeded", "complete": "succeeded", "completed": "succeeded",
    "done": "succeeded", "finished": "succeeded", "failed": "failed", "failure": "failed", "error": "failed",
    "canceled": "canceled", "cancelled": "canceled", "revoked": "canceled",
}  # fmt: skip
"""django-user-tasks' words (Registrar), Celery's, and the plain ones; spelt in any case, with spaces, `-` or `_`."""
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


def job(status: int, found: Fields, body: bytes) -> Job | None:
    """What an answer at a job's URL says; None where it says nothing that can be understood.

    Either shape will do: a JSON object with `state` or `status`, or plain HTTP (202 while it runs, a redirect to the result
    or the result itself when it is done).
    """
    pace = wait(found)
    if status in _REDIRECTS:
        return Job(state="succeeded", result=text(found, b"location")) if text(found, b"location") else None
    if status not in (200, 202, 203, 204):
        return None
    said = _object(body)
    word = said.get("state", said.get("status"))
    if not isinstance(word, str):
        return Job(state="running", wait=pace) if status == 202 else _itself(status)
    state = _WORDS.get(word.lower().replace("_", " ").replace("-", " "))
    if state is None:
        return None
    result = said.get("result")
    where = result if isinstance(result, str) and result and state == "succeeded" else None
    return Job(state=state, progress=_progress(said), result=where, wait=pace)


def _itself(status: int) -> Job:
    return Job(state="succeeded", result=None if status == 204 else "")


def _progress(said: Mapping[str, Any]) -> float | None:
    """0 to 1 of `progress` (a share or a percentage), or of django-user-tasks' steps; None where neither is told."""
    share = _number(said.get("progress"))
    steps, total = _number(said.get("completed_steps")), _number(said.get("total_steps"))
    if share is not None:
        return round(min(max(share / 100 if share > 1 else share, 0.0), 1.0), 4)
    if steps is not None and total:
        return round(min(max(steps / total, 0.0), 1.0), 4)
    return None


def _number(value: object) -> float | None:
    sane = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12
    return float(value) if sane else None  # type: ignore[arg-type] # it is a number


def wait(found: Fields) -> int | None:
    """Retry-After in seconds, within an hour; a date (RFC 9110 §10.2.3 allows it) is not worth its reading."""
    stated = text(found, b"retry-after")
    return min(max(int(stated), 1), 3600) if stated.isascii() and stated.isdigit() and len(stated) < 9 else None


def pause(age: float, stated: int | None = None) -> int:
    """Seconds until a client should ask again: what the upstream says, else longer the longer the task has taken."""
    return stated if stated is not None else int(min(max(age / _SHARE, _FIRST), _LAST))


def _object(body: bytes) -> Mapping[str, Any]:
    if body.lstrip()[:1] != b"{":
        return {}
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


# --- ids --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task: whose registration says how to ask (a fragment's full name, or `<context>/proxy`), what, and until when."""

    name: str
    target: str
    until: int  # wall seconds


class Signer:
    """Makes ids and reads them. An id holds its task, signed together with the principal, who is not in it."""

    def __init__(self, secrets: Sequence[str | bytes]) -> None:
        """The first secret signs, all are believed: that is how they are rotated."""
        self.secrets = [secret.encode() if isinstance(secret, str) else secret for secret in secrets]

    def sign(self, task: Task, principal: str | None) -> str:
        said = json.dumps([task.name, task.target, task.until], separators=(",", ":")).encode()
        return f"{_text(said)}.{_text(_mac(self.secrets[0], said, principal))}"

    def read(self, signed: str, principal: str | None, wall: float) -> Task | None:
        """The task of an id; None for one that is forged, another principal's, or over."""
        said, _, mac = signed.partition(".")
        try:
            payload, given = _bytes(said), _bytes(mac)
        except (binascii.Error, ValueError):
            return None
        if (_text(payload), _text(given)) != (said, mac):  # base64 has other spellings
            return None
        if not any(hmac.compare_digest(_mac(each, payload, principal), given) for each in self.secrets):
            return None
        name, where, until = json.loads(payload)
        return Task(name=name, target=where, until=until) if wall < until else None


def _mac(secret: bytes, said: bytes, principal: str | None) -> bytes:
    whose = b"-" if principal is None else b"+" + principal.encode()
    return hmac.digest(secret, b"bff task %d:%b%b" % (len(whose), whose, said), "sha256")


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text_: str) -> bytes:
    return base64.b64decode(text_ + "=" * (-len(text_) % 4), altchars=b"-_", validate=True)
