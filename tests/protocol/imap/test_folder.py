"""What is in a folder: the short way and the ordinary one say the same, however the answers come."""

from __future__ import annotations

import pytest

from onedomain.protocol.imap import folder
from onedomain.protocol.imap.folder import FolderParser, Listed
from onedomain.protocol.imap.response import ResponseError

ASKED = b"o1 SELECT INBOX\r\no2 UID FETCH 1:* (UID RFC822.SIZE FLAGS)\r\n"
DOVECOT = (
    b"* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)\r\n"
    b"* OK [PERMANENTFLAGS (\\Answered \\Seen \\*)] Flags permitted.\r\n* 3 EXISTS\r\n* 1 RECENT\r\n"
    b"* OK [UNSEEN 2] First unseen.\r\n* OK [UIDVALIDITY 1796000000] UIDs valid\r\n* OK [UIDNEXT 12] next {3}\r\n"
    b"o1 OK [READ-WRITE] Select completed (0.001 + 0.000 secs).\r\n"
    b"* 1 FETCH (UID 4 FLAGS (\\Seen) RFC822.SIZE 310)\r\n* 2 FETCH (UID 9 FLAGS () RFC822.SIZE 23)\r\n"
    b"* 3 FETCH (FLAGS (\\deleted $Junk) UID 11 RFC822.SIZE 4294967296 MODSEQ (12))\r\no2 OK Fetch completed.\r\n"
)
THREE = [Listed(4, 310, True, False), Listed(9, 23, False, False), Listed(11, 1 << 32, False, True)]
UNUSUAL = (
    b"* 2 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\no1 OK y\r\n* 2 FETCH (UID 9 RFC822.SIZE 5 FLAGS (\\Seen) X \"a)b\")\r\n"
    b"* 1 FETCH (FLAGS (\\Seen))\r\n* 1 FETCH (UID 3 X {6}\r\n* 1 \r\n RFC822.SIZE 6)\r\n* 3 EXPUNGE\r\n"
    b"* 2 FETCH (UID 9 RFC822.SIZE 5 FLAGS (\\Deleted))\r\n* OK [ALERT] hm\r\n* SEARCH\r\no2 OK z\r\n"
)
TWO = [Listed(3, 6, False, False), Listed(9, 5, False, True)]


def heard(said: bytes, step: int) -> tuple[list[Listed], int]:
    parser = FolderParser()
    assert parser.open("INBOX") == ASKED
    for at in range(0, len(said), step):
        parser.receive(said[at : at + step])
        found = parser.opened()
        if found is not None:
            assert at + step >= len(said)
            return found, parser.uidvalidity
    raise AssertionError("more was waited for")


@pytest.mark.parametrize(
    ("said", "listed", "uidvalidity"), [(DOVECOT, THREE, 1796000000), (UNUSUAL, TWO, 7)], ids=["usual", "unusual"]
)
@pytest.mark.parametrize("step", [1, 2, 7, 100, 10_000])
@pytest.mark.parametrize("short", [True, False])
def test_what_is_there(
    said: bytes, listed: list[Listed], uidvalidity: int, step: int, short: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not short:
        monkeypatch.setattr(folder, "_LINE", folder.re.compile(rb"nothing"))
    assert heard(said, step) == (listed, uidvalidity)


@pytest.mark.parametrize("second", [b"OK done", b"BAD no such number", b"NO no such number"])
def test_an_empty_folder(second: bytes) -> None:
    said = b"* 0 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\no1 OK y\r\no2 " + second + b"\r\n"
    assert heard(said, 5) == ([], 7)


@pytest.mark.parametrize(
    "said",
    [
        b"o1 NO [NONEXISTENT] none\r\n",
        b"* OK [UIDVALIDITY 7] x\r\n* 1 EXISTS\r\no1 OK y\r\no2 BAD no\r\n",
        b"* 1 EXISTS\r\no1 OK y\r\n",
        b"* OK [UIDVALIDITY none] x\r\no1 OK y\r\n",
        b"* OK [UIDVALIDITY 7] x\r\no2 OK y\r\n",
        b"* OK [UIDVALIDITY 7] x\r\no1 OK y\r\na1 OK z\r\n",
        b"* 1 FETCH (UID)\r\n",
        b"* 1 FETCH 7\r\n",
        b"garbage\r\n",
    ],
)
def test_what_is_no_answer(said: bytes) -> None:
    with pytest.raises(ResponseError):
        heard(said, 3)


def test_more_than_anybody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "MAX_LISTED", 2)
    with pytest.raises(ResponseError):
        heard(DOVECOT, 10_000)


def test_an_ordinary_parser_after_that() -> None:
    parser = FolderParser()
    parser.open("INBOX")
    parser.receive(DOVECOT)
    assert parser.opened() == THREE
    parser.receive(b"* 4 EXISTS\r\n* 1 FETCH (UID 4 RFC822.SIZE 1 FLAGS ())\r\n")
    events = [parser.next_event(), parser.next_event(), parser.next_event()]
    assert [getattr(event, "name", None) for event in events] == ["EXISTS", "FETCH", None]
