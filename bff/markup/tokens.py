"""HTML as a tokenizer and a tree builder see it: expressions that cut bytes into tokens, and what may stand inside what.

The rules are one table: for every element what forbids it there (`forbid`), which facts about the open elements outlive its
start tag (`keep`) and which it adds (`add`). A fragment that keeps them and closes every tag in order is built by browsers
into exactly the tree its tags spell, wherever flow content may stand (HTML, sections 13.2.5 and 13.2.6). Where a rule is
stricter than the standard, repair makes up for it. Knows nothing of fragments, slots or responses.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from enum import IntFlag
from types import MappingProxyType
from typing import Final, NamedTuple

# --- tokens: section 13.2.5 -------------------------------------------------------------------------------------------

# Only single character classes repeat possessively: before Python 3.11.5 a possessive group loses matches (gh-106052).

SPACE: Final = b"\t\n\f\r "
_WS: Final = rb"[\t\n\f\r ]*+"
_VALUE: Final = _WS + rb"=" + _WS + rb"(?:\"[^\"]*+\"|'[^']*+'|[^\t\n\f\r \"'<>=`]++)"
_ATTRIBUTES: Final = rb"(?:[\t\n\f\r ]++[^\t\n\f\r \"'<>/=]++(?:" + _VALUE + rb")?)*" + _WS
_TAG: Final = rb"(/?[A-Za-z][A-Za-z0-9.:_-]*+)(?:>|(" + _ATTRIBUTES + rb")(/?)>)"
_RAW_NAMES: Final = rb"script|style|textarea|title|iframe|xmp|noembed|noframes"
_RAW: Final = (  # spelled for speed; without its end tag it takes the rest, so that no body is scanned twice
    rb"(?=[SsTtIiXxNn])([Ss](?:[Cc](?i:ript)|[Tt](?i:yle))|[Tt](?:[Ee](?i:xtarea)|[Ii](?i:tle))|[Ii](?i:frame)|[Xx](?i:mp)"
    rb"|[Nn][Oo](?i:embed|frames))(?=[\t\n\f\r />])"
    rb"(?:(" + _ATTRIBUTES + rb">[^<]*+(?:<(?!/(?i:\1))[^<]*+)*</(?i:\1)" + _WS + rb">)|(?s:.*+))"
)  # fmt: skip
_COMMENT: Final = rb"!--(?!-?>|\?)[^-]*+(?:-(?!-!?>)[^-]*+)*-->"
_STRICT: Final = _RAW + rb"|" + _TAG + rb"|" + _COMMENT
_BAD: Final = rb"[A-Za-z/!?]"
BAD: Final = re.compile(b"<" + _BAD)
_TEXT: Final = rb"(?:[^\t\n\f\r <]|<(?![A-Za-z/!?]))[^<]*+(?:<(?![A-Za-z/!?])[^<]*+)*"

TOKEN: Final = re.compile(rb"<(?:" + _STRICT + rb"|(" + _BAD + rb")(?s:.*+))")
"""Groups: 1 a raw text element's name, 2 what follows it (nothing: it is not closed); 3 a tag's name (`/p` for `</p>`),
4 its attributes, 5 the slash of `<path/>`; 6 what follows a `<` that begins nothing well-formed. A comment has no group."""

TOKEN_OR_TEXT: Final = re.compile(rb"<(?:" + _STRICT + rb")|[\t\n\f\r ]++|(<" + _BAD + rb"(?s:.*+)|" + _TEXT + rb")")
"""As `TOKEN`, and in group 6 also text that is not white space alone; what `BAD` matches there includes its `<`."""

START: Final = re.compile(_ATTRIBUTES)
"""The attributes of a start tag, from the end of its name on."""

_LOOSE_ATTRIBUTES: Final = (
    rb"(?:[\t\n\f\r /]++|[^\t\n\f\r />][^\t\n\f\r />=]*+"
    rb"(?:"
    + _WS
    + rb"="
    + _WS
    + rb"(?:\"[^\"]*+\"|'[^']*+'|(?=>)|[^\t\n\f\r >\"'][^\t\n\f\r >]*+)|(?!"
    + _WS
    + rb"=)))*"
)

SOUP: Final = re.compile(
    rb"(?P<comment><!--(?:-?>|.*?--!?>|.*))"
    rb"|(?P<bogus></>|<[!?].*?(?:>|\Z)|</[^A-Za-z].*?(?:>|\Z))"
    rb"|<(?i:(?P<raw>" + _RAW_NAMES + rb")(?=[\t\n\f\r />])(?P<rawattributes>" + _LOOSE_ATTRIBUTES + rb")>"
    rb"(?P<content>.*?)(?:(?P<close></(?P=raw)(?=[\t\n\f\r />])(?:" + _LOOSE_ATTRIBUTES + rb">|.*))|\Z))"
    rb"|<(?P<name>/?[A-Za-z][^\t\n\f\r />]*+)(?P<attributes>" + _LOOSE_ATTRIBUTES + rb")>"
    rb"|(?P<torn><[A-Za-z/].*)"
    rb"|(?P<text>(?:[^<]|<(?![A-Za-z/!?]))+)",
    re.DOTALL,
)
"""Any bytes at all as tokens, by the standard's error handling; `torn` is a tag that the end cuts off."""

_LOOSE_ATTRIBUTE: Final = re.compile(
    rb"([^\t\n\f\r />][^\t\n\f\r />=]*+)(?:"
    + _WS
    + rb"="
    + _WS
    + rb"(?:\"([^\"]*+)\"|'([^']*+)'|([^\t\n\f\r >\"'][^\t\n\f\r >]*+))?)?"
)


class Attribute(NamedTuple):
    """One attribute of a start tag: name in lower case, value with its character references resolved."""

    name: str
    value: str
    offset: int  # of its name, in the attributes' text


def attributes(text: bytes) -> list[Attribute]:
    """Every attribute of a start tag in its order, repetitions included; `text` is what stands between name and `>`."""
    found = []
    for match in _LOOSE_ATTRIBUTE.finditer(text):
        name, double, single, bare = (part or b"" for part in match.groups())
        value = html.unescape((double or single or bare).decode(errors="replace"))
        found.append(Attribute(name.decode(errors="replace").lower(), value, match.start()))
    return found


def values(text: bytes) -> dict[str, str]:
    """Attributes by name; of a repeated one the first counts, as in browsers."""
    return {a.name: a.value for a in reversed(attributes(text))}


# --- what may stand inside what: section 13.2.6 -----------------------------------------------------------------------


class Open(IntFlag):
    """Facts about the open elements at one point of a document."""

    P = 1 << 0  # a <p> in button scope: a block would close it
    A = 1 << 1  # an <a> that another would close
    NOBR = 1 << 2
    BUTTON = 1 << 3
    FORM = 1 << 4
    LI = 1 << 5  # an <li> that another would close
    DD = 1 << 6
    HEADING = 1 << 7  # the current element is a heading
    IMPLIED = 1 << 8  # the current element's end tag may be implied
    SELECT = 1 << 9
    OPTION = 1 << 10
    OPTGROUP = 1 << 11
    TABLE = 1 << 12  # only table parts may follow; anything else would be moved before the table
    NO_SECTION = 1 << 13  # no <tbody>, <thead>, <tfoot>, <caption>, <colgroup>
    NO_ROW = 1 << 14
    NO_CELL = 1 << 15
    NO_COL = 1 << 16
    CLOSED = 1 << 17  # no element at all
    SVG = 1 << 18
    MATH = 1 << 19
    NOSCRIPT = 1 << 20
    EMBED = 1 << 21  # inside a <bff-fragment>


class Rule(NamedTuple):
    """How an element fits: refused where any fact of `forbid` holds; inside it hold those of `keep`, and `add`."""

    forbid: int
    keep: int
    add: int
    kind: str  # "" an element with an end tag, "void", "raw", "part" of a table, "never", or a name that needs a closer look
    end: bytes  # the token of its end tag


FLOW: Final = int(Open.NO_SECTION | Open.NO_ROW | Open.NO_CELL | Open.NO_COL)
"""Facts at the top of a fragment, or of a template, that does not begin with a part of a table."""

ROWS: Final = int(Open.TABLE | Open.NO_COL)
"""Facts at the top of one that does."""

FOREIGN: Final = int(Open.SVG | Open.MATH)

_FAR: Final = int(Open.FORM | Open.NOSCRIPT | Open.EMBED)  # outlives the borders of cells and objects
_PHRASING: Final = int(
    _FAR | Open.P | Open.A | Open.NOBR | Open.BUTTON | Open.LI | Open.DD | Open.SELECT | Open.OPTION | Open.OPTGROUP
)
_SPECIAL: Final = int(_PHRASING & ~(Open.LI | Open.DD))  # a "special" element hides an open <li> or <dd>
_NOT_HERE: Final = int(Open.TABLE | Open.CLOSED | Open.SVG | Open.MATH)


def _rule(name: str, forbid: int = 0, keep: int = _PHRASING, add: int = FLOW, kind: str = "") -> Rule:
    return Rule(_NOT_HERE | forbid, keep, add, kind, b"/" + name.encode())


def _plain(rules: Mapping[str, Rule]) -> dict[bytes, Rule]:
    """The table as the hot path wants it: bytes for names, and machine integers instead of flags."""
    return {n.encode(): Rule(int(r.forbid), int(r.keep), int(r.add), r.kind, r.end) for n, r in rules.items()}


def _rules() -> dict[bytes, Rule]:  # a table: one line an element
    rules: dict[str, Rule] = {}

    def put(  # noqa: PLR0917 - a row of the table
        names: str, forbid: int = 0, keep: int = _PHRASING, add: int = FLOW, kind: str = "", without: int = 0
    ) -> None:
        for name in names.split():
            rule = _rule(name, forbid, keep, add, kind)
            rules[name] = rule._replace(forbid=rule.forbid & ~without)

    put("html head body frameset frame base plaintext image isindex", kind="never")
    put("span b big code em font i s small strike strong tt u abbr cite dfn kbd samp var sub sup q time data label ins del "
        "mark bdi bdo output progress meter ruby audio video picture canvas map datalist legend slot")  # fmt: skip
    put("a", Open.A, add=FLOW | Open.A)
    put("nobr", Open.NOBR, add=FLOW | Open.NOBR)
    put("div address", Open.P)
    put("article aside blockquote center details dialog dir dl fieldset figcaption figure footer header hgroup main menu nav "
        "ol section summary ul pre listing", Open.P, _SPECIAL)  # fmt: skip
    put("search", Open.P)
    put("p", Open.P | Open.SELECT, add=FLOW | Open.P | Open.IMPLIED)
    put("h1 h2 h3 h4 h5 h6", Open.P | Open.HEADING, _SPECIAL, FLOW | Open.HEADING)
    put("li", Open.P | Open.LI | Open.SELECT, _SPECIAL, FLOW | Open.LI | Open.IMPLIED)
    put("dd dt", Open.P | Open.DD | Open.SELECT, _SPECIAL, FLOW | Open.DD | Open.IMPLIED)
    put("rb rp rt rtc", Open.IMPLIED | Open.SELECT, add=FLOW | Open.IMPLIED)
    put("form", Open.P | Open.FORM, _SPECIAL, FLOW | Open.FORM, "form")
    put("button", Open.BUTTON, _SPECIAL & ~Open.P, FLOW | Open.BUTTON)
    put("select", Open.SELECT, _PHRASING, FLOW | Open.SELECT)
    put("option", Open.OPTION | Open.IMPLIED, add=FLOW | Open.OPTION | Open.IMPLIED)
    put("optgroup", Open.OPTION | Open.OPTGROUP | Open.IMPLIED, add=FLOW | Open.OPTGROUP)
    put("object applet marquee", Open.SELECT, _FAR)
    put("noscript", Open.NOSCRIPT | Open.SELECT, _SPECIAL, FLOW | Open.NOSCRIPT, "noscript")
    put("hr", Open.P | Open.OPTION | Open.OPTGROUP, kind="void")
    put("br wbr img embed area param source track bgsound basefont", kind="void")
    put("input", Open.SELECT, kind="void")
    put("keygen", Open.SELECT, kind="void")
    put("meta", kind="meta")
    put("link", kind="link")
    put("table", Open.P | Open.SELECT, _FAR, Open.TABLE | Open.NO_CELL | Open.NO_COL)
    put("caption", Open.NO_SECTION, _FAR, FLOW, "part", Open.TABLE)
    put(
        "thead tbody tfoot",
        Open.NO_SECTION,
        _FAR,
        Open.TABLE | Open.NO_SECTION | Open.NO_CELL | Open.NO_COL,
        "part",
        Open.TABLE,
    )
    put("colgroup", Open.NO_SECTION, _FAR, FLOW & ~Open.NO_COL | Open.TABLE | Open.CLOSED, "part", Open.TABLE)
    put("tr", Open.NO_ROW, _FAR, FLOW & ~Open.NO_CELL | Open.TABLE, "part", Open.TABLE)
    put("td th", Open.NO_CELL, _FAR, FLOW, "part", Open.TABLE)
    put("col", Open.NO_COL, kind="void", without=Open.TABLE | Open.CLOSED)
    put("template", keep=Open.NOSCRIPT | Open.EMBED, add=0, kind="template", without=Open.TABLE)
    put("bff-fragment", Open.EMBED, add=FLOW | Open.EMBED, kind="embed")
    put("svg", Open.SELECT, add=FLOW | Open.SVG)
    put("math", Open.SELECT, add=FLOW | Open.MATH)
    put("script", kind="raw", without=Open.TABLE)
    put("style", Open.SELECT, kind="raw", without=Open.TABLE)
    put("textarea title iframe", Open.SELECT, kind="raw")
    put("xmp noembed noframes", kind="never")
    return _plain(rules)


RULES: Final[Mapping[bytes, Rule]] = MappingProxyType(_rules())
ORDINARY: Final = Rule(_NOT_HERE, _PHRASING, FLOW, "", b"")
PLAIN: Final[Mapping[bytes, Rule]] = {name: rule for name, rule in RULES.items() if not rule.kind}
PLAIN_OR_PART: Final[Mapping[bytes, Rule]] = {n: rule for n, rule in RULES.items() if rule.kind in {"", "part"}}
PARTS: Final = frozenset(name for name, rule in RULES.items() if rule.kind == "part")

_SVG: Final = (
    "a animate animatemotion animatetransform circle clippath defs desc ellipse feblend fecolormatrix fecomponenttransfer "
    "fecomposite feconvolvematrix fediffuselighting fedisplacementmap fedistantlight fedropshadow feflood fefunca fefuncb "
    "fefuncg fefuncr fegaussianblur feimage femerge femergenode femorphology feoffset fepointlight fespecularlighting "
    "fespotlight fetile feturbulence filter foreignobject g image line lineargradient marker mask metadata mpath path "
    "pattern polygon polyline radialgradient rect set stop svg switch symbol text textpath tspan use view"
)
_MATH: Final = (
    "maction math menclose merror mfenced mfrac mmultiscripts mpadded mphantom mprescripts mroot mrow mspace msqrt mstyle "
    "msub msubsup msup mtable mtd mtr mlabeledtr munder munderover mover none semantics annotation"
)


def _foreign() -> dict[bytes, Rule]:
    """SVG and MathML elements that nothing in their content can break out of (section 13.2.6.5)."""
    keep = _PHRASING | FOREIGN
    rules = {n: Rule(Open.CLOSED | Open.MATH, keep, FLOW, "", b"/" + n.encode()) for n in _SVG.split()}
    rules |= {n: Rule(Open.CLOSED | Open.SVG, keep, FLOW, "", b"/" + n.encode()) for n in _MATH.split()}
    for name in ("mi", "mo", "mn", "ms", "mtext"):
        rules[name] = Rule(Open.CLOSED | Open.SVG, keep, FLOW | Open.CLOSED, "", b"/" + name.encode())
    rules["desc"] = rules["desc"]._replace(add=FLOW | Open.CLOSED)
    inner = _PHRASING & ~(Open.P | Open.LI | Open.DD | Open.BUTTON | Open.NOBR)
    rules["foreignobject"] = rules["foreignobject"]._replace(keep=inner)
    return _plain(rules)


FOREIGN_RULES: Final[Mapping[bytes, Rule]] = MappingProxyType(_foreign())


def html_rule(name: bytes) -> Rule:
    """The rule of any HTML element, by its name in lower case; one that the standard does not know is ordinary."""
    return RULES.get(name) or ORDINARY._replace(end=b"/" + name)
