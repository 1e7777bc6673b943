"""The client's side: which reply answers what, capabilities, commands, LMTP's many answers."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onedomain.model.failure import Kind
from onedomain.protocol.smtp.client import Answer, SmtpClient, Step, parse_capabilities
from onedomain.protocol.smtp.reply import BadReply, Reply, ReplyReader


def answers(client: SmtpClient, data: bytes) -> list[tuple[Step, int, int]]:
    client.receive(data)
    found: list[Answer] = []
    while (answer := client.next_answer()) is not None:
        found.append(answer)
    return [(a.step, a.reply.code, a.recipient) for a in found]


def greeted(*, lmtp: bool = False) -> SmtpClient:
    client = SmtpClient(lmtp=lmtp)
    assert answers(client, b"220 there\r\n") == [(Step.GREETING, 220, -1)]
    return client


def test_rfc_5321_appendix_d1() -> None:
    client = greeted()
    sent = client.hello("bar.com") + client.mail("Smith@bar.com") + client.rcpt("Jones@foo.com")
    sent += client.rcpt("Green@foo.com") + client.rcpt("Brown@foo.com") + client.data()
    assert sent == (
        b"EHLO bar.com\r\nMAIL FROM:<Smith@bar.com>\r\nRCPT TO:<Jones@foo.com>\r\nRCPT TO:<Green@foo.com>\r\n"
        b"RCPT TO:<Brown@foo.com>\r\nDATA\r\n")
    assert answers(client, (
        b"250-foo.com greets bar.com\r\n250-8BITMIME\r\n250-SIZE\r\n250-DSN\r\n250 HELP\r\n250 OK\r\n250 OK\r\n"
        b"550 No such user here\r\n250 OK\r\n354 Start mail input; end with <CRLF>.<CRLF>\r\n")) == [
            (Step.HELLO, 250, -1), (Step.MAIL, 250, -1), (Step.RCPT, 250, 0), (Step.RCPT, 550, 1), (Step.RCPT, 250, 2),
            (Step.DATA, 354, -1)]
    assert client.accepted == (0, 2)
    assert client.body(b"Blah blah blah...\r\n") + client.end() == b"Blah blah blah...\r\n.\r\n"
    assert answers(client, b"250 OK\r\n") == [(Step.BODY, 250, -1)]
    assert client.quit() == b"QUIT\r\n"
    assert client.awaited == 1


def test_lmtp_answers_once_for_each_accepted_recipient() -> None:
    # RFC 2033 section 5
    client = greeted(lmtp=True)
    assert client.hello("foo.edu") == b"LHLO foo.edu\r\n"
    client.mail("chris@bar.com"), client.rcpt("pat@foo.edu"), client.rcpt("jones@foo.edu"), client.rcpt("green@foo.edu")
    client.data()
    answers(client, b"250 foo.edu\r\n250 OK\r\n250 OK\r\n550 No such user here\r\n250 OK\r\n354 go\r\n")
    client.end()
    assert client.awaited == 2
    assert answers(client, b"250 OK\r\n") == [(Step.BODY, 250, 0)]
    assert client.awaited == 1
    assert answers(client, b"452 green is over quota\r\n") == [(Step.BODY, 452, 2)]
    assert client.awaited == 0


def test_lmtp_next_transaction_begun_before_the_last_is_answered() -> None:
    client = greeted(lmtp=True)
    client.mail("a@b"), client.rcpt("c@d"), client.rcpt("e@f"), client.data(), client.end()
    client.mail("a@b"), client.rcpt("g@h"), client.data()
    everything = b"250 m\r\n250 r\r\n250 r\r\n354 go\r\n250 one\r\n451 two\r\n250 m\r\n550 r\r\n503 no\r\n"
    assert [a[0::2] for a in answers(client, everything)] == [
        (Step.MAIL, -1), (Step.RCPT, 0), (Step.RCPT, 1), (Step.DATA, -1), (Step.BODY, 0), (Step.BODY, 1),
        (Step.MAIL, -1), (Step.RCPT, 0), (Step.DATA, -1)]


LHLO = b"250-there\r\n250-PIPELINING\r\n250 SIZE 9\r\n"
SAID = (LHLO, b"250 m\r\n", b"250 r\r\n", b"550-no\r\n550 no\r\n", b"250 r\r\n", b"354 go\r\n", b"250 one\r\n",
        b"451 two\r\n", b"250 m\r\n", b"550 r\r\n", b"503 no\r\n", b"221 bye\r\n")


def busy(*, lmtp: bool) -> SmtpClient:
    """Two transactions and a QUIT sent ahead."""
    client = greeted(lmtp=lmtp)
    client.hello("x"), client.mail("a@b"), client.rcpt("c@d"), client.rcpt("e@f"), client.rcpt("g@h")
    client.data(), client.end(), client.mail("a@b"), client.rcpt("i@j"), client.data(), client.quit()
    return client


@given(st.booleans(), st.lists(st.integers(0, 200), max_size=10), st.booleans())
@settings(max_examples=100, deadline=None)
def test_answers_at_random_splits(lmtp: bool, cuts: list[int], bytewise: bool) -> None:
    everything = b"".join(one for one in SAID if lmtp or one != b"451 two\r\n")
    expected = answers(busy(lmtp=lmtp), everything)
    assert expected[-1] == (Step.QUIT, 221, -1) and len(expected) == len(SAID) - (not lmtp)
    end = len(everything)
    places = range(end + 1) if bytewise else sorted({0, end, *(cut for cut in cuts if cut < end)})
    client = busy(lmtp=lmtp)
    found = [answer for start, stop in pairwise(places) for answer in answers(client, everything[start:stop])]
    assert found == expected and client.awaited == 0


@given(st.booleans(), st.lists(st.one_of(st.binary(max_size=20), st.sampled_from(SAID)), max_size=30))
@settings(max_examples=200, deadline=None)
def test_random_bytes_are_answers_or_no_smtp(lmtp: bool, stream: list[bytes]) -> None:
    client = busy(lmtp=lmtp)
    before = client.awaited
    try:
        found = [answer for data in stream for answer in answers(client, data)]
    except BadReply as bad:
        assert bad.failure.kind is Kind.AGAIN
        return
    assert len(found) <= before + 3
    assert all(100 <= code < 600 for _, code, _ in found)


def test_unasked_reply_is_no_answer() -> None:
    client = greeted()
    client.receive(b"421 4.4.2 idle\r\n")
    with pytest.raises(BadReply) as caught:
        client.next_answer()
    assert "idle" in caught.value.failure.reason


def test_bytes_behind_the_go_ahead_for_tls_are_seen() -> None:
    client = greeted()
    client.start_tls()
    assert answers(client, b"220 go\r\n250-injected") == [(Step.STARTTLS, 220, -1)]
    assert client.buffered == 12


def test_parameters() -> None:
    client = greeted()
    assert client.mail("a..b@docomo.ne.jp", size=5, body="8BITMIME", ret="HDRS", envid="a+b=c") == (
        b"MAIL FROM:<a..b@docomo.ne.jp> SIZE=5 BODY=8BITMIME RET=HDRS ENVID=a+2Bb+3Dc\r\n")
    assert client.mail("") == b"MAIL FROM:<>\r\n"
    assert client.mail("用@例", smtputf8=True) == "MAIL FROM:<用@例> SMTPUTF8\r\n".encode()
    assert client.rcpt("a.@ezweb.ne.jp", notify="NEVER", orcpt="rfc822;x@y") == (
        b"RCPT TO:<a.@ezweb.ne.jp> NOTIFY=NEVER ORCPT=rfc822;x@y\r\n")
    assert client.xclient({"ADDR": "192.0.2.1", "NAME": ""}) == b"XCLIENT ADDR=192.0.2.1 NAME=[UNAVAILABLE]\r\n"
    # RFC 4954 section 4.1
    assert client.auth_plain("tim", "tanstaaftanstaaf", "test") == (
        b"AUTH PLAIN dGVzdAB0aW0AdGFuc3RhYWZ0YW5zdGFhZg==\r\n")
    assert (client.auth_login(), client.auth_response(b"tim"), client.auth_response(b"")) == (
        b"AUTH LOGIN\r\n", b"dGlt\r\n", b"=\r\n")


@pytest.mark.parametrize("address", ["a\r\nRCPT TO:<x@y>", "a@b\n", "a\0@b", "a@b> SIZE=1", "a b@c", "用@b"])
def test_an_address_injects_nothing(address: str) -> None:
    client = greeted()
    with pytest.raises(ValueError):
        client.mail(address)
    with pytest.raises(ValueError):
        client.rcpt(address)
    assert client.awaited == 0


def test_quoted_blank_and_bracket_are_fine() -> None:
    assert greeted().rcpt('"a >b"@c') == b'RCPT TO:<"a >b"@c>\r\n'


def test_capabilities() -> None:
    reader = ReplyReader()
    reader.receive(
        b"250-mx.example greets you\r\n250-SIZE 35882577\r\n250-AUTH PLAIN login\r\n"
        b"250-AUTH=LOGIN XOAUTH2\r\n250-\r\n250 pipelining\r\n")
    reply = reader.next_reply()
    assert reply is not None
    found = parse_capabilities(reply)
    assert found.name == "mx.example"
    assert found.size == 35882577
    assert "PIPELINING" in found and "CHUNKING" not in found
    assert found.auth == {"PLAIN", "LOGIN", "XOAUTH2"}


@pytest.mark.parametrize("word", ["", "SIZE", "SIZE x", "SIZE ²", "SIZE " + "9" * 5000])
def test_size_without_sense_is_no_limit(word: str) -> None:
    assert parse_capabilities(Reply(250, "", ("x", word))).size == 0
