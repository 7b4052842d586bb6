"""Whether a fragment's bytes are one well-formed tree wherever they are written, and what of them must be rewritten.

One pass of the tokenizer and a stack: this is the hot path for bytes that were never seen before. It only judges; it is
allowed to refuse what a browser would take well, and never the reverse. Knows nothing of how refused bytes are repaired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from bff.markup import slots
from bff.markup.tokens import (
    BAD,
    FLOW,
    FOREIGN,
    FOREIGN_RULES,
    ORDINARY,
    PARTS,
    PLAIN,
    PLAIN_OR_PART,
    ROWS,
    RULES,
    TOKEN,
    TOKEN_OR_TEXT,
    Open,
    Rule,
    attributes,
    html_rule,
    values,
)
from bff.model import Slot

DEPTH: Final = 256
EMBEDS: Final = 50

Token = tuple[bytes, bytes, bytes, bytes, bytes, bytes]
"""Raw element's name, what follows it; tag's name, attributes, slash; anything else: the groups of `TOKEN`."""

_VOID: Final = ORDINARY._replace(kind="void")
_TABLE: Final = int(Open.TABLE)
_EMBED: Final = int(Open.EMBED)


@dataclass(slots=True)
class Found:
    """What an accepted body holds that cannot go out as it is: index of the token → what to do there.

    "nonce": script or style; "drop"; "title", "canonical", "meta:<name>": what belongs into a page's head, at the top of
    the fragment ("drop" elsewhere); a `Slot`: an embedded fragment.
    """

    special: dict[int, str | Slot] = field(default_factory=dict)
    texts: bool = False  # the indexes are of `TOKEN_OR_TEXT`, not of `TOKEN`
    tabular: bool = False
    form: bool = False
    rooted: bool = False  # a template is the shadow root of what holds the fragment, or of an embedded one's place
    parts: bool = False  # somewhere
    noscripts: int = 0
    embeds: int = 0


def walk(body: bytes, embeds: tuple[str, ...] = ()) -> Found | None:
    """What is to be rewritten in `body`, or None where it is not certain to be one tree in place and in a template."""
    if not readable(body):
        return None
    found = _judge(body, embeds, texts=b"<t" in body and (b"<tr" in body or b"<td" in body))
    if found is not None and found.parts and not found.texts:
        found = _judge(body, embeds, texts=True)
    if found is None:
        return None
    if found.noscripts and body.lower().count(b"</noscript") != found.noscripts:
        return None  # with scripts on, the first of them ends the element, wherever it stands
    return found


def readable(body: bytes) -> bool:
    """Whether it is UTF-8 that browsers take byte for byte."""
    if b"\0" in body or body.startswith(b"\xef\xbb\xbf"):
        return False
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError:
            return False
    return True


def _judge(body: bytes, embeds: tuple[str, ...], *, texts: bool) -> Found | None:  # noqa: C901 - the hot loop, unrolled
    """Walk the tokens with a stack. `expected` is the token that would end the current element.

    `texts`: text counts too, which is forbidden between the parts of a table. Most fragments have none and save that.
    """
    tokens: list[Token] = (TOKEN_OR_TEXT if texts else TOKEN).findall(body)
    if tokens and (last := tokens[-1][5]) and (not texts or BAD.match(last)):
        return None  # what begins nothing well-formed takes the rest
    found = Found(texts=texts)
    plain, deep = (PLAIN_OR_PART if texts else PLAIN).get, len(tokens) > DEPTH
    stack: list[tuple[bytes, int]] = []
    expected, context = b"-", top(tokens, 0)
    found.tabular = context == ROWS
    for index, token in enumerate(tokens):
        name = token[2]
        if name == expected:
            expected, context = stack.pop()
            continue
        rule = plain(name)
        if rule is None or context & rule[0] or token[4]:
            if not name and not token[0]:
                if token[5] and context & _TABLE:
                    return None
                continue
            if name[:1] == b"/":
                if name.lower() != expected:
                    return None
                expected, context = stack.pop()
                continue
            rule = look(tokens, index, context, found, embeds, outermost=not stack)
            if rule is None:
                return None
            if rule[3] == "void":
                continue
        if deep and len(stack) >= DEPTH:
            return None
        stack.append((expected, context))
        expected, context = rule[4], context & rule[1] | rule[2]
    return None if stack else found


def top(tokens: Sequence[Token], start: int) -> int:
    """The facts at the top of a fragment or template: its first element decides (section 13.2.6.4.22)."""
    for index in range(start, len(tokens)):
        name = tokens[index][2]
        if name or tokens[index][0].lower() in {b"textarea", b"iframe"}:
            return ROWS if name.lower() in PARTS else FLOW
    return FLOW


def look(
    tokens: Sequence[Token],
    index: int,
    context: int,
    found: Found,
    embeds: tuple[str, ...],
    *,
    outermost: bool,
) -> Rule | None:
    """The rule of a token that the short way does not settle, of kind "void" where it opens nothing; None refuses it."""
    raw, _, name, text, slash, other = tokens[index]
    known = RULES.get(name)
    if known is not None and known.kind == "void" and not context & known.forbid:
        return _VOID
    if raw:
        return _raw(tokens[index], index, context, found, outermost=outermost)
    if not name:
        return None if other and context & _TABLE else _VOID
    name = name.lower()
    if context & FOREIGN:
        rule = FOREIGN_RULES.get(name)
        if rule is None or context & rule.forbid:
            return None
        return _VOID if slash else rule
    rule = html_rule(name)
    if context & rule.forbid and not _excepted(name, text, context & rule.forbid):
        return None
    if slash and rule.kind not in {"void", "meta", "link"}:
        return _VOID if name in {b"svg", b"math"} else None
    if rule.kind == "template" and (outermost or context & _EMBED):
        found.rooted |= values(text).get("shadowrootmode", "").lower() in {"open", "closed"}
    return _kind(rule, tokens, index, found, embeds, outermost=outermost)


def _excepted(name: bytes, text: bytes, broken: int) -> bool:
    """What a table takes besides its parts: hidden inputs, and slots that leave no wrapper."""
    if broken != _TABLE:
        return False
    if name == b"input":
        return values(text).get("type", "").lower() == "hidden"
    return name == b"bff-fragment" and values(text).get("wrap") == "none"


def _raw(token: Token, index: int, context: int, found: Found, *, outermost: bool) -> Rule | None:
    raw, rest = token[0].lower(), token[1]
    content = rest[: rest.rfind(b"</")]
    rule = RULES[raw]
    if not rest or rule.kind == "never":
        return None
    if context & FOREIGN:  # there, they are ordinary elements: their content is markup
        if raw not in {b"style", b"title"} or b"<" in content or context & (Open.CLOSED | Open.MATH):
            return None
    elif context & rule.forbid or (raw == b"script" and _escapes(content)):
        return None
    elif raw == b"title":
        found.special[index] = "title" if outermost else "drop"
    if raw in {b"script", b"style"}:
        found.special[index] = "nonce"
    return _VOID


def _escapes(content: bytes) -> bool:
    """Whether a script may hide its own end tag (script data double escaped state, section 13.2.5.22)."""
    return b"<!--" in content and b"<script" in content.lower()


def _kind(
    rule: Rule, tokens: Sequence[Token], index: int, found: Found, embeds: tuple[str, ...], *, outermost: bool
) -> Rule | None:
    text = tokens[index][3]
    match rule.kind:
        case "never" | "raw":
            return None
        case "part":
            found.parts = True
        case "form":
            found.form = True
        case "noscript":
            found.noscripts += 1
        case "template":
            if "for" in values(text):
                return None
            return rule._replace(add=top(tokens, index + 1))
        case "meta" | "link":
            return _head(rule.kind, text, index, found, outermost=outermost)
        case "embed":
            slot = embedded(text, embeds, found.embeds)
            if slot is None:
                return None
            found.embeds += 1
            found.special[index] = slot
    return rule


def _head(kind: str, text: bytes, index: int, found: Found, *, outermost: bool) -> Rule | None:
    """What belongs into a page's head is taken out; what would act on the whole page is refused."""
    has = values(text)
    if "http-equiv" in has:
        return None
    if kind == "link":
        key = "canonical" if "canonical" in has.get("rel", "").lower().split() else ""
    else:
        key = meta_key(has)
    if key:
        found.special[index] = key if outermost else "drop"
    return _VOID


def meta_key(has: dict[str, str]) -> str:
    """`meta:<name>` of a `<meta name>` or `<meta property>`; "drop" for a charset; "" for microdata."""
    name = has.get("name") or has.get("property")
    if name:
        return f"meta:{name.lower()}"
    return "drop" if "charset" in has else ""


def embedded(text: bytes, embeds: tuple[str, ...], before: int) -> Slot | None:
    """The slot that a fragment may embed here: declared, with literal parameters, at most fifty (contract §2)."""
    slot, problems = slots.read(attributes(text))
    allowed = not problems and slot.fragment in embeds and slots.literal(slot) and before < EMBEDS
    return slot if allowed else None
