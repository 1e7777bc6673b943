"""The server's side: transcripts of the RFCs, each whole and byte by byte; sequence, limits, what is thrown away."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onedomain.model.failure import again
from onedomain.protocol.smtp.body import BodyPolicy, Manners
from onedomain.protocol.smtp.event import (
    Auth,
    BodyChunk,
    BodyEnd,
    End,
    Hello,
    Mail,
    Malformed,
    Rcpt,
    Reset,
    StartTls,
    Verb,
    Xclient,
)
from onedomain.protocol.smtp.offer import Limits, Offer
from onedomain.protocol.smtp.server import SmtpServer
from onedomain.protocol.smtp.table import TABLE, State
from tests.protocol.smtp.talk import Peer, converse, pieces

MX = Offer("foo.com", policy=BodyPolicy(max_size=1000, overrun=1000))
READY = b"EHLO bar.com\r\n"
OPENED = READY + b"MAIL FROM:<a@b.c>\r\nRCPT TO:<d@foo.com>\r\n"


def mx(offer: Offer = MX, **kwargs: bool) -> Callable[[], SmtpServer]:
    return lambda: SmtpServer(offer, **kwargs)


def ready(offer: Offer = MX, before: bytes = READY) -> Peer:
    peer = Peer(SmtpServer(offer))
    assert peer.send(before)
    return peer


def codes(output: bytes) -> list[int]:
    return [int(line[:3]) for line in output.split(b"\r\n") if line[3:4] == b" "]


APPENDIX_D1 = """
C: EHLO bar.com
S: 250-foo.com
S: 250-PIPELINING
S: 250-SIZE 1000
S: 250-ENHANCEDSTATUSCODES
S: 250-8BITMIME
S: 250-DSN
S: 250-SMTPUTF8
S: 250-CHUNKING
S: 250 LIMITS RCPTMAX=1000
C: MAIL FROM:<Smith@bar.com>
S: 250 2.1.0 sender ok
C: RCPT TO:<Jones@foo.com>
S: 250 2.1.5 recipient ok
C: RCPT TO:<nobody@foo.com>
S: 550 5.1.1 no such mailbox
C: RCPT TO:<Brown@foo.com>
S: 250 2.1.5 recipient ok
C: DATA
S: 354 go ahead, end with <CRLF>.<CRLF>
C: Blah blah blah...
C: ...etc. etc. etc.
C: .
S: 250 2.0.0 taken
C: QUIT
S: 221 2.0.0 bye
"""

# RFC 2920 section 4: a batch of commands, its answers in one
PIPELINED = """
C: HELO dbc.mtview.ca.us
S: 250 foo.com
C: MAIL FROM:<mrose@dbc.mtview.ca.us>
C: RCPT TO:<nobody1@foo.com>
C: RCPT TO:<nobody2@foo.com>
C: DATA
S: 250 2.1.0 sender ok
S: 550 5.1.1 no such mailbox
S: 550 5.1.1 no such mailbox
S: 503 5.5.1 no valid recipients
C: RSET
S: 250 2.0.0 ok
"""

# RFC 3030 section 4.1 and 4.2 (without BINARYMIME)
CHUNKED = """
C: EHLO cnri.reston.va.us
S: 250-foo.com
S: 250-PIPELINING
S: 250-SIZE 1000
S: 250-ENHANCEDSTATUSCODES
S: 250-8BITMIME
S: 250-DSN
S: 250-SMTPUTF8
S: 250-CHUNKING
S: 250 LIMITS RCPTMAX=1000
C: MAIL FROM:<Sam@Random.com>
S: 250 2.1.0 sender ok
C: RCPT TO:<Susan@Random.com>
S: 250 2.1.5 recipient ok
C: BDAT 11
C: To: Susan
S: 250 2.0.0 chunk received
C: RCPT TO:<late@random.com>
S: 503 5.5.1 bad sequence of commands
C: DATA
S: 503 5.5.1 DATA can't follow BDAT
C: bdat 13 last
C: Hello there
S: 250 2.0.0 taken
C: MAIL FROM:<Sam@Random.com>
C: RCPT TO:<Susan@Random.com>
C: BDAT 3
C: x
C: BDAT 0 LAST
S: 250 2.1.0 sender ok
S: 250 2.1.5 recipient ok
S: 250 2.0.0 chunk received
S: 250 2.0.0 taken
C: BDAT 4
C: ab
S: 503 5.5.1 need MAIL first
C: NOOP ignored
S: 250 2.0.0 ok
"""

# RFC 4954 sections 4.1 and 6
AUTHENTICATED = """
C: EHLO client.example.com
S: 250-foo.com
S: 250-PIPELINING
S: 250-SIZE 1000
S: 250-AUTH PLAIN LOGIN
S: 250-ENHANCEDSTATUSCODES
S: 250-8BITMIME
S: 250-DSN
S: 250-SMTPUTF8
S: 250-CHUNKING
S: 250 LIMITS RCPTMAX=1000
C: AUTH CRAM-MD5
S: 504 5.5.4 mechanism not offered
C: AUTH PLAIN
S: 334 {nothing}
C: *
S: 501 5.7.0 authentication cancelled
C: AUTH PLAIN
S: 334 {nothing}
C: dGVzdAB0ZXN0ADEyMzQ=
S: 235 2.7.0 authentication successful
C: AUTH PLAIN dGVzdAB0ZXN0ADEyMzQ=
S: 503 5.5.1 authenticated already
"""

LOGIN = """
C: EHLO client.example.com
S: 250-foo.com
S: 250-PIPELINING
S: 250-SIZE 1000
S: 250-AUTH PLAIN LOGIN
S: 250-ENHANCEDSTATUSCODES
S: 250-8BITMIME
S: 250-DSN
S: 250-SMTPUTF8
S: 250-CHUNKING
S: 250 LIMITS RCPTMAX=1000
C: AUTH LOGIN
S: 334 VXNlcm5hbWU6
C: dGVzdA==
S: 334 UGFzc3dvcmQ6
C: d3Jvbmc=
S: 535 5.7.8 authentication failed
C: AUTH LOGIN dGVzdA==
S: 334 UGFzc3dvcmQ6
C: !!!
S: 501 5.5.2 invalid base64
C: AUTH LOGIN dGVzdA==
S: 334 UGFzc3dvcmQ6
C: MTIzNA==
S: 235 2.7.0 authentication successful
"""

# RFC 2033 section 5
LMTP = """
C: EHLO foo.edu
S: 500 5.5.1 this is LMTP
C: LHLO foo.edu
S: 250-foo.com
S: 250-PIPELINING
S: 250-SIZE 1000
S: 250-ENHANCEDSTATUSCODES
S: 250-8BITMIME
S: 250-DSN
S: 250-SMTPUTF8
S: 250-CHUNKING
S: 250 LIMITS RCPTMAX=1000
C: MAIL FROM:<chris@bar.com>
C: RCPT TO:<pat@foo.edu>
C: RCPT TO:<nobody@foo.edu>
C: RCPT TO:<green@foo.edu>
C: DATA
S: 250 2.1.0 sender ok
S: 250 2.1.5 recipient ok
S: 550 5.1.1 no such mailbox
S: 250 2.1.5 recipient ok
S: 354 go ahead, end with <CRLF>.<CRLF>
C: Blah blah blah...
C: .
C: MAIL FROM:<x@y>
C: DATA
S: 250 2.0.0 taken
S: 250 2.0.0 taken
S: 250 2.1.0 sender ok
S: 503 5.5.1 no valid recipients
C: RCPT TO:<pat@foo.edu>
C: RCPT TO:<green@foo.edu>
C: DATA
S: 250 2.1.5 recipient ok
S: 250 2.1.5 recipient ok
S: 354 go ahead, end with <CRLF>.<CRLF>
C: a\x00b
C: .
S: 550 5.6.0 message contains a NUL octet
S: 550 5.6.0 message contains a NUL octet
"""

SUBMISSION = Offer("foo.com", auth=("PLAIN", "LOGIN"), auth_in_clear=True, policy=MX.policy)
TRANSCRIPTS = [
    (mx(), APPENDIX_D1), (mx(), PIPELINED), (mx(), CHUNKED), (mx(SUBMISSION), AUTHENTICATED), (mx(SUBMISSION), LOGIN),
    (mx(Offer("foo.com", lmtp=True, policy=MX.policy)), LMTP)]


@pytest.mark.parametrize("one_by_one", [False, True])
@pytest.mark.parametrize(("make", "transcript"), TRANSCRIPTS)
def test_transcript(make: Callable[[], SmtpServer], transcript: str, one_by_one: bool) -> None:
    converse(make, transcript, one_by_one=one_by_one)


def test_what_the_session_learns() -> None:
    peer = converse(mx(), APPENDIX_D1)
    assert peer.bodies == [b"Blah blah blah...\r\n..etc. etc. etc.\r\n"]
    assert [e for e in peer.events if isinstance(e, Hello)] == [Hello("bar.com", Verb.EHLO)]
    assert [str(e.address) for e in peer.events if isinstance(e, Rcpt)] == [
        "Jones@foo.com", "nobody@foo.com", "Brown@foo.com"]
    assert peer.events[-1] == End(None)
    assert converse(mx(), CHUNKED).bodies == [b"To: Susan\r\nHello there\r\n", b"x\r\n"]


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_random_splits_change_nothing(data: st.DataObject) -> None:
    stream = OPENED + b"BDAT 6\r\nab\r\ncdBDAT 2 LAST\r\n\r\n" + (
        b"MAIL FROM:<> BODY=8BITMIME\r\nRCPT TO:<nobody@x>\r\nRCPT TO:<y@z>\r\nDATA\r\n.\r\nFOO\r\nBDAT 3\r\na\r\n"
        b"MAIL FROM:<u@v>\r\nRCPT TO:<w@x>\r\nDATA\r\n..a\r\n.b\n.\r\n\r\n.\r\nQUIT\r\n")
    whole, cut = Peer(SmtpServer(MX)), Peer(SmtpServer(MX))
    expected = whole.send(stream)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=20))
    assert b"".join(cut.send(piece) for piece in pieces(stream, cuts)) == expected
    assert cut.bodies == whole.bodies == [b"ab\r\ncd\r\n", b""]
    assert [e for e in cut.events if not isinstance(e, BodyChunk)] == [
        e for e in whole.events if not isinstance(e, BodyChunk)]


WORDS = [
    b"EHLO x\r\n", b"MAIL FROM:<a@b>\r\n", b"RCPT TO:<c@d>\r\n", b"DATA\r\n", b"BDAT 3\r\n", b"BDAT 2 LAST\r\n",
    b"RSET\r\n", b".\r\n", b"\r\n.\r\n", b"\n", b"\r", b"AUTH PLAIN\r\n", b"STARTTLS\r\n", b"QUIT", b" ", b"x" * 300,
    b"\0", b"\xff\xfe", b"XCLIENT ADDR=192.0.2.1\r\n", b"AUTH LOGIN dGVzdA==\r\n", b"*\r\n"]


@given(st.lists(st.one_of(st.sampled_from(WORDS), st.binary(max_size=30)), max_size=60), st.sampled_from(list(Manners)))
@settings(max_examples=300, deadline=None)
def test_random_bytes(stream: list[bytes], bare: Manners) -> None:
    offer = Offer("foo.com", auth=("PLAIN",), auth_in_clear=True, starttls=True, xclient=True,
                  policy=BodyPolicy(bare=bare, max_size=200, overrun=200), limits=Limits(line=256, errors=30))
    peer = Peer(SmtpServer(offer))
    for data in stream:
        output = peer.send(data)
        assert output == b"" or output.endswith(b"\r\n")
        for line in output.split(b"\r\n")[:-1]:
            assert line[:3].isdigit() and 200 <= int(line[:3]) < 600
            assert b"\n" not in line and b"\r" not in line and b"\0" not in line
    ends = [i for i, event in enumerate(peer.events) if isinstance(event, End)]
    assert ends in ([], [len(peer.events) - 1])
    for body in peer.bodies:
        assert b"\0" not in body and len(body) <= 400
        if bare is not Manners.PASS:
            assert body.count(b"\r") == body.count(b"\n") == body.count(b"\r\n")


@pytest.mark.parametrize("verb", list(Verb))
@pytest.mark.parametrize("state", [s for s in State if TABLE[s]])
def test_every_verb_in_every_state_is_in_the_table_or_503(state: State, verb: Verb) -> None:
    said = {
        Verb.EHLO: b"EHLO x", Verb.HELO: b"HELO x", Verb.LHLO: b"LHLO x", Verb.AUTH: b"AUTH PLAIN",
        Verb.MAIL: b"MAIL FROM:<a@b>", Verb.RCPT: b"RCPT TO:<a@b>", Verb.BDAT: b"BDAT 0",
        Verb.XCLIENT: b"XCLIENT ADDR=192.0.2.1"}
    lead = {
        State.NEW: b"", State.READY: READY, State.MAIL: READY + b"MAIL FROM:<a@b>\r\n", State.RCPT: OPENED,
        State.BETWEEN: OPENED + b"BDAT 0\r\n", State.BROKEN: OPENED + b"BDAT 1\r\n\0"}
    offer = Offer("foo.com", auth=("PLAIN",), auth_in_clear=True, starttls=True, xclient=True)
    peer = Peer(SmtpServer(offer))
    peer.send(lead[state])
    assert peer.server.state is state
    code = codes(peer.send(said.get(verb, verb.value.encode()) + b"\r\n"))[0]
    allowed = TABLE[state].get(verb)
    if verb is Verb.LHLO:
        assert code == 500
    elif verb is Verb.EXPN:
        assert code == 502
    elif verb is Verb.BDAT and state is State.BROKEN:
        assert code == 550
    elif allowed is None:
        assert code == 503 and peer.server.state is state
    else:
        after = {State.CHUNK: State.BETWEEN}.get(allowed, allowed)
        assert code < 400 and peer.server.state is after


# ---- STARTTLS

def test_what_was_said_before_tls_is_forgotten() -> None:
    peer = ready(Offer("foo.com", starttls=True, auth=("PLAIN",)))
    assert b"250-STARTTLS\r\n" in peer.send(b"EHLO again\r\n")
    assert codes(peer.send(b"AUTH PLAIN dGVzdAB0ZXN0ADEyMzQ=\r\n")) == [538]
    output = peer.send(b"STARTTLS\r\nEHLO evil\r\nMAIL FROM:<evil@example.org>\r\n")
    assert output == b"220 2.0.0 ready to start TLS\r\n"
    assert peer.events[-1] == StartTls(discarded=len(b"EHLO evil\r\nMAIL FROM:<evil@example.org>\r\n"))
    assert peer.send(b"RCPT TO:<x@y>\r\n") == b""
    peer.server.tls_started()
    assert peer.server.hello.name == ""
    assert codes(peer.send(b"MAIL FROM:<a@b>\r\n")) == [503]
    answer = peer.send(b"EHLO me\r\n")
    assert b"STARTTLS" not in answer and b"250-AUTH PLAIN\r\n" in answer
    assert codes(peer.send(b"STARTTLS\r\n")) == [503]


@pytest.mark.parametrize(("line", "code"), [(b"STARTTLS now", 501), (b"STARTTLS", 502), (b"AUTH PLAIN =", 503)])
def test_what_is_not_offered(line: bytes, code: int) -> None:
    assert codes(ready().send(line + b"\r\n")) == [code]


# ---- XCLIENT

def test_xclient_begins_anew() -> None:
    peer = ready(Offer("foo.com", xclient=True))
    assert codes(peer.send(b"XCLIENT ADDR=192.0.2.7 NAME=[UNAVAILABLE] helo=a+2Bb\r\n")) == [220]
    assert peer.events[-1] == Xclient({"ADDR": "192.0.2.7", "NAME": "", "HELO": "a+b"})
    assert codes(peer.send(b"MAIL FROM:<a@b>\r\n")) == [503]
    assert codes(ready().send(b"XCLIENT ADDR=192.0.2.7\r\n")) == [550]
    for bad in (b"XCLIENT", b"XCLIENT FOO=1", b"XCLIENT ADDR", b"XCLIENT ADDR=a+0D+0Ab",
                b"XCLIENT ADDR=far.example.org", b"XCLIENT ADDR=fe80::1%]x", b"XCLIENT PORT=65536", b"XCLIENT PORT=-1"):
        assert codes(ready(Offer("foo.com", xclient=True)).send(bad + b"\r\n")) == [501]


# ---- limits

def test_line_too_long_is_dropped_as_it_comes() -> None:
    peer = ready()
    assert codes(peer.send(b"NOOP " + b"x" * 2041 + b"\r\n")) == [250]
    assert codes(peer.send(b"NOOP " + b"x" * 2042 + b"\r\nNOOP\r\n")) == [500, 250]
    assert codes(peer.send(b"x" * 3000)) == [500]
    for _ in range(100):
        assert peer.send(b"MAIL " * 10_000) == b""
        assert len(peer.server._input) < 3000
    assert codes(peer.send(b"\r\nNOOP\r\n")) == [250]


def test_too_many_errors() -> None:
    peer = ready(Offer("foo.com", limits=Limits(errors=3)))
    assert codes(peer.send(b"FOO\r\nMAIL FROM:<a@b>\r\nRCPT TO:<nobody@x>\r\nBAR\r\nNOOP\r\n")) == [
        500, 250, 550, 500, 421]
    assert isinstance(peer.events[-1], End)
    assert peer.send(b"NOOP\r\n") == b""


def test_a_message_makes_up_for_errors() -> None:
    peer = ready(Offer("foo.com", limits=Limits(errors=3, idle=3)))
    for _ in range(5):
        output = peer.send(b"FOO\r\nNOOP\r\nMAIL FROM:<a@b>\r\nRCPT TO:<nobody@x>\r\nRCPT TO:<y@x>\r\nDATA\r\n.\r\n")
        assert codes(output) == [500, 250, 250, 550, 250, 354, 250]


def test_too_many_commands_that_lead_nowhere() -> None:
    peer = ready(Offer("foo.com", limits=Limits(idle=4)))
    assert codes(peer.send(b"NOOP\r\nVRFY x\r\nRSET\r\nHELP\r\nNOOP\r\n")) == [250, 252, 250, 214, 421]
    chunks = ready(Offer("foo.com", limits=Limits(idle=4)), OPENED)
    assert codes(chunks.send(b"BDAT 0\r\n" * 9))[-1] == 421


def test_too_many_recipients() -> None:
    peer = ready(Offer("foo.com", limits=Limits(recipients=2)))
    assert codes(peer.send(b"MAIL FROM:<a@b>\r\n" + b"RCPT TO:<x@y>\r\n" * 3 + b"DATA\r\n.\r\n")) == [
        250, 250, 250, 452, 354, 250]


def test_size() -> None:
    peer = ready()
    assert codes(peer.send(b"MAIL FROM:<a@b> SIZE=1001\r\n")) == [552]
    body = b"x" * 998 + b"\r\n"
    assert codes(peer.send(OPENED + b"DATA\r\n" + body + b".\r\n")) == [250, 250, 250, 354, 250]
    assert codes(peer.send(OPENED + b"DATA\r\n" + body + b"y\r\n.\r\nNOOP\r\n")) == [250, 250, 250, 354, 552, 250]
    assert peer.bodies == [body]
    assert codes(peer.send(OPENED + b"BDAT 1000\r\n" + body + b"BDAT 1\r\ny" + b"BDAT 2 LAST\r\nzzNOOP\r\n")) == [
        250, 250, 250, 250, 552, 552, 250]
    assert peer.server.state is State.READY


def test_endless_body_ends_the_session() -> None:
    peer = ready(before=OPENED + b"DATA\r\n")
    sent = 0
    output = b""
    while not output:
        output = peer.send(b"x" * 500 + b"\r\n")
        sent += 1
        assert sent < 10
    assert codes(output) == [552] and isinstance(peer.events[-1], End)
    assert sum(isinstance(e, BodyEnd) for e in peer.events) == 1
    assert codes(ready(before=OPENED).send(b"BDAT 99999999999\r\n")) == [552]


def test_memory_stays_flat_through_a_large_body() -> None:
    import tracemalloc

    offer = Offer("foo.com", policy=BodyPolicy(max_size=1 << 40))
    server = SmtpServer(offer)
    block = (b"x" * 70 + b"\r\n.dot\r\n") * 800

    def pump(data: bytes) -> None:
        server.receive(data)
        while (event := server.next_event()) is not None:
            if server.waits:
                server.accept()
            del event
        server.take_output()

    pump(OPENED + b"DATA\r\n")
    pump(block)
    tracemalloc.start()
    try:
        for _ in range(300):
            pump(block)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6 * len(block)


# ---- bodies that can't be kept

def test_fail_body_drops_the_rest_and_answers_at_the_end() -> None:
    full = again(452, "4.3.1", "disk full")
    for chunks in (b"DATA\r\n", b"BDAT 5\r\n"):
        server = SmtpServer(MX)
        peer = Peer(server)
        peer.send(OPENED + chunks + b"ab")
        server.fail_body(full)
        peer.events.clear()
        output = peer.send(b"c\r\n.\r\n" if chunks.startswith(b"DATA") else b"cdeBDAT 1\r\nxBDAT 1 LAST\r\ny")
        assert set(codes(output)) == {452} and len(codes(output)) == (1 if chunks.startswith(b"DATA") else 3)
        assert BodyEnd(5, full) in peer.events
        assert not any(isinstance(e, BodyChunk) for e in peer.events)
        assert server.state is State.READY


def test_refused_at_the_start() -> None:
    full = again(452, "4.3.1", "disk full")
    server = SmtpServer(MX)
    server.receive(OPENED + b"DATA\r\n")
    while (event := server.next_event()) is not None:
        server.accept() if isinstance(event, Mail | Rcpt) else server.refuse(full) if server.waits else None
    assert codes(server.take_output()) == [250, 250, 250, 452]
    assert server.state is State.RCPT
    server.receive(b"BDAT 4\r\nNOOPBDAT 4 LAST\r\nNOOPQUIT\r\n")
    while (event := server.next_event()) is not None:
        server.refuse(full) if server.waits else None
    assert codes(server.take_output()) == [452, 452, 221]


def test_unanswered_event_is_a_mistake_of_ours() -> None:
    server = SmtpServer(MX)
    server.receive(READY + b"MAIL FROM:<a@b>\r\nNOOP\r\n")
    assert isinstance(server.next_event(), Hello)
    assert isinstance(server.next_event(), Mail)
    with pytest.raises(RuntimeError):
        server.next_event()
    server.accept()
    with pytest.raises(RuntimeError):
        server.accept()
    with pytest.raises(RuntimeError):
        server.answer_each(["x"])


def test_lmtp_answers_for_each() -> None:
    server = SmtpServer(Offer("foo.com", lmtp=True))
    server.receive(b"LHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@d>\r\nBDAT 0 LAST\r\n")
    while (event := server.next_event()) is not None:
        if isinstance(event, BodyEnd):
            server.answer_each(["kept", again(452, "4.2.2", "mailbox full")])
        elif server.waits:
            server.accept()
    assert server.take_output().endswith(b"250 2.0.0 kept\r\n452 4.2.2 mailbox full\r\n")


# ---- bad lines

@pytest.mark.parametrize(("line", "code"), [
    (b"", 500), (b"FOO", 500), (b"NO\0OP", 500), (b"NOOP\0", 500), (b"NOOP \r", 500), (b"MAIL\tFROM:<a@b>", 500),
    (b"EHLO", 501), (b"EHLO " + b"x" * 256, 501), (b"DATA now", 503), (b"RSET x", 501), (b"MAIL", 501),
    (b"EXPN x", 502), (b" NOOP", 500), (b"TURN", 500)])
def test_bad_line(line: bytes, code: int) -> None:
    peer = ready()
    assert codes(peer.send(line + b"\r\n")) == [code]
    assert codes(peer.send(b"NOOP\r\n")) == [250]
    assert any(isinstance(e, Malformed) and e.failure.code == code for e in peer.events)


@pytest.mark.parametrize("line", [
    b"GET / HTTP/1.1", b"POST / HTTP/1.1", b"\x16\x03\x01\x02\x00\x01", b"BDAT", b"BDAT x", b"BDAT -1",
    b"BDAT 1 FIRST", b"BDAT 0x10"])
def test_lines_that_end_the_session(line: bytes) -> None:
    peer = ready()
    assert codes(peer.send(line + b"\r\nMAIL FROM:<a@b>\r\n")) in ([500], [501])
    assert isinstance(peer.events[-1], End)


@pytest.mark.parametrize(("bare", "expected"), [
    (Manners.REFUSE, [521]), (Manners.NORMALISE, [250, 250]), (Manners.PASS, [250, 250])])
def test_bare_lf_after_a_command(bare: Manners, expected: list[int]) -> None:
    peer = ready(Offer("foo.com", policy=BodyPolicy(bare=bare)))
    assert codes(peer.send(b"NOOP\nNOOP\r\n")) == expected


def test_no_secret_in_an_event() -> None:
    offer = Offer("foo.com", auth=("PLAIN", "LOGIN"), auth_in_clear=True)
    secret = base64.b64encode(b"\0me\0hunter2")
    peer = ready(offer)
    peer.send(b"AUTH PLAIN " + secret + b"\r\n")
    assert isinstance(peer.events[-1], Auth) and "hunter2" not in repr(peer.events)
    for line in (b"AUTH PLAIN " + secret + b"!\r\n", b"AUTH " + secret + b"\r\n",
                 b"AUTH PLAIN\r\n" + secret * 2000 + b"\r\n", b"AUTH PLAIN\r\n" + secret + b"\n"):
        other = ready(offer)
        other.send(line)
        assert secret[:20].decode() not in repr(other.events)


def test_reset_ends_the_transaction() -> None:
    peer = ready(before=OPENED)
    peer.send(b"RSET\r\n")
    assert peer.events[-1] == Reset()
    assert codes(peer.send(b"DATA\r\n")) == [503]
    assert codes(peer.send(OPENED + b"EHLO again\r\nDATA\r\n"))[-1] == 503


@pytest.mark.parametrize(("lead", "line", "reply"), [
    (b"", b"MAIL FROM:<a@b>", b"503 5.5.1 say EHLO first\r\n"),
    (READY, b"RCPT TO:<a@b>", b"503 5.5.1 need MAIL first\r\n"),
    (READY, b"DATA", b"503 5.5.1 need MAIL first\r\n"),
    (READY + b"MAIL FROM:<a@b>\r\n", b"MAIL FROM:<a@b>", b"503 5.5.1 sender already given\r\n"),
    (READY + b"MAIL FROM:<a@b>\r\n", b"DATA", b"503 5.5.1 no valid recipients\r\n"),
    (OPENED, b"MAIL FROM:<a@b>", b"503 5.5.1 sender already given\r\n"),
    (OPENED, b"AUTH PLAIN", b"503 5.5.1 bad sequence of commands\r\n"),
    (OPENED, b"STARTTLS", b"503 5.5.1 bad sequence of commands\r\n"),
    (OPENED + b"BDAT 0\r\n", b"DATA", b"503 5.5.1 DATA can't follow BDAT\r\n"),
    (OPENED + b"BDAT 0\r\n", b"RCPT TO:<a@b>", b"503 5.5.1 bad sequence of commands\r\n"),
    (OPENED + b"BDAT 1\r\n\0", b"MAIL FROM:<a@b>", b"503 5.5.1 bad sequence of commands\r\n"),
])
def test_out_of_sequence(lead: bytes, line: bytes, reply: bytes) -> None:
    """Said apart from the table, so that a wrong table shows."""
    peer = Peer(SmtpServer(Offer("foo.com", auth=("PLAIN",), auth_in_clear=True, starttls=True)))
    peer.send(lead)
    assert peer.send(line + b"\r\n") == reply
