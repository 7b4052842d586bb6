"""What a browser's parser makes of a fragment among others: the oracle of the markup tests."""

from selectolax.lexbor import LexborDocumentOptions, LexborHTMLParser, LexborNode

_PLACES = {  # before the fragment, after it, and what stands for it among the children of <body>
    "in its wrapper": (b"<bff-fragment>", b"</bff-fragment>", ["bff-fragment"]),
    "in a late template": (b'<template for="s1.x"><bff-fragment>', b"</bff-fragment></template>", ["template"]),
    "in a late template without wrapper": (b'<template for="s1.x">', b"</template>", ["template"]),
    "without wrapper": (b"", b"", None),
}


def stands_alone(body: bytes) -> bool:
    """Whether the elements around the fragment stay siblings, with scripts on and off, wherever it is written."""
    return all(
        _siblings(body, *place, scripting=scripting) for place in _PLACES.values() for scripting in (False, True)
    ) and _stable(body)


def _page(body: bytes, *, scripting: bool = False) -> LexborHTMLParser:
    page = (
        b"<!doctype html><html><head></head><body><div id=a></div>"
        + body
        + b"<div id=b></div><p id=c></p></body></html>"
    )
    return LexborHTMLParser(page, options=LexborDocumentOptions.WO_EVENTS, scripting=scripting)


def _siblings(body: bytes, before: bytes, after: bytes, inside: list[str] | None, *, scripting: bool) -> bool:
    children = _elements(_page(before + body + after, scripting=scripting).body)
    names = [node.attributes.get("id") or node.tag for node in children]
    return names[0] == "a" and names[-2:] == ["b", "c"] and (inside is None or names[1:-2] == inside)


def _elements(parent: LexborNode | None) -> list[LexborNode]:
    found = []
    node = parent.first_child if parent else None
    while node is not None:
        if node.is_element_node:
            found.append(node)
        node = node.next
    return found


def _stable(body: bytes) -> bool:
    """Written out and read again it is the same tree; a leading newline of <pre> and <textarea> is lexbor's own matter."""
    first = _inside(body)
    return b"<pre" in body.lower() or b"<textarea" in body.lower() or _inside(first.encode()) == first


def _inside(body: bytes) -> str:
    node = _page(b"<bff-fragment>" + body + b"</bff-fragment>").css_first("body > bff-fragment")
    return (node.inner_html if node else None) or ""
