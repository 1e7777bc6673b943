"""Address lists as ENVELOPE shows them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onedomain.protocol.message.addresses import Mailbox, parse_addresses


def one(name: bytes | None, mailbox: bytes, host: bytes, route: bytes | None = None) -> list[Mailbox]:
    return [Mailbox(name, route, mailbox, host)]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"a@x.jp", one(None, b"a", b"x.jp")),
        (b"<a@x.jp>", one(None, b"a", b"x.jp")),
        (b"Taro Yamada <a@x.jp>", one(b"Taro Yamada", b"a", b"x.jp")),
        (b'"Yamada, Taro" <a@x.jp>', one(b"Yamada, Taro", b"a", b"x.jp")),
        (b'"a \\"b\\"" <a@x.jp>', one(b'a "b"', b"a", b"x.jp")),
        (b"a@x.jp (Taro (the) Yamada)", one(b"Taro (the) Yamada", b"a", b"x.jp")),
        (b"J. Smith <a@x.jp>", one(b"J. Smith", b"a", b"x.jp")),
        (b"a..b@docomo.ne.jp", one(None, b"a..b", b"docomo.ne.jp")),
        (b"a.@ezweb.ne.jp", one(None, b"a.", b"ezweb.ne.jp")),
        (b'"a b"@x.jp', one(None, b"a b", b"x.jp")),
        (b"<@r1,@r2:a@x.jp>", one(None, b"a", b"x.jp", b"@r1,@r2")),
        (b"a@[192.0.2.1]", one(None, b"a", b"[192.0.2.1]")),
        (b"=?utf-8?B?5bGx?= <a@x.jp>", one(b"=?utf-8?B?5bGx?=", b"a", b"x.jp")),
        (b"\x8eR\x93c <a@x.jp>", one(b"\x8eR\x93c", b"a", b"x.jp")),
        (b"MAILER-DAEMON", one(None, b"MAILER-DAEMON", b"")),
        (b"<>", one(None, b"", b"")),
        (b"Name <a@x.jp", one(b"Name", b"a", b"x.jp")),
        (b"a@x.jp, , b@y.jp,", [*one(None, b"a", b"x.jp"), *one(None, b"b", b"y.jp")]),
        (b"G: a@x.jp, B <b@y.jp>;", [
            Mailbox(None, None, b"G", None), *one(None, b"a", b"x.jp"), *one(b"B", b"b", b"y.jp"),
            Mailbox(None, None, None, None)]),
        (b"undisclosed-recipients:;", [Mailbox(None, None, b"undisclosed-recipients", None),
                                       Mailbox(None, None, None, None)]),
        (b"", []),
        (b"(only a comment)", []),
    ],
)  # fmt: skip
def test_addresses(value: bytes, found: list[Mailbox]) -> None:
    assert parse_addresses(value) == found


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=60), st.text("ab<>@,;:.\"\\() []", max_size=40).map(str.encode)))
def test_anything_gives_some_list(value: bytes) -> None:
    parse_addresses(value)
