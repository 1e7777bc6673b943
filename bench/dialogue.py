"""What clients say in IMAP, POP3 and SMTP: the steps of the load. Knows no server and no figure."""

from __future__ import annotations

from bench.talk import Step

PASSWORD = b"secret-of-all"
LOGIN = b"a LOGIN %u " + PASSWORD + b"\r\n"

IMAP_SESSION = (
    Step(b"", b"* OK"),
    Step(LOGIN, b"a OK"),
    Step(b"b NOOP\r\n", b"b OK"),
    Step(b"c LOGOUT\r\n", b"c OK", ends=True),
)
IMAP_NOOPS = (
    Step(b"", b"* OK"),
    Step(LOGIN, b"a OK"),
    Step(b"b NOOP\r\n", b"b OK", begins=True, ends=True),
    Step(b"c LOGOUT\r\n", b"c OK"),
)
IMAP_BULK = (
    Step(b"", b"* OK"),
    Step(LOGIN, b"a OK"),
    Step(b"b FETCH 1 BODY[]\r\n", b"b OK", begins=True, ends=True),
    Step(b"c LOGOUT\r\n", b"c OK"),
)
IMAP_IDLE = (Step(b"", b"* OK"), Step(LOGIN, b"a OK", ends=True))
IMAP_FLAGS = (
    Step(b"", b"* OK"),
    Step(LOGIN, b"a OK"),
    Step(b"b SELECT INBOX\r\n", b"b OK"),
    Step(b"c STORE 1 -FLAGS.SILENT (\\Flagged)\r\n", b"c OK"),
    Step(b"d STORE 1 +FLAGS.SILENT (\\Flagged)\r\n", b"d OK"),
    Step(b"e LOGOUT\r\n", b"e OK", ends=True),
)
"""Two changes."""

POP3_SESSION = (
    Step(b"", b"+OK"),
    Step(b"USER %u\r\n", b"+OK"),
    Step(b"PASS " + PASSWORD + b"\r\n", b"+OK"),
    Step(b"STAT\r\n", b"+OK"),
    Step(b"QUIT\r\n", b"+OK", ends=True),
)

HEADER = (
    b"From: Ichiro <sender@example.net>\r\nTo: <%s>\r\nSubject: =?UTF-8?B?5L2V44GL?=\r\n"
    b"Date: Mon, 2 Mar 2026 09:00:00 +0900\r\nMessage-ID: <20260302.090000@example.net>\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n"
)
LINE = b"The quick brown fox jumps over the lazy dog, and so do we, every day of the week"[:76] + b"\r\n"


def message(size: int) -> bytes:
    """`size` octets of a message, and the dot."""
    header = HEADER % b"somebody@example.com"
    lines, rest = divmod(size - len(header), len(LINE))
    return header + LINE * lines + (b"x" * (rest - 2) + b"\r\n" if rest > 2 else b"") + b".\r\n"


def smtp(size: int, *, hello: str = "client.example.net") -> list[Step]:
    """A session with one message: MAIL, RCPT and DATA in one write (RFC 2920), as mail servers do. Timed is the
    message, from MAIL to the 250 after the dot. Steps 2 and 3 may be repeated.
    """
    return [
        Step(b"", b"220 "),
        Step(b"EHLO " + hello.encode() + b"\r\n", b"250 "),
        Step(b"MAIL FROM:<sender@example.net>\r\nRCPT TO:<%u>\r\nDATA\r\n", b"354 ", begins=True),
        Step(message(size), b"250 ", ends=True),
        Step(b"QUIT\r\n", b"221 "),
    ]


MESSAGE = (2, 4)
"""What to repeat of `smtp`."""


def lookups() -> list[Step]:
    """Step 2, to be repeated, asks for a recipient and takes it back."""
    first, hello, *_ = smtp(1000)
    ask = b"MAIL FROM:<sender@example.net>\r\nRCPT TO:<%u>\r\nRSET\r\nVRFY %u\r\n"
    return [first, hello, Step(ask, b"252 ", begins=True, ends=True), Step(b"QUIT\r\n", b"221 ")]


def submission(size: int) -> list[Step]:
    """AUTH PLAIN (RFC 4954) with the initial response, then the message."""
    first, hello, *rest = smtp(size)
    rest[0] = Step(rest[0].send.replace(b"<sender@example.net>", b"<%u>"), b"354 ")
    login = Step(b"AUTH PLAIN %p\r\n", b"235 ")
    return [first, hello, login, rest[0], rest[1], Step(b"QUIT\r\n", b"221 ", ends=True)]
