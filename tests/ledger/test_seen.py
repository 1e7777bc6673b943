"""What readers were shown, and what contradicts it."""

from __future__ import annotations

from onedomain.ledger.seen import NOTHING, Seen, Told


def test_a_uid_names_one_message() -> None:
    seen = Seen()
    seen.message("a/INBOX/1", "7", "t1")
    seen.message("a/INBOX/1", "7", "t1")
    seen.message("a/INBOX/2", "7", "t2")
    assert not seen.contradictions, "another UIDVALIDITY, other numbers"
    seen.message("a/INBOX/1", "7", "t3")
    assert seen.contradictions == ["a/INBOX/1: 7 was t1 and is t3"]


def test_uidnext_does_not_go_back() -> None:
    seen = Seen()
    ten, nine = Told(10, "by A"), Told(9, "by B")
    seen.uidnext("a/INBOX/1", ten, NOTHING)
    assert seen.nexts("a/INBOX/") == {"a/INBOX/1": ten} and not seen.nexts("a/Work/")
    seen.uidnext("a/INBOX/1", nine, NOTHING)
    assert not seen.contradictions, "asked for before anybody had read 10"
    seen.uidnext("a/INBOX/1", nine, ten)
    assert seen.contradictions == ["a/INBOX/1: UIDNEXT went back from 10 (by A) to 9 (by B)"]
