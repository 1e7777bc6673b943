"""MAIL, RCPT, BDAT and XCLIENT lines: what is taken, what is refused, and with which code."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onedomain.model.address import Address
from onedomain.model.failure import Failed
from onedomain.protocol.smtp.command import Extensions, parse_bdat, parse_mail, parse_rcpt, parse_xclient
from onedomain.protocol.smtp.event import Mail, Rcpt

ALL = Extensions(auth=True)
NONE = Extensions(smtputf8=False, dsn=False)


@pytest.mark.parametrize(("line", "mail"), [
    (b"MAIL FROM:<>", Mail(None)),
    (b"mail from:<a@b.c>", Mail(Address("a", "b.c"))),
    (b"MAIL FROM: <a@b.c>", Mail(Address("a", "b.c"))),
    (b"MAIL FROM :<a@b.c>", Mail(Address("a", "b.c"))),
    (b"MAIL FROM:a@b.c", Mail(Address("a", "b.c"))),
    (b"MAIL FROM:a@b.c SIZE=7", Mail(Address("a", "b.c"), size=7)),
    (b"MAIL FROM:<a..b@docomo.ne.jp>", Mail(Address("a..b", "docomo.ne.jp"))),
    (b"MAIL FROM:<a.@ezweb.ne.jp>", Mail(Address("a.", "ezweb.ne.jp"))),
    (b"MAIL FROM:<.a@b>", Mail(Address(".a", "b"))),
    (b'MAIL FROM:<"a >@\\" b"@c>', Mail(Address('"a >@\\" b"', "c"))),
    (b"MAIL FROM:<@x.org,@y.org:a@b.c>", Mail(Address("a", "b.c"))),
    (b"MAIL FROM:<@x.org:a@b.c>", Mail(Address("a", "b.c"))),
    (b"MAIL FROM:<a@[192.0.2.1]>", Mail(Address("a", "[192.0.2.1]"))),
    (b"MAIL FROM:<a@[IPv6:2001:db8::1]>", Mail(Address("a", "[IPv6:2001:db8::1]"))),
    (b"MAIL FROM:<a@b> body=8bitmime size=12", Mail(Address("a", "b"), 12, True)),
    (b"MAIL FROM:<> BODY=7BIT RET=hdrs ENVID=a+2Bb", Mail(None, ret="HDRS", envid="a+b")),
    (b"MAIL FROM:<a@b> AUTH=<>", Mail(Address("a", "b"))),
    (b"MAIL FROM:<a@b>  SIZE=0 ", Mail(Address("a", "b"))),
    ("MAIL FROM:<送信@例.jp> SMTPUTF8".encode(), Mail(Address("送信", "例.jp"), smtputf8=True)),
    (b"MAIL FROM:<a@b> SMTPUTF8 SIZE=3", Mail(Address("a", "b"), 3, smtputf8=True)),
])
def test_mail(line: bytes, mail: Mail) -> None:
    assert parse_mail(line, ALL) == mail


@pytest.mark.parametrize(("line", "rcpt"), [
    (b"RCPT TO:<a@b>", Rcpt(Address("a", "b"))),
    (b"RCPT TO:<Postmaster>", Rcpt(Address("Postmaster", ""))),
    (b"RCPT TO:<@hub.org:a@b>", Rcpt(Address("a", "b"))),
    (b"RCPT TO:<a@b> NOTIFY=success,FAILURE ORCPT=rfc822;x+2By@z",
     Rcpt(Address("a", "b"), "SUCCESS,FAILURE", "x+y@z")),
    (b"RCPT TO:<a@b> NOTIFY=NEVER", Rcpt(Address("a", "b"), "NEVER")),
    (b"RCPT TO:<a@b> ORCPT=utf-8;\\x{7528}@b", Rcpt(Address("a", "b"), "", "用@b")),
])
def test_rcpt(line: bytes, rcpt: Rcpt) -> None:
    assert parse_rcpt(line, ALL, smtputf8=False) == rcpt


@pytest.mark.parametrize(("line", "code"), [
    (b"MAIL", 501), (b"MAIL FROM", 501), (b"MAIL FROM:", 501), (b"MAIL FROM:<a@b", 501), (b"MAIL FROM:a@b>", 501),
    (b"MAIL FROM:<a@b>x", 501), (b"MAIL FROM:<a@b>SIZE=1", 501), (b"MAIL FROM:<a@b><c@d>", 501),
    (b"MAIL FROM:<<a@b>>", 501), (b"MAIL TO:<a@b>", 501), (b"MAIL FROM:<a>", 501), (b"MAIL FROM:<a@>", 501),
    (b"MAIL FROM:<@b>", 501), (b"MAIL FROM:<@x:>", 501), (b"MAIL FROM:<a b@c>", 501), (b"MAIL FROM:< a@b>", 501),
    (b"MAIL FROM:<" + b"x" * 65 + b"@b>", 501), (b"MAIL FROM:<a@" + b"x" * 256 + b">", 501),
    (b"MAIL FROM:<a@b> SIZE", 501), (b"MAIL FROM:<a@b> SIZE=-1", 501), (b"MAIL FROM:<a@b> SIZE=" + b"9" * 21, 501),
    (b"MAIL FROM:<a@b> SIZE=1 SIZE=2", 501), (b"MAIL FROM:<a@b> BODY=BINARYMIME", 501),
    (b"MAIL FROM:<a@b> RET=ALL", 501), (b"MAIL FROM:<a@b> ENVID=", 501), (b"MAIL FROM:<a@b> ENVID=+0A", 501),
    (b"MAIL FROM:<a@b> ENVID=" + b"x" * 101, 501),
    (b"MAIL FROM:<a@b> SMTPUTF8=yes", 501), (b"MAIL FROM:<a@b> FOO=bar", 555), (b"MAIL FROM:<\xff@b>", 501),
    ("MAIL FROM:<用@b>".encode(), 553), ("MAIL FROM:<用@b> SIZE=1".encode(), 553),
    (b"MAIL FROM:<a@b> NOTIFY=NEVER", 555), ("MAIL FROM:<a\x9b31m@b> SMTPUTF8".encode(), 501),
])
def test_bad_mail(line: bytes, code: int) -> None:
    with pytest.raises(Failed) as caught:
        parse_mail(line, ALL)
    assert caught.value.failure.code == code


@pytest.mark.parametrize(("line", "code"), [
    (b"RCPT TO:<>", 501), (b"RCPT TO:<someone>", 501), (b"RCPT TO:<a@b> NOTIFY=NEVER,DELAY", 501),
    (b"RCPT TO:<a@b> NOTIFY=", 501), (b"RCPT TO:<a@b> ORCPT=x", 501), (b"RCPT TO:<a@b> ORCPT=rfc822;+0D+0A", 501),
    (b"RCPT TO:<a@b> ORCPT=utf-8;\\x{0A}", 501), (b"RCPT TO:<a@b> ORCPT=utf-8;\\x{D800}", 501),
    (b"RCPT TO:<a@b> ORCPT=utf-8;\\x{FFFFFF}", 501), (b"RCPT TO:<a@b> ORCPT=rfc822;" + b"x" * 500, 501),
    (b"RCPT TO:<a@b> SIZE=1", 555), ("RCPT TO:<用@b>".encode(), 553),
])
def test_bad_rcpt(line: bytes, code: int) -> None:
    with pytest.raises(Failed) as caught:
        parse_rcpt(line, ALL, smtputf8=False)
    assert caught.value.failure.code == code


@pytest.mark.parametrize("word", [b"SMTPUTF8", b"RET=FULL", b"ENVID=x", b"AUTH=<>"])
def test_what_is_not_offered_is_unknown(word: bytes) -> None:
    with pytest.raises(Failed) as caught:
        parse_mail(b"MAIL FROM:<a@b> " + word, NONE)
    assert caught.value.failure.code == 555
    assert parse_mail(b"MAIL FROM:<a@b> " + word, ALL).sender == Address("a", "b")


def test_utf8_recipient() -> None:
    assert parse_rcpt("RCPT TO:<用@例>".encode(), ALL, smtputf8=True) == Rcpt(Address("用", "例"))


@pytest.mark.parametrize(("line", "found"), [
    (b"BDAT 0", (0, False)), (b"bdat 12 last", (12, True)), (b"BDAT  5  LAST ", (5, True)),
    (b"BDAT 99999999999999999999", None),
    (b"BDAT", None), (b"BDAT LAST", None), (b"BDAT 1 2", None), (b"BDAT +1", None), (b"BDAT 1LAST", None)])
def test_bdat(line: bytes, found: tuple[int, bool] | None) -> None:
    assert parse_bdat(line) == found


@given(st.binary(max_size=200), st.sampled_from([b"MAIL FROM:", b"RCPT TO:<", b"XCLIENT ", b"MAIL FROM:<a@b> "]))
@settings(max_examples=300, deadline=None)
def test_random_lines(tail: bytes, head: bytes) -> None:
    for parse in (lambda line: parse_mail(line, ALL), lambda line: parse_rcpt(line, ALL, smtputf8=True), parse_xclient):
        try:
            parse(head + tail)
        except Failed as failed:
            assert 500 <= failed.failure.code < 560 and failed.failure.text


def test_long_quoted_path_takes_no_time() -> None:
    # an expression that backtracks would take for ever
    with pytest.raises(Failed):
        parse_mail(b'MAIL FROM:<"' + b'\\"' * 900 + b"<" * 100, ALL)
    with pytest.raises(Failed):
        parse_mail(b"MAIL FROM:<" + b'""' * 1000, ALL)
