"""The fields we add: their form, and that a peer's words can't break out of them."""

from __future__ import annotations

import email
from email.utils import parsedate_to_datetime

import pytest

from onedomain.protocol.message.date import format_date
from onedomain.protocol.message.stamp import (
    Hop,
    build_date,
    build_delivery_id,
    build_message_id,
    build_received,
    build_trace,
    harmless,
)


@pytest.mark.parametrize("seconds", [0, 880127706, 951782399.9, 4102444800, 1709164800])
def test_date(seconds: float) -> None:
    assert parsedate_to_datetime(format_date(seconds)).timestamp() == int(seconds)



def test_received() -> None:
    hop = Hop("mail.example.org", "192.0.2.1", "mx.example.com", tls="TLSv1.3 with cipher TLS_AES_256_GCM_SHA384")
    assert build_received(hop, "Q1", 0, recipient="a..b@docomo.ne.jp") == (
        b"Received: from mail.example.org ([192.0.2.1])\r\n\tby mx.example.com (OneDomain) with ESMTPS id Q1\r\n"
        b"\t(TLSv1.3 with cipher TLS_AES_256_GCM_SHA384)\r\n\tfor <a..b@docomo.ne.jp>;\r\n"
        b"\tThu, 01 Jan 1970 00:00:00 +0000\r\n")


@pytest.mark.parametrize(("hello", "client", "start"), [
    ("[192.0.2.1]", "192.0.2.1", b"from [192.0.2.1]\r\n"),
    ("bad_(name)", "2001:db8::1", b"from [IPv6:2001:db8::1] (helo=bad_?name?)\r\n"),
    ("x\r\nBcc: y", "192.0.2.1", b"from [192.0.2.1] (helo=x??Bcc:?y)\r\n"),
    ("", "192.0.2.1", b"from [192.0.2.1]\r\n"),
    ("日本", "192.0.2.1", b"from [192.0.2.1] (helo=??)\r\n"),
])
def test_whatever_the_client_called_itself(hello: str, client: str, start: bytes) -> None:
    built = build_received(Hop(hello, client, "e"), "Q", 0)
    assert built.startswith(b"Received: " + start)
    assert len(email.message_from_bytes(built + b"\r\n").items()) == 1


@pytest.mark.parametrize(("hop", "protocol"), [
    (Hop("a", "b", "c", extended=False), "SMTP"),
    (Hop("a", "b", "c"), "ESMTP"),
    (Hop("a", "b", "c", tls="x"), "ESMTPS"),
    (Hop("a", "b", "c", login=True), "ESMTPA"),
    (Hop("a", "b", "c", tls="x", login=True), "ESMTPSA"),
    (Hop("a", "b", "c", smtputf8=True, tls="x"), "UTF8SMTPS"),
    (Hop("a", "b", "c", lmtp=True), "LMTP"),
])
def test_protocol_names(hop: Hop, protocol: str) -> None:
    assert hop.protocol == protocol


def test_small_fields() -> None:
    assert build_trace("example.com", "e1", "Q") == b"X-OneDomain-Trace: cluster=example.com; edge=e1; id=Q\r\n"
    assert build_delivery_id("Q") == b"X-OneDomain-Delivery: Q\r\n"
    assert build_date(0) == b"Date: Thu, 01 Jan 1970 00:00:00 +0000\r\n"
    assert build_message_id("Q", "e1") == b"Message-ID: <Q@e1>\r\n"


def test_harmless() -> None:
    every = "".join(map(chr, range(0x250)))
    for c in map(harmless, every):
        assert c.isascii() and c not in '()<>"\\,; \t\r\n\0'
    assert harmless("用", utf8=True) == "用" and harmless("\u2028\u0085", utf8=True) == "??"
    assert len(harmless("x" * 1000)) == 255
