"""IMAP up to the log-in, as transcripts: each whole and byte by byte. "E:" is what the front tells its caller."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onedomain.protocol.imap.capability import through_relay
from onedomain.protocol.imap.front import MAX_BAD, Close, Front, FrontOptions, LogIn, StartTls

SECURE = "IMAP4rev1 LITERAL+ SASL-IR ID AUTH=PLAIN AUTH=LOGIN"
PLAIN = "IMAP4rev1 LITERAL+ SASL-IR ID STARTTLS LOGINDISABLED"


def b64(text: str) -> str:
    return b64encode(text.encode()).decode()


def talk(front: Front, data: bytes, step: int | Sequence[int]) -> str:
    """What the front says and tells for the client's bytes; failed log-ins are refused, so that it goes on."""
    out: list[str] = []
    at = range(step, len(data), step) if isinstance(step, int) else step
    for begin, end in pairwise((0, *at, len(data))):
        front.receive(data[begin:end])
        while True:
            event = front.next_event()
            out += [f"S: {line}" for line in front.take_output().decode().splitlines()]
            if event is None:
                break
            if isinstance(event, LogIn):
                c = event.credentials
                out.append(f"E: {event.mechanism} {c.login} {c.password!r} {c.authorize}".rstrip())
                front.refuse("AUTHENTICATIONFAILED", "Authentication failed.")
            elif isinstance(event, StartTls):
                out.append("E: tls")
                front.tls_started()
            else:
                out.append("E: close")
    return "\n".join(out)


ID = 'S: * ID ("name" "OneDomain")'
DENIED = "[AUTHENTICATIONFAILED] Authentication failed."
TRANSCRIPTS: list[tuple[str, bool, bytes, list[str]]] = [
    ("capability", True, b"a CAPABILITY\r\n", [f"S: * CAPABILITY {SECURE}", "S: a OK Capabilities listed."]),
    ("capability in the clear", False, b"a capability\r\n",
     [f"S: * CAPABILITY {PLAIN}", "S: a OK Capabilities listed."]),
    ("noop", True, b"a NOOP\r\nb noop\n", ["S: a OK Nothing done.", "S: b OK Nothing done."]),
    ("logout", True, b"a LOGOUT\r\nb NOOP\r\n", ["S: * BYE Logging out.", "S: a OK Logged out.", "E: close"]),
    ("login", True, b'a LOGIN joe@example.com "p \\"w\\\\"\r\n',
     ["E: LOGIN joe@example.com 'p \"w\\\\'", f"S: a NO {DENIED}"]),
    ("login atoms", True, b"a LOGIN 007 nil\r\n", ["E: LOGIN 007 'nil'", f"S: a NO {DENIED}"]),
    ("login literals", True, b"a LOGIN {3}\r\njoe {4+}\r\np\"\\w\r\n",
     ["S: + OK", "E: LOGIN joe 'p\"\\\\w'", f"S: a NO {DENIED}"]),
    ("login literals, RFC 3501 7.5", True, b"A001 LOGIN {11}\r\nFRED FOOBAR {7}\r\nfat man\r\n",
     ["S: + OK", "S: + OK", "E: LOGIN FRED FOOBAR 'fat man'", f"S: A001 NO {DENIED}"]),
    ("login twice", True, b"a LOGIN a b\r\nb LOGIN c d\r\n",
     ["E: LOGIN a 'b'", f"S: a NO {DENIED}", "E: LOGIN c 'd'", f"S: b NO {DENIED}"]),
    ("login arguments", True, b"a LOGIN joe\r\nb LOGIN\r\nc LOGIN a b c\r\nd LOGIN (a) b\r\ne LOGIN \"a b\r\n",
     [f"S: {tag} BAD {text}" for tag, text in zip("abcde", ["LOGIN takes a name and a password."] * 4 + [
         "Malformed arguments."], strict=True)]),
    ("login empty", True, b'a LOGIN joe ""\r\n', ["S: a NO [AUTHENTICATIONFAILED] empty password"]),
    ("login in the clear", False, b"a LOGIN joe pw\r\nb LOGIN {3}\r\nc LOGIN {3+}\r\njoe {2+}\r\npw\r\n",
     [f"S: {tag} NO [PRIVACYREQUIRED] Start TLS first: passwords are not taken in the clear." for tag in "abc"]),
    ("authenticate in the clear", False, b"a AUTHENTICATE PLAIN\r\n",
     ["S: a NO [PRIVACYREQUIRED] Start TLS first: passwords are not taken in the clear."]),
    ("plain", True, f"a AUTHENTICATE PLAIN\r\n{b64(chr(0) + 'joe' + chr(0) + 'pw')}\r\n".encode(),
     ["S: + ", "E: PLAIN joe 'pw'", f"S: a NO {DENIED}"]),
    ("plain with initial response", True,
     f"a authenticate plain {b64('z' + chr(0) + 'joe' + chr(0) + 'pw')}\r\n".encode(),
     ["E: PLAIN joe 'pw' z", f"S: a NO {DENIED}"]),
    ("plain malformed", True, b"a AUTHENTICATE PLAIN =\r\nb AUTHENTICATE PLAIN\r\n!!\r\nc AUTHENTICATE PLAIN\r\n*\r\n",
     ["S: a BAD PLAIN needs two NULs", "S: + ", "S: b BAD invalid base64", "S: + ",
      "S: c BAD authentication cancelled"]),
    ("sasl login", True, f"a AUTHENTICATE LOGIN\r\n{b64('joe')}\r\n{b64('pw')}\r\n".encode(),
     ["S: + VXNlcm5hbWU6", "S: + UGFzc3dvcmQ6", "E: LOGIN joe 'pw'", f"S: a NO {DENIED}"]),
    ("sasl login with initial response", True, f"a AUTHENTICATE LOGIN {b64('joe')}\r\n{b64('pw')}\r\n".encode(),
     ["S: + UGFzc3dvcmQ6", "E: LOGIN joe 'pw'", f"S: a NO {DENIED}"]),
    ("a literal for an answer", True, b"a AUTHENTICATE PLAIN\r\n{3}\r\nb NOOP\r\n",
     ["S: + ", "S: a BAD invalid base64", "S: b OK Nothing done."]),
    ("other mechanisms", True, b"a AUTHENTICATE CRAM-MD5\r\nb AUTHENTICATE\r\n",
     ["S: a NO [CANNOT] Mechanism not supported.", "S: b BAD AUTHENTICATE takes a mechanism and at most one answer."]),
    ("starttls", False, b"a STARTTLS\r\n", ["S: a OK Begin TLS negotiation now.", "E: tls"]),
    ("starttls in tls", True, b"a STARTTLS\r\n", ["S: a BAD TLS is on already."]),
    ("id", True, b'a ID NIL\r\nb ID ("name" "mutt" "os" NIL)\r\nc ID ("name" {4}\r\nmutt)\r\nd ID x\r\n',
     [ID, "S: a OK ID noted.", ID, "S: b OK ID noted.", "S: + OK", ID, "S: c OK ID noted.",
      "S: d BAD ID takes NIL or a list of pairs."]),
    ("not yet", True, b"a SELECT INBOX\r\nb ENABLE X\r\nc APPEND INBOX {3}\r\nd APPEND INBOX {3+}\r\n\r\n\n\r\n",
     [f"S: {tag} BAD Unknown command, or none for before the log-in." for tag in "abcd"]),
    ("no tags", True, b"\r\n+ x\r\nfoo\r\n a NOOP\r\n(a NOOP\r\na{1}\r\n",
     ["S: * BAD Empty command.", "S: * BAD Invalid tag.", "S: foo BAD Command missing.", "S: a OK Nothing done.",
      "S: * BAD Invalid tag.", "S: a BAD Command missing."]),
    ("too long", True, b"a LOGIN " + b"x" * 14_000 + b"\r\nb LOGIN {9000}\r\nc LOGIN {9000+}\r\n" + b"\n" * 9000
     + b" x\r\nd NOOP\r\n",
     ["S: a BAD [TOOBIG] Line too long.", "S: b BAD [TOOBIG] Literal too long.", "S: c BAD [TOOBIG] Literal too long.",
      "S: d OK Nothing done."]),
    ("http", True, b"GET / HTTP/1.0\r\nHost: x\r\n\r\n",
     ["S: GET BAD Unknown command, or none for before the log-in.", "S: Host: BAD Unknown command, or none for before "
      "the log-in.", "S: * BAD Empty command."]),
]


@pytest.mark.parametrize("name, secure, data, expected", TRANSCRIPTS, ids=[row[0] for row in TRANSCRIPTS])
@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_transcripts(name: str, secure: bool, data: bytes, expected: list[str], step: int) -> None:
    assert talk(Front(FrontOptions(), secure=secure), data, step) == "\n".join(expected)


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(TRANSCRIPTS), st.data())
def test_transcripts_in_random_pieces(row: tuple[str, bool, bytes, list[str]], draw: st.DataObject) -> None:
    _, secure, data, expected = row
    cuts = sorted(draw.draw(st.sets(st.integers(1, len(data) - 1), max_size=12)))
    assert talk(Front(FrontOptions(), secure=secure), data, cuts) == "\n".join(expected)


def test_greetings() -> None:
    front = Front(FrontOptions(), secure=False)
    front.greet()
    assert front.take_output() == f"* OK [CAPABILITY {PLAIN}] OneDomain ready.\r\n".encode()
    front = Front(FrontOptions(starttls=False, plaintext_login=True), secure=False)
    front.greet()
    assert front.take_output() == f"* OK [CAPABILITY {SECURE}] OneDomain ready.\r\n".encode()
    front.turn_away("UNAVAILABLE", "Too many\r\na OK connections")
    assert front.take_output() == b"* BYE [UNAVAILABLE] Too many??a OK connections\r\n"
    front.receive(b"a NOOP\r\n")
    assert front.next_event() is None


def test_what_came_before_tls_is_forgotten() -> None:
    front = Front(FrontOptions(), secure=False)
    front.receive(b'x ID ("name" "evil")\r\na STARTTLS\r\nb LOGIN evil pw\r\nc LOG')
    assert front.next_event() == StartTls()
    front.take_output()
    assert front.next_event() is None
    front.tls_started()
    assert front.client_id == {}
    assert talk(front, b"IN x y\r\nd CAPABILITY\r\n", 100) == "\n".join([
        "S: IN BAD Unknown command, or none for before the log-in.",
        f"S: * CAPABILITY {SECURE}",
        "S: d OK Capabilities listed.",
    ])


def test_a_password_in_the_clear_where_the_listener_says_so() -> None:
    front = Front(FrontOptions(starttls=False, plaintext_login=True), secure=False)
    assert talk(front, b"a STARTTLS\r\nb LOGIN joe pw\r\n", 100) == "\n".join([
        "S: a BAD TLS is not available.", "E: LOGIN joe 'pw'", f"S: b NO {DENIED}"])


def test_after_the_log_in_the_rest_is_the_homes() -> None:
    front = Front(FrontOptions(), secure=True)
    front.receive(b"a LOGIN joe pw\r\nb SELECT INBOX\r\nc FE")
    assert isinstance(front.next_event(), LogIn)
    assert front.next_event() is None
    front.receive(b"TCH")
    front.accept(("IMAP4rev1", "IDLE"), "Logged in.\r\nb OK")
    assert front.take_output() == b"a OK [CAPABILITY IMAP4rev1 IDLE] Logged in.??b OK\r\n"
    assert front.take_rest() == b"b SELECT INBOX\r\nc FETCH"


def test_the_clients_id_is_known() -> None:
    front = Front(FrontOptions(), secure=True)
    front.receive(b'a ID ("Name" "Thunder\nbird" "version" "1")\r\nb ID ("Name" "Thunderbird" "version" "1")\r\n')
    while front.next_event() is not None:
        pass
    assert front.client_id == {"name": "Thunderbird", "version": "1"}


def test_who_talks_nonsense_is_sent_away() -> None:
    front = Front(FrontOptions(), secure=True)
    front.receive(b"x\r\n" * (MAX_BAD + 5))
    assert front.next_event() == Close("too many bad commands")
    assert front.take_output().count(b"BAD") == MAX_BAD
    assert front.next_event() is None


def test_passwords_do_not_show() -> None:
    front = Front(FrontOptions(), secure=True)
    front.receive(b"a LOGIN joe secret\r\n")
    assert "secret" not in repr(front.next_event())


def test_capabilities_through_a_relay() -> None:
    home = ("IMAP4rev1", "auth=PLAIN", "COMPRESS=DEFLATE", "IDLE", "SASL-IR", "STARTTLS")
    assert through_relay(home) == ("IMAP4rev1", "IDLE")


@settings(deadline=None, max_examples=150)
@given(st.lists(st.binary(max_size=30) | st.sampled_from([b"{2}\r\n", b"{3+}\r\n", b"\r\n", b"a LOGIN ", b"b ID ("])),
       st.booleans())
def test_noise(pieces: list[bytes], secure: bool) -> None:
    data = b"".join(pieces)
    said = [talk(Front(FrontOptions(), secure=secure), data, step) for step in (1, max(1, len(data)))]
    if "E: tls" not in said[0]:
        assert said[0] == said[1]
