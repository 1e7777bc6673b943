"""What a ledger asks for, and how what is found is judged: tables, no servers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from onedomain.ledger.expect import expectations
from onedomain.ledger.ledger import ACKED, REFUSED, UNKNOWN, Act, Ledger, Sent, read
from onedomain.ledger.verify import Found, Report, compare, judge

A = Act(op="deliver", account="a", token="t", state=ACKED)
APPEND = replace(A, op="append", folder="Work", added=("\\Seen",))
COPY = replace(A, op="copy", folder="INBOX", target="Work")
MOVE = replace(A, op="move", folder="INBOX", target="Work")
EXPUNGE = replace(A, op="expunge", folder="INBOX")
STORE = replace(A, op="store", folder="INBOX", added=("\\Seen",))
AT_WORK = replace(STORE, folder="Work")
BACK = replace(A, op="move", folder="Work", target="INBOX")
UNSEEN = replace(STORE, added=(), removed=("\\Seen",))
INBOX = Found("a", "s", "INBOX", 1, "t", frozenset())
WORK = replace(INBOX, folder="Work")
SEEN = frozenset({"\\seen"})


def unknown(act: Act) -> Act:
    return replace(act, state=UNKNOWN)


def refused(act: Act) -> Act:
    return replace(act, state=REFUSED)


@pytest.mark.parametrize(
    ("acts", "found", "red"),
    [
        ([A], [INBOX], []),
        ([A], [], ["lost"]),
        ([A], [INBOX, INBOX], ["doubled"]),
        ([A], [INBOX, WORK], ["doubled"]),
        ([A], [WORK], ["misplaced"]),
        ([A, A], [INBOX, INBOX], []),
        ([A, A], [INBOX], ["lost"]),
        ([unknown(A)], [], []),
        ([unknown(A)], [INBOX], []),
        ([unknown(A)], [INBOX, INBOX], ["doubled"]),
        ([unknown(A), A], [INBOX], []),
        ([unknown(A), A], [INBOX, INBOX], []),
        ([unknown(A), A], [], ["lost"]),
        ([refused(A)], [], []),
        ([refused(A)], [INBOX], ["unasked"]),
        ([refused(A), A], [INBOX], []),
        ([refused(A), A], [INBOX, INBOX], ["doubled"]),
        ([A], [INBOX, replace(INBOX, account="b")], ["misdelivered"]),
        ([A], [replace(INBOX, verdict="body")], ["altered"]),
        ([A], [INBOX, replace(INBOX, token=None)], []),
        ([APPEND], [replace(WORK, flags=SEEN)], []),
        ([APPEND], [WORK], ["misflagged"]),
        ([A, COPY], [INBOX, WORK], []),
        ([A, COPY], [INBOX], ["lost"]),
        ([A, COPY], [INBOX, INBOX], ["misplaced"]),
        ([A, unknown(COPY)], [INBOX], []),
        ([A, unknown(COPY)], [INBOX, WORK], []),
        ([A, unknown(COPY)], [WORK], ["misplaced"]),
        ([A, refused(COPY)], [INBOX, WORK], ["doubled"]),
        ([A, MOVE], [WORK], []),
        ([A, MOVE], [INBOX], ["misplaced"]),
        ([A, unknown(MOVE)], [INBOX], []),
        ([A, unknown(MOVE)], [WORK], []),
        ([A, unknown(MOVE)], [], ["lost"]),
        ([A, unknown(MOVE)], [INBOX, WORK], ["doubled"]),
        ([A, EXPUNGE], [], []),
        ([A, EXPUNGE], [INBOX], ["unasked"]),
        ([A, unknown(EXPUNGE)], [], []),
        ([A, unknown(EXPUNGE)], [INBOX], []),
        ([A, refused(EXPUNGE)], [], ["lost"]),
        ([A, STORE], [replace(INBOX, flags=SEEN)], []),
        ([A, STORE], [INBOX], ["misflagged"]),
        ([A, unknown(STORE)], [INBOX], []),
        ([A, STORE, replace(STORE, added=(), removed=("\\Seen",))], [replace(INBOX, flags=SEEN)], ["misflagged"]),
        ([A, STORE, MOVE], [WORK], ["misflagged"]),
        ([A, STORE, MOVE], [replace(WORK, flags=SEEN)], []),
        # Flags leave with their message: the next copy in the same folder has its own.
        ([A, COPY, AT_WORK, BACK, MOVE], [INBOX, WORK], []),
        ([A, COPY, AT_WORK, replace(EXPUNGE, folder="Work"), COPY], [INBOX, WORK], []),
        ([A, COPY, AT_WORK, replace(MOVE, folder="Work", target="Sent"), MOVE],
         [replace(WORK, folder="Sent", flags=SEEN), WORK], []),
        ([A, COPY, AT_WORK, replace(MOVE, folder="Work", target="Sent"), MOVE], [replace(WORK, folder="Sent"), WORK],
         ["misflagged"]),
        ([A, STORE, EXPUNGE, replace(APPEND, folder="INBOX", added=())], [INBOX], []),
        ([A, STORE, COPY, unknown(replace(EXPUNGE, folder="Work")), UNSEEN, COPY, replace(EXPUNGE, folder="Work")],
         [INBOX, replace(WORK, flags=SEEN)], []),
        ([replace(A, folder="inbox")], [INBOX], []),
    ],
)
def test_judgement(acts: list[Act], found: list[Found], red: list[str]) -> None:
    report = Report()
    judge(report, expectations(acts), found)
    assert sorted(finding.kind for finding in report.findings) == red
    assert report.ok == (not red)


def test_doubt_is_counted() -> None:
    report = Report()
    acts = [unknown(A), unknown(replace(A, token="u"))]
    judge(report, expectations(acts), [INBOX])
    assert (report.doubt_present, report.doubt_absent, report.ok) == (1, 1, True)


def test_an_unread_account_is_not_called_empty() -> None:
    report = Report()
    judge(report, expectations([A]), [], unread={"a"})
    assert report.findings == []


MAIL = b"X-Ledger-Token: t\r\nSubject: s\r\n\r\nbody\r\n"


@pytest.mark.parametrize(
    ("stored", "normalise", "verdict"),
    [
        (MAIL, False, "same"),
        (b"Received: by us\r\n" + MAIL, False, "same"),
        (b"Received: by us" + MAIL, False, "headers"),
        (b"Received: by us\r\n" + MAIL.replace(b": s", b": S"), False, "headers"),
        (MAIL.replace(b"body", b"bodY"), False, "body"),
        (MAIL + b"\r\n", False, "body"),
        (MAIL[:-2], False, "body"),
        (MAIL.replace(b"\r\n", b"\n"), False, "body"),
        (MAIL.replace(b"\r\n", b"\n"), True, "same"),
        (b"", False, "body"),
    ],
)
def test_what_was_sent_must_be_the_end_of_what_is_stored(stored: bytes, normalise: bool, verdict: str) -> None:
    assert compare(stored, Sent.of(MAIL), normalise) == verdict


def test_an_unfinished_last_line_may_be_finished() -> None:
    sent = Sent.of(MAIL[:-2])
    assert compare(MAIL, sent) == compare(MAIL[:-2], sent) == "same"
    assert compare(MAIL + b"\r\n", sent) == "body"


def test_the_ledger_survives_its_writer(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with Ledger(path) as one, Ledger(path) as two:
        first = one.begin("deliver", "a", "t1", Sent.of(MAIL), recipient="alias@a")
        second = two.begin("copy", "b", "t2", folder="INBOX", target="日本", added=["\\Seen"])
        two.settle(second, REFUSED, "NO")
        one.begin("deliver", "c", "t3")
        one.settle(first, ACKED, "250 ok")
    with path.open("ab") as file:
        file.write(b'{"id": "torn')
    acts = {act.token: act for act in read(path)}
    assert [(token, act.state) for token, act in acts.items()] == [("t1", ACKED), ("t2", REFUSED), ("t3", UNKNOWN)]
    assert acts["t1"].sent == Sent.of(MAIL) and acts["t1"].recipient == "alias@a"
    assert acts["t2"].target == "日本" and acts["t2"].added == ("\\Seen",)
