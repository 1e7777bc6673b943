"""The tree of MIME parts: real shapes, broken shapes, and that any bytes give some tree."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onedomain.protocol.imap.render import body_structure
from onedomain.protocol.message.structure import Part, header_end, parse, raw_fields

MIXED = (
    b"Subject: outer\r\nContent-Type: multipart/mixed;\r\n boundary=\"a b\"\r\n\r\n"
    b"preamble\r\n--a b\r\n\r\nplain\r\n--a b  \r\nContent-Type: multipart/alternative; boundary=a\r\n\r\n"
    b"--a\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: BASE64\r\n\r\nPGI+\r\n--a--\r\n"
    b"\r\n--a b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\ninside\r\n--a b--\r\nepilogue\r\n"
)


def shape(part: Part) -> object:
    name = f"{part.type.decode()}/{part.subtype.decode()}"
    if part.message is not None:
        return (name, shape(part.message))
    return (name, *map(shape, part.children)) if part.children else name


def text(data: bytes, part: Part) -> bytes:
    return data[part.body[0]:part.body[1]]


def test_parts_and_their_bytes() -> None:
    root = parse(MIXED, 0, len(MIXED))
    assert shape(root) == (
        "multipart/mixed", "text/plain", ("multipart/alternative", "text/html"), ("message/rfc822", "text/plain"),
    )  # fmt: skip
    plain, alternative, forwarded = root.children
    assert text(MIXED, plain) == b"plain"
    assert text(MIXED, alternative.children[0]) == b"PGI+"
    assert forwarded.message is not None and text(MIXED, forwarded.message) == b"inside"
    assert MIXED[forwarded.message.header[0]:forwarded.message.header[1]] == b"Subject: inner\r\n\r\n"


def test_spans_hold_in_a_larger_buffer() -> None:
    padded = b"x" * 17 + MIXED + b"y" * 5
    root = parse(padded, 17, 17 + len(MIXED))
    assert body_structure(padded, root, True) == body_structure(MIXED, parse(MIXED, 0, len(MIXED)), True)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "text/plain"),
        (b"\r\nbody", "text/plain"),
        (b"Subject: no blank line", "text/plain"),
        (b"Content-Type: nonsense\r\n\r\n", "text/plain"),
        (b"Content-Type: TEXT/Html\r\n\r\n", "text/html"),
        (b"Content-Type: multipart/mixed\r\n\r\nno boundary", ("multipart/mixed", "text/plain")),
        (b"Content-Type: multipart/mixed; boundary=x\r\n\r\nnone of them", ("multipart/mixed", "text/plain")),
        (b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nno end", ("multipart/mixed", "text/plain")),
        (b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--xy\r\n--x\r\n", ("multipart/mixed", "text/plain")),
        (b"Content-Type: multipart/mixed; boundary=x\n\n--x\n\na\n--x\n\nb\n--x--\n",
         ("multipart/mixed", "text/plain", "text/plain")),
        (b"Content-Type: multipart/digest; boundary=x\r\n\r\n--x\r\n\r\nSubject: a\r\n\r\nb\r\n--x--",
         ("multipart/digest", ("message/rfc822", "text/plain"))),
        (b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nxxxx", "application/octet-stream"),
    ],
)  # fmt: skip
def test_odd_messages_have_a_shape(data: bytes, expected: object) -> None:
    assert shape(parse(data, 0, len(data))) == expected


def test_an_inner_part_without_an_end_stops_at_the_outer_boundary() -> None:
    data = (
        b"Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\nContent-Type: multipart/mixed; boundary=i\r\n\r\n"
        b"--i\r\n\r\nin\r\n--o\r\n\r\nout\r\n--o--\r\n"
    )
    root = parse(data, 0, len(data))
    assert shape(root) == ("multipart/mixed", ("multipart/mixed", "text/plain"), "text/plain")
    assert text(data, root.children[0].children[0]) == b"in" and text(data, root.children[1]) == b"out"


def test_depth_and_number_of_parts_are_bounded() -> None:
    nested = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(200))
    assert len(list(parse(nested, 0, len(nested)).walk())) < 60
    many = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\n" * 20_000
    assert len(list(parse(many, 0, len(many)).walk())) <= 10_001


def test_body_structure_says_what_is_there() -> None:
    data = (
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: text/plain; charset=\"iso-2022-jp\"\r\n"
        b"Content-ID: <1@x>\r\nContent-Description: a \"b\"\r\nContent-Disposition: attachment; filename=\"c\\\"d\"\r\n"
        b"Content-Language: ja, en\r\n\r\n1\r\n2\r\n--x--\r\n"
    )
    assert body_structure(data, parse(data, 0, len(data)), True) == (
        b'(("text" "plain" ("charset" "iso-2022-jp") "<1@x>" "a \\"b\\"" "7bit" 4 1 NIL '
        b'("attachment" ("filename" "c\\"d")) ("ja" "en") NIL) "mixed" ("boundary" "x") NIL NIL NIL)'
    )


def test_raw_fields_give_back_the_header() -> None:
    header = b"A: 1\r\nB : 2\r\n folded\r\nA: 3\r\n\r\n"
    assert list(raw_fields(header)) == [(b"a", b"A: 1\r\n"), (b"b", b"B : 2\r\n folded\r\n"), (b"a", b"A: 3\r\n")]


@pytest.mark.parametrize(
    ("data", "end"), [(b"A: 1\r\n\r\nb", 8), (b"A: 1\n\nb", 6), (b"\r\nb", 2), (b"\nb", 1), (b"A: 1\r\n", 6), (b"", 0)]
)
def test_where_the_header_ends(data: bytes, end: int) -> None:
    assert header_end(data, 0, len(data)) == end


_PIECES = [
    b"Content-Type: ", b"multipart/mixed", b"; boundary=b", b"message/rfc822", b"text/plain", b"\r\n", b"\n", b"--b",
    b"--", b"Content-Disposition: ", b"attachment; filename=", b'"', b";", b"(", b"\xff", b"x", b" ",
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(_PIECES), max_size=40).map(b"".join)))
def test_any_bytes_give_a_tree_within_themselves(data: bytes) -> None:
    root = parse(data, 0, len(data))
    for part in root.walk():
        assert 0 <= part.header[0] <= part.header[1] <= part.body[0] <= part.body[1] <= len(data)
    rendered = body_structure(data, root, extended=True)
    assert rendered.startswith(b"(") and rendered.endswith(b")")
