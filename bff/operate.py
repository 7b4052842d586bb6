"""What is asked of a running gateway over its admin API: where it is, who asks, and what came of it.

Knows HTTP and the API's answers; the words that people type are `cli`'s. Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from bff.chosen import Unusable
from bff.config.options import Settings

PATIENCE: Final = 30.0  # seconds for an answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """A running gateway: its origin, and the token that is shown to it."""

    url: str
    token: str

    def purge(self, asked: Mapping[str, Any]) -> str:
        """Purge, and say in one line what that met. Raises `Unusable`."""
        told = self._post("purge", asked)
        entries = told.get("entries", 0)
        what = "everything" if told["kind"] == "all" else f"{told['kind']} {told['value']}"
        done = "marked stale" if told["soft"] else "purged"
        return f"{entries} {'entry' if entries == 1 else 'entries'} {done} on {self.url} ({what}){_where(told)}"

    def override(self, target: str, values: Mapping[str, str], lasting: str, reason: str) -> str:
        """Let values hold for a while, and say for how long. Raises `Unusable`."""
        if not lasting or not reason:
            raise Unusable("say for how long and why: --for 2h --reason TEXT")
        made = self._post("overrides", {"target": target, "set": values, "for": lasting, "reason": reason})
        return f"{_said(made)} (on {self.url}){_where(made)}"

    def overrides(self) -> list[str]:
        """A line for each override that holds. Raises `Unusable`."""
        told = self._ask("GET", "overrides")["overrides"]
        return [f"{_said(each)}, by {each['by']}: {each['reason']}" for each in told] or ["nothing is overridden"]

    def clear(self, target: str) -> str:
        """End what is overridden of a target. Raises `Unusable`."""
        told = self._ask("DELETE", f"overrides?{urlencode({'target': target})}")
        ended = told["ended"]
        return f"{ended} {'override' if ended == 1 else 'overrides'} of {target} ended on {self.url}{_where(told)}"

    def explain(self, name: str) -> list[str]:
        """The lines of `bff explain`, as the gateway has its policies now. Raises `Unusable`."""
        return list(map(str, self._ask("GET", f"explain?{urlencode({'name': name})}")["lines"]))

    def _post(self, action: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        return self._ask("POST", action, json.dumps(asked).encode())

    def _ask(self, method: str, action: str, body: bytes | None = None) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {self.token}", "content-type": "application/json"}
        request = Request(f"{self.url}/_bff/admin/{action}", body, headers, method=method)  # noqa: S310 - `gateway` lets http and https through alone
        try:
            with _OPEN(request, timeout=PATIENCE) as answer:
                told = json.loads(answer.read())
        except HTTPError as error:
            raise Unusable(self._why(error)) from None
        except URLError as error:
            raise Unusable(f"nobody answers at {self.url} ({error.reason}); name the gateway with --url") from None
        except (OSError, HTTPException, ValueError) as error:
            raise Unusable(f"{self.url} does not answer as a gateway does ({type(error).__name__}: {error})") from None
        if not isinstance(told, dict):
            raise Unusable(f"{self.url} does not answer as a gateway does")
        return told

    def _why(self, error: HTTPError) -> str:
        """What the gateway says is wrong, and what to do about it."""
        try:
            detail = str(json.loads(error.read())["detail"])
        except (OSError, ValueError, KeyError, TypeError):
            detail = f"status {error.code}"
        match error.code:
            case 401:
                return f"{self.url} does not know this token; see `admin` in its bff.yaml, and give it with --token"
            case 404 if not detail.startswith("there is no "):
                return f"{self.url} has no admin API: there is no token in its bff.yaml, or admin.listen is another address"
            case _:
                return detail


def _where(told: Mapping[str, Any]) -> str:
    """What to know about where something holds; nothing where it does everywhere."""
    alone = "the store does not take it now, so this holds in the process that answered, and in the others once it does"
    return "" if told.get("everywhere", True) else f"; {alone}"


def _said(override: Mapping[str, Any]) -> str:
    values = " ".join(f"{key}={value}" for key, value in override["values"].items())
    return f"{override['target']} {values} until {override['until']}"


def gateway(url: str, token: str, settings: Settings) -> Gateway:
    """The gateway that is meant: what was typed, else what the settings say. Raises `Unusable`."""
    origin = (url or f"http://{_reachable(settings.admin.listen or settings.listen)}").rstrip("/")
    parts = urlsplit(origin)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise Unusable(f"{url!r} is no gateway's address; write --url http://127.0.0.1:8000")
    shown = token or settings.admin.token
    if not shown:
        raise Unusable("there is no token; give one with --token, in BFF_ADMIN__TOKEN, or as admin.token in bff.yaml")
    if not shown.isascii() or not shown.isprintable():
        raise Unusable("the token has characters that no header can carry")
    return Gateway(url=origin, token=shown)


def _reachable(listen: str) -> str:
    """The address to ask where a gateway listens: one that listens everywhere is asked here."""
    host, _, port = listen.rpartition(":")
    return f"{_HERE.get(host, host)}:{port}"


_HERE: Final[Mapping[str, str]] = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - compared with, not bound


class _Stay(HTTPRedirectHandler):
    """A token is shown to whom it was meant for."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPEN: Final = build_opener(ProxyHandler({}), _Stay()).open
