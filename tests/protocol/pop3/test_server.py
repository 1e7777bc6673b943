"""POP3 as transcripts, RFC 1939's own among them; each whole and byte by byte. "E:" is what the caller is told."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onedomain.model.failure import Failed
from onedomain.protocol.pop3.events import Answered, Close, LogIn, Quit, Retrieve, StartTls
from onedomain.protocol.pop3.maildrop import Entry, Maildrop
from onedomain.protocol.pop3.server import MAX_AT_ONCE, MAX_BAD, MAX_LINE, MAX_READ, MAX_UNSENT, Pop3Options, Pop3Server

LOG_IN = b"USER mrose\r\nPASS secret\r\n"
LOGGED_IN = ["S: +OK Password, please.", "E: USER mrose 'secret'", "S: +OK Logged in, 2 messages (320 octets)."]


def drop() -> Maildrop:
    return Maildrop([Entry(7, 120, "whqtswO00WBw418f9t5JxYwZ"), Entry(9, 200, "QhdPYR:00WBw1Ph7x7")])


def b64(text: str) -> bytes:
    return b64encode(text.encode())


def talk(pop3: Pop3Server, data: bytes, step: int | Sequence[int], right: str = "secret") -> list[str]:
    out: list[str] = []
    at = range(step, len(data), step) if isinstance(step, int) else step
    for begin, end in pairwise((0, *at, len(data))):
        pop3.receive(data[begin:end])
        while True:
            event = pop3.next_event()
            out += [f"S: {line}" for line in pop3.take_output().decode().splitlines()]
            if event is None:
                break
            match event:
                case LogIn(c, mechanism):
                    out.append(f"E: {mechanism} {c.login} {c.password!r} {c.authorize}".rstrip())
                    if c.password == right:
                        pop3.opened(drop())
                    else:
                        pop3.refuse("AUTH", "Authentication failed.")
                case StartTls():
                    out.append("E: tls")
                    pop3.tls_started()
                case Retrieve(entry, lines):
                    out.append(f"E: retrieve {entry.uid} {lines}")
                    pop3.message(entry.size if lines is None else 0)
                    pop3.message_sent(entry, whole=lines is None)
                case Quit(deleted, retrieved):
                    out.append(f"E: quit deleted {[e.uid for e in deleted]} retrieved {[e.uid for e in retrieved]}")
                    pop3.closed()
                case Close():
                    out.append("E: close")
    return out + [f"S: {line}" for line in pop3.take_output().decode().splitlines()]


CAPA = ["S: +OK Capabilities follow.", "S: TOP", "S: UIDL", "S: RESP-CODES", "S: AUTH-RESP-CODE", "S: PIPELINING",
        "S: IMPLEMENTATION OneDomain"]
CLEAR = "S: -ERR Start TLS first: passwords are not taken in the clear."
TRANSCRIPTS: list[tuple[str, bool, bytes, list[str]]] = [
    ("rfc 1939 section 10", True, LOG_IN + b"STAT\r\nLIST\r\nRETR 1\r\nDELE 1\r\nRETR 2\r\nDELE 2\r\nQUIT\r\n", [
        *LOGGED_IN, "S: +OK 2 320", "S: +OK 2 messages (320 octets)", "S: 1 120", "S: 2 200", "S: .",
        "E: retrieve 7 None", "S: +OK 120 octets", "S: +OK Message 1 deleted.",
        "E: retrieve 9 None", "S: +OK 200 octets", "S: +OK Message 2 deleted.",
        "E: quit deleted [7, 9] retrieved [7, 9]", "S: +OK Bye."]),
    ("one by one", True, LOG_IN + b"list 2\r\nUIDL\r\nUIDL 2\r\nTOP 1 10\r\nDELE 1\r\nLIST\r\nUIDL 1\r\nNOOP\r\n"
     b"RSET\r\nSTAT\r\nQUIT\r\n", [
        *LOGGED_IN, "S: +OK 2 200", "S: +OK", "S: 1 whqtswO00WBw418f9t5JxYwZ", "S: 2 QhdPYR:00WBw1Ph7x7", "S: .",
        "S: +OK 2 QhdPYR:00WBw1Ph7x7", "E: retrieve 7 10", "S: +OK", "S: +OK Message 1 deleted.",
        "S: +OK 1 messages (200 octets)", "S: 2 200", "S: .", "S: -ERR Message 1 is deleted.", "S: +OK",
        "S: +OK Nothing is deleted.", "S: +OK 2 320", "E: quit deleted [] retrieved []", "S: +OK Bye."]),
    ("numbers", True, LOG_IN + b"RETR 3\r\nRETR 0\r\nRETR\r\nRETR x\r\nTOP 1\r\nTOP 1 -1\r\nDELE 99999999999\r\n"
     b"LAST\r\nUSER x\r\n", [
        *LOGGED_IN, "S: -ERR There is no message 3, only 2.", "S: -ERR There is no message 0, only 2.",
        *["S: -ERR A number is needed."] * 5, *["S: -ERR Unknown command."] * 2]),
    ("capabilities", True, b"CAPA\r\n" + LOG_IN + b"CAPA\r\n",
     [*CAPA, "S: USER", "S: SASL PLAIN LOGIN", "S: .", *LOGGED_IN, *CAPA, "S: ."]),
    ("capabilities in the clear", False, b"CAPA\r\nAUTH\r\n",
     [*CAPA, "S: STLS", "S: .", "S: +OK Mechanisms follow.", "S: ."]),
    ("in the clear", False, b"USER mrose\r\nPASS secret\r\nAUTH PLAIN\r\nSTAT\r\n",
     [CLEAR, "S: -ERR USER first.", CLEAR, "S: -ERR Unknown command, or log in first."]),
    ("passwords with blanks", True, b"USER m rose\r\nPASS  a b \r\n",
     ["S: +OK Password, please.", "E: USER m rose ' a b '", "S: -ERR [AUTH] Authentication failed."]),
    ("order", True, b"PASS x\r\nUSER\r\nUSER a\r\nPASS\r\nPASS y\r\n",
     ["S: -ERR USER first.", "S: -ERR Argument missing.", "S: +OK Password, please.", "S: -ERR [AUTH] empty password",
      "S: -ERR USER first."]),
    ("plain", True, b"AUTH PLAIN\r\n" + b64("\0joe\0pw") + b"\r\nauth plain "
     + b64("z\0mrose\0secret") + b"\r\nSTAT\r\n",
     ["S: + ", "E: PLAIN joe 'pw'", "S: -ERR [AUTH] Authentication failed.", "E: PLAIN mrose 'secret' z", LOGGED_IN[2],
      "S: +OK 2 320"]),
    ("login", True, b"AUTH\r\nAUTH LOGIN\r\n" + b64("joe") + b"\r\n" + b64("pw") + b"\r\n",
     ["S: +OK Mechanisms follow.", "S: PLAIN", "S: LOGIN", "S: .", "S: + VXNlcm5hbWU6", "S: + UGFzc3dvcmQ6",
      "E: LOGIN joe 'pw'", "S: -ERR [AUTH] Authentication failed."]),
    ("sasl gone wrong", True, b"AUTH X\r\nAUTH PLAIN\r\n*\r\nAUTH PLAIN !\r\nAUTH PLAIN =\r\n",
     ["S: -ERR Mechanism not supported.", "S: + ", "S: -ERR authentication cancelled", "S: -ERR invalid base64",
      "S: -ERR PLAIN needs two NULs"]),
    ("stls", False, b"STLS\r\n", ["S: +OK Begin TLS negotiation now.", "E: tls"]),
    ("stls in tls", True, b"STLS\r\n", ["S: -ERR TLS is on already."]),
    ("quit before", True, b"QUIT\r\nUSER x\r\n", ["S: +OK Bye.", "E: close"]),
    ("line ends", True, b"NOOP\nCAPA x\n\r\n", [
        "S: -ERR Unknown command, or log in first.", *CAPA, "S: USER", "S: SASL PLAIN LOGIN", "S: .",
        "S: -ERR Unknown command, or log in first."]),
    ("too long", True, b"USER " + b"x" * 20_000 + b"\r\nQUIT\r\n",
     ["S: -ERR Line too long.", "S: +OK Bye.", "E: close"]),
]


@pytest.mark.parametrize("name, secure, data, expected", TRANSCRIPTS, ids=[row[0] for row in TRANSCRIPTS])
@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_transcripts(name: str, secure: bool, data: bytes, expected: list[str], step: int) -> None:
    assert talk(Pop3Server(Pop3Options(), secure=secure), data, step) == expected


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(TRANSCRIPTS), st.data())
def test_transcripts_in_random_pieces(row: tuple[str, bool, bytes, list[str]], draw: st.DataObject) -> None:
    _, secure, data, expected = row
    cuts = sorted(draw.draw(st.sets(st.integers(1, len(data) - 1), max_size=12)))
    assert talk(Pop3Server(Pop3Options(), secure=secure), data, cuts) == expected


def test_greeting_and_turning_away() -> None:
    pop3 = Pop3Server(Pop3Options(), secure=False)
    pop3.greet()
    assert pop3.take_output() == b"+OK OneDomain ready.\r\n"
    pop3.turn_away("SYS/TEMP", "Too\r\n+OK many")
    assert pop3.take_output() == b"-ERR [SYS/TEMP] Too??+OK many\r\n"
    pop3.receive(b"CAPA\r\n")
    assert pop3.next_event() is None


def test_what_came_before_tls_is_forgotten() -> None:
    pop3 = Pop3Server(Pop3Options(plaintext_login=True), secure=False)
    pop3.receive(b"USER evil\r\nSTLS\r\nPASS secret\r\nQU")
    assert pop3.next_event() == StartTls()
    assert pop3.next_event() is None
    pop3.tls_started()
    pop3.take_output()
    assert talk(pop3, b"PASS secret\r\n", 100) == ["S: -ERR USER first."]


def test_nothing_is_read_while_a_message_is_sent() -> None:
    pop3 = Pop3Server(Pop3Options(), secure=True)
    talk(pop3, LOG_IN, 100)
    pop3.receive(b"RETR 1\r\nDELE 1\r\nQUIT\r\n")
    event = pop3.next_event()
    assert isinstance(event, Retrieve)
    assert pop3.next_event() is None
    pop3.refuse("SYS/TEMP", "The server is away.")
    assert pop3.take_output() == b"-ERR [SYS/TEMP] The server is away.\r\n"
    assert pop3.next_event() == Quit((event.entry,), ())
    pop3.closed("1 message could not be removed.")
    assert pop3.take_output() == b"+OK Message 1 deleted.\r\n-ERR [SYS/TEMP] 1 message could not be removed.\r\n"


def test_who_talks_nonsense_is_sent_away() -> None:
    pop3 = Pop3Server(Pop3Options(), secure=True)
    pop3.receive(b"x\r\n" * (MAX_BAD + 5))
    assert pop3.next_event() == Close("too many bad commands")
    assert pop3.take_output().count(b"-ERR") == MAX_BAD


def test_an_endless_line_takes_no_memory() -> None:
    pop3 = Pop3Server(Pop3Options(), secure=True)
    for _ in range(100):
        pop3.receive(b"x" * 10_000)
        assert pop3.next_event() is None
        assert len(pop3._data) < 50_000
    assert pop3.take_output() == b"-ERR Line too long.\r\n"


def test_what_waits_for_an_answer_takes_no_memory() -> None:
    pop3 = Pop3Server(Pop3Options(plaintext_login=True), secure=False)
    pop3.receive(b"STLS\r\n" + b"x" * MAX_LINE)
    assert pop3.next_event() == StartTls()
    pop3.receive(b"x" * MAX_READ)
    with pytest.raises(Failed, match="Too much at once"):
        pop3.receive(b"x")


@pytest.mark.parametrize("command", [b"LIST\r\n", b"UIDL\r\n", b"CAPA\r\n"])
def test_who_asks_without_reading_takes_no_memory(command: bytes) -> None:
    """The answers to what fits one read would be hundreds of times as long."""
    pop3 = Pop3Server(Pop3Options(), secure=True)
    talk(pop3, LOG_IN, 100)
    pop3._maildrop = Maildrop([Entry(uid, 1000, f"{uid:08x}") for uid in range(1, 301)])
    asked = 65_536 // len(command)
    pop3.receive(command * asked)
    answers = 0
    while answers < asked:
        event = pop3.next_event()
        said = pop3.take_output()
        assert len(said) < 2 * MAX_UNSENT
        answers += said.count(b"+OK")
        assert event == (Answered() if answers < asked or len(said) > MAX_UNSENT else None)


@pytest.mark.parametrize("command", [b"STAT\r\n", b"NOOP\r\n", b"DELE 9\r\n"])
def test_many_commands_at_once_are_taken_in_turns(command: bytes) -> None:
    pop3 = Pop3Server(Pop3Options(), secure=True)
    talk(pop3, LOG_IN, 100)
    pop3.receive(command * (3 * MAX_AT_ONCE + 1))
    said = []
    while pop3.next_event() == Answered():
        said.append(pop3.take_output().count(b"\r\n"))
    assert said == [MAX_AT_ONCE] * 3
    assert pop3.take_output().count(b"\r\n") == 1


@settings(deadline=None, max_examples=150)
@given(st.lists(st.binary(max_size=20) | st.sampled_from([b"\r\n", b"RETR ", b"1", LOG_IN, b"AUTH PLAIN", b"QUIT"])))
def test_noise(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    assert talk(Pop3Server(Pop3Options(), secure=True), data, 1) == talk(
        Pop3Server(Pop3Options(), secure=True), data, max(1, len(data)))
