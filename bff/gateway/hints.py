"""Early Hints (RFC 8297): what a page's head refers to, told while its primary keeps the whole head waiting.

Owns to whom and when a 103 is sent (docs/decisions/0022), and how a head is read. Writes through the server's extension
alone; knows nothing of how a page goes on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final

from bff.markup.tokens import SOUP, values
from bff.page.hoist import MOST
from bff.page.plan import PagePlan, SlotPlan

if TYPE_CHECKING:
    from bff.gateway.pages import Turn

_URL: Final = re.compile(r"/(?!/)[!#-;=?-Z_a-z~\[\]]*")  # a path of ours, that needs no quoting between < and >
_PLAIN: Final = re.compile(r"[A-Za-z0-9+/=_. -]*")  # an attribute's value that can be quoted
_TOLD: Final = ("crossorigin", "integrity")  # what a preload must share with what uses it
_ASIDE: Final = frozenset({"noscript", "template"})  # what is in them is not for everybody


class Hints:
    """Sends a page's Early Hints, to navigations that come through a proxy of the operator's."""

    def __init__(self, trusted: Callable[[str], bool]) -> None:
        """`trusted`: whether a peer's address is such a proxy's."""
        self._trusted = trusted
        self._known: dict[str, tuple[PagePlan, bytes]] = {}

    def give(self, scope: MutableMapping[str, Any]) -> None:
        """Send them, where the page that this request began waits for its primary.

        Nothing where another answer is on its way on this connection (a request behind it has begun no page yet), or
        where the server cannot send them.
        """
        turn: Turn | None = scope.get("bff.turn")
        interim = scope["extensions"].get("bff.interim")
        if turn is None or interim is None or not _waits(turn) or not self._welcome(scope):
            return
        value = self._link(turn.composition.planned.plan)
        if value:
            interim(103, [(b"link", value)])

    def _welcome(self, scope: MutableMapping[str, Any]) -> bool:
        """Whether a browser would heed them: it goes there itself, in no frame (Chromium), and asks through who can be told."""
        fetch = dict(scope["headers"])
        if fetch.get(b"sec-fetch-mode") != b"navigate" or fetch.get(b"sec-fetch-dest") != b"document":
            return False
        return self._trusted((scope.get("client") or ("", 0))[0])

    def _link(self, plan: PagePlan) -> bytes:
        """The Link header's value, worked out once for each page."""
        name = plan.page.name
        known = self._known.get(name)
        if known is None or known[0] is not plan:
            known = self._known[name] = plan, link(plan)
        return known[1]


def _waits(turn: Turn) -> bool:
    """Whether a person's page is held back by its primary; one that is fetched in case it is visited fetches nothing else."""
    main = turn.composition.planned.plan.primary
    if main is None or turn.form != "html" or turn.method != "GET" or turn.prefetch:
        return False
    return turn.composition.slots[main.index].result is None


# --- what a head refers to --------------------------------------------------------------------------------------------


def link(plan: PagePlan) -> bytes:
    """Preloads of a page's style sheets, scripts and what its own head preloads, from this origin alone; what is needed first comes first."""
    found = sorted(_found(_head(plan)), key=lambda each: each[0])
    hoisted = [line for line in re.split(", (?=<)", plan.links.decode()) if line]
    lines: dict[str, str] = {}
    for line in [*(line for _, line in found), *hoisted]:
        lines.setdefault(line.partition(">")[0], line)
    return ", ".join([*lines.values()][:MOST]).encode()


def _head(plan: PagePlan) -> bytes:
    """The page's head, as far as it does not depend on the request."""
    text = b""
    for part in plan.parts:
        if isinstance(part, SlotPlan):
            continue
        text += part if isinstance(part, bytes) else part.default
        end = text.find(b"</head")
        if end >= 0:
            return text[:end]
    return b""


def _found(head: bytes) -> Iterator[tuple[int, str]]:
    """Link values of a head's elements, each with how early it is needed: what holds up painting, then scripts, then modules."""
    aside = 0
    for token in SOUP.finditer(head):
        name = (token["name"] or token["raw"] or b"").decode("latin-1").lower()
        if name.removeprefix("/") in _ASIDE:
            aside = max(0, aside + (-1 if name.startswith("/") else 1))
        elif name in _READ and not aside:
            given = values(token["attributes"] or token["rawattributes"] or b"")
            told = _READ[name](given)
            value = _value(told[1], told[2], given) if told is not None else None
            if told is not None and value is not None:
                yield told[0], value


Told = tuple[int, str, str] | None
"""Rank, URL and relation."""


def _of_link(given: Mapping[str, str]) -> Told:
    url = given.get("href", "")
    if given.get("media", "all") != "all" or "disabled" in given or "imagesrcset" in given:
        return None
    match given.get("rel", "").lower().split():
        case ["stylesheet"]:
            return 0, url, "preload; as=style"
        case ["preload"] if given.get("as", "").isalpha():
            return 1, url, f"preload; as={given['as']}"
        case ["modulepreload"]:
            return 3, url, "modulepreload"
        case _:
            return None


def _of_script(given: Mapping[str, str]) -> Told:
    url = given.get("src", "")
    match given.get("type", "").lower():
        case "module":
            return 3, url, "modulepreload"
        case "" | "text/javascript" if "nomodule" not in given:
            return 2 if "async" in given or "defer" in given else 1, url, "preload; as=script"
        case _:
            return None


_READ: Final[Mapping[str, Callable[[Mapping[str, str]], Told]]] = {"link": _of_link, "script": _of_script}


def _value(url: str, relation: str, given: Mapping[str, str]) -> str | None:
    """One link value (RFC 8288 §3); None for what is elsewhere, or could not be told as it is."""
    more = [(name, given[name]) for name in _TOLD if name in given]
    if not _URL.fullmatch(url) or not all(_PLAIN.fullmatch(text) for _, text in more):
        return None
    return f"<{url}>; rel={relation}" + "".join(f'; {name}="{text}"' if text else f"; {name}" for name, text in more)
