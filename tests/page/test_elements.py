from bff.page.elements import Elements


def opened(*pieces: bytes) -> list[tuple[int, ...]]:
    elements = Elements()
    out = []
    for piece in pieces:
        elements.feed(piece)
        out.append(elements.open)
    return out


def test_open_elements_are_those_without_their_end_tag() -> None:
    assert opened(b"<html><body><main>", b"<div><br><img src='>'>", b"</div>", b"</main>") == [
        (1, 2, 3),
        (1, 2, 3, 4),
        (1, 2, 3),
        (1, 2),
    ]


def test_siblings_are_different_elements() -> None:
    first, second = opened(b"<body><p>", b"</p><p>")
    assert first != second


def test_an_element_without_end_tag_ends_with_its_parent() -> None:
    assert opened(b"<ul><li>", b"</ul>") == [(1, 2), ()]


def test_comments_scripts_and_stray_end_tags_open_nothing() -> None:
    assert opened(b"<body><!-- <div> --><script>'<div>'</script><style>a>b{}</style></p>") == [(1,)]


def test_a_tag_may_be_cut_by_a_hole() -> None:
    assert opened(b'<body><script nonce="', b'">"<div>"</script><main>') == [(1,), (1, 3)] or opened(
        b'<body><script nonce="', b'">"<div>"</script><main>'
    ) == [(1,), (1, 2)]
