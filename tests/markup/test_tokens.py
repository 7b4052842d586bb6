"""Tokens are cut where the standard cuts them."""

from bff.markup.tokens import BAD, FOREIGN_RULES, RULES, SOUP, TOKEN, TOKEN_OR_TEXT, attributes, html_rule, values


def kinds(text: bytes) -> list[str | None]:
    return [token.lastgroup for token in SOUP.finditer(text)]


def test_attributes_come_in_order_with_their_place() -> None:
    found = attributes(b" A=1 b = 'x&amp;y' c d=\"\" / =e f=>")
    assert [(a.name, a.value, a.offset) for a in found] == [
        ("a", "1", 1), ("b", "x&y", 5), ("c", "", 19), ("d", "", 21), ("=e", "", 28), ("f", "", 31),
    ]  # fmt: skip


def test_of_a_repeated_attribute_the_first_counts() -> None:
    assert values(b" a=1 A=2 b") == {"a": "1", "b": ""}


def test_soup_takes_everything() -> None:
    text = b'a<b x"y<c=\'>\'>z<!-->u<?pi x>q<style>a</stylex></style a=">">t< 3</><!doctype x></ x><i'
    assert b"".join(token[0] for token in SOUP.finditer(text)) == text
    assert kinds(text) == [
        "text", "attributes", "text", "comment", "text", "bogus", "text", "close", "text", "bogus", "bogus", "bogus", "torn",
    ]  # fmt: skip


def test_soup_ends_comments_and_raw_text_as_browsers_do() -> None:
    assert [t[0] for t in SOUP.finditer(b"<!--a--!>b<!--->c<!--d")] == [b"<!--a--!>", b"b", b"<!--->", b"c", b"<!--d"]
    (torn,) = SOUP.finditer(b"<script>a</scriptx><p>")
    assert torn["close"] is None
    (closed,) = SOUP.finditer(b"<script>a</script x='")
    assert closed["content"] == b"a"


def test_what_begins_nothing_takes_the_rest() -> None:
    assert TOKEN.findall(b"<p><!x><p>")[-1][5] == b"!"
    assert len(TOKEN.findall(b"<!--" * 1000)) == 1
    assert len(TOKEN.findall(b"<style>" * 1000)) == 1
    assert BAD.match(TOKEN_OR_TEXT.findall(b"a<!x>b")[-1][5])


def test_every_rule_says_what_ends_it() -> None:
    assert all(rule.end == b"/" + name for name, rule in (*RULES.items(), *FOREIGN_RULES.items()))
    assert html_rule(b"x-card").end == b"/x-card"
    assert not html_rule(b"x-card").kind
