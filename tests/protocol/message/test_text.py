"""Words out of headers and bodies, as they really come in Japan."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onedomain.protocol.message.structure import parse
from onedomain.protocol.message.text import decode, decode_header, decode_iso_2022_jp, fold, part_text

SEIKYU = "請求書"
NEC = b"\x1b$B-!-j|b\x1b(B"  # ①㈱髙, none of them in JIS X 0208


def words(text: str, charset: str, codec: str = "") -> bytes:
    return b"=?%b?B?%b?=" % (charset.encode(), base64.b64encode(text.encode(codec or charset)))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"plain", "plain"),
        (words(SEIKYU, "iso-2022-jp"), SEIKYU),
        (words(SEIKYU, "shift_jis"), SEIKYU),
        (words(SEIKYU, "euc-jp"), SEIKYU),
        (words(SEIKYU, "utf-8"), SEIKYU),
        (b"Re: " + words(SEIKYU, "utf-8") + b" (1)", f"Re: {SEIKYU} (1)"),
        (words("請", "utf-8") + b"\r\n " + words("求", "utf-8"), "請求"),
        (words("請", "utf-8") + b" and " + words("求", "utf-8"), "請 and 求"),
        (b"=?utf-8?Q?a_b=3D?=", "a b="),
        (b"=?utf-8*ja?Q?a?=", "a"),
        (b"=?utf-8?B?6KuL5rGC?=", "請求"),
        (b"=?utf-8?B?6Ks?= =?utf-8?B?i+axgg==?=", "請求"),  # cut inside a character
        (b"=?iso-2022-jp?B?" + base64.b64encode(NEC) + b"?=", "①㈱髙"),
        (SEIKYU.encode("cp932"), SEIKYU),
        (SEIKYU.encode("utf-8"), SEIKYU),
        (SEIKYU.encode("iso-2022-jp"), SEIKYU),
        (b"=?x-nope?B?YWJj?=", "abc"),
        (b"=?utf-8?B?!!?=", ""),
        (b"=?utf-8?X?abc?=", "=?utf-8?X?abc?="),
        (b"=?rot13?B?YWJj?=", "abc"),
        (b"=?zlib?B?YWJj?=", "abc"),
    ],
)
def test_headers(value: bytes, text: str) -> None:
    assert decode_header(value) == text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (NEC, "①㈱髙"),
        (b"\x1b(I12\x1b(B", "ｱｲ"),
        (b"\x1b$@@A5a\x1b(J!", "請求!"),
        (b"\x1b$B@A", "請"),
        (b"\x1b$B@A\r\n", "請\r\n"),
        (b"\x1b$(D0!\x1b(B", "丂"),
    ],
)
def test_iso_2022_jp_is_read_as_cp50221(data: bytes, text: str) -> None:
    assert decode_iso_2022_jp(data) == text


@pytest.mark.parametrize(
    ("header", "body", "text"),
    [
        (b"charset=utf-8", SEIKYU.encode(), SEIKYU),
        (b"charset=iso-2022-jp", SEIKYU.encode("iso-2022-jp"), SEIKYU),
        (b"charset=shift_jis\r\nContent-Transfer-Encoding: base64", base64.b64encode(SEIKYU.encode("cp932")), SEIKYU),
        (b"charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable", b"=E8=AB=8B=\r\n=E6=B1=82", "請求"),
        (b"charset=nope", SEIKYU.encode("cp932"), SEIKYU),
    ],
)
def test_bodies(header: bytes, body: bytes, text: str) -> None:
    data = b"Content-Type: text/plain; " + header + b"\r\n\r\n" + body
    assert part_text(data, parse(data, 0, len(data))) == text


def test_tags_do_not_part_words() -> None:
    data = b"Content-Type: text/html; charset=utf-8\r\n\r\n" + "請<b>求</b>&amp;&#35531;".encode()
    assert part_text(data, parse(data, 0, len(data))) == "請求&請"


def test_widths_and_case_are_one() -> None:
    assert fold("ＡＢＣ") == fold("abc") and fold("ｱ") == fold("ア") and fold("㈱") == fold("(株)")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80), st.sampled_from(["", "utf-8", "iso-2022-jp", "utf-7", "idna", "hex", "x"]))
def test_anything_becomes_text(data: bytes, charset: str) -> None:
    assert isinstance(decode(data, charset), str)
    assert isinstance(decode_header(data), str)
    assert isinstance(decode_header(b"=?%b?B?%b?=" % (charset.encode() or b"x", data)), str)
