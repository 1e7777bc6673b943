"""The ledger turns red when a message is taken away, doubled, altered, moved or re-flagged by hand on a real server."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from onedomain.ledger.corpus import DEFAULT_KINDS
from onedomain.ledger.ledger import read
from onedomain.ledger.load import Plan, run
from onedomain.ledger.verify import Mailbox, Report, verify
from tests.lab.cyrus import Cyrus
from tests.lab.dovecot import Dovecot
from tests.lab.fetched import body
from tests.lab.postfix import Postfix
from tests.lab.process import wait_until

pytestmark = pytest.mark.real

EVERYTHING = (*DEFAULT_KINDS, "obsolete")
ACCOUNTS = ["taro@example.com", "hanako@example.com", "a..b@example.com", "o'brien@example.com"]


def mailboxes(server: Dovecot | Cyrus) -> list[Mailbox]:
    return [Mailbox(a, server.host, server.imap_port, a, "secret", server.kind) for a in ACCOUNTS]


def deliver(server: Dovecot | Cyrus, book: Path, **options: object) -> None:
    server.prepare(*ACCOUNTS)
    plan = Plan(
        targets=[(server.host, server.lmtp_port)],
        recipients=ACCOUNTS,
        lmtp=True,
        **{"count": 72, "sessions": 4, "recipients_per_message": 3, "max_size": 1 << 16, **options},  # type: ignore[arg-type]
    )
    outcome = asyncio.run(run(plan, book))
    assert outcome.refused == outcome.unknown == 0, outcome.summary()
    assert outcome.acked >= outcome.messages


@pytest.fixture
def book(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


def inbox(server: Dovecot | Cyrus, account: str = ACCOUNTS[0]):  # type: ignore[no-untyped-def]
    session = server.imap(account)
    session.select("INBOX")
    return session


def red(report: Report) -> dict[str, int]:
    return {kind: count for kind, count in report.counts().items() if count}


@pytest.mark.parametrize("format", ["sdbox", "maildir"])
def test_every_kind_of_message_comes_back_as_sent_from_dovecot(
    start_dovecot: Callable[..., Dovecot], book: Path, format: str
) -> None:
    server = start_dovecot(format=format)
    deliver(server, book, kinds=EVERYTHING)
    report = verify(book, mailboxes(server))
    assert report.ok, report.table()
    assert report.found == report.acknowledged == len(read(book))


def test_every_kind_of_message_comes_back_as_sent_from_cyrus(cyrus: Cyrus, book: Path) -> None:
    deliver(cyrus, book, kinds=EVERYTHING)
    report = verify(book, mailboxes(cyrus))
    assert report.ok, report.table()


def test_unfinished_last_lines_by_bdat(dovecot: Dovecot, book: Path) -> None:
    deliver(dovecot, book, chunked=True, kinds=["no_final_newline", "controls"], count=10)
    report = verify(book, mailboxes(dovecot))
    assert report.ok, report.table()


def test_a_removed_message_is_lost(dovecot: Dovecot, book: Path) -> None:
    deliver(dovecot, book)
    session = inbox(dovecot)
    session.store("3", "+FLAGS", r"(\Deleted)")
    session.expunge()
    assert red(verify(book, mailboxes(dovecot))) == {"lost": 1}


def test_a_copied_message_is_doubled(dovecot: Dovecot, book: Path) -> None:
    deliver(dovecot, book)
    inbox(dovecot).copy("3", "Trash")
    assert red(verify(book, mailboxes(dovecot))) == {"doubled": 1}


def test_a_message_in_another_folder_is_misplaced(dovecot: Dovecot, book: Path) -> None:
    deliver(dovecot, book)
    inbox(dovecot)._simple_command("MOVE", "3", "Trash")
    assert set(red(verify(book, mailboxes(dovecot)))) == {"misplaced"}


@pytest.mark.parametrize("where", ["body", "headers"])
def test_one_octet_changed_is_altered(dovecot: Dovecot, book: Path, where: str) -> None:
    deliver(dovecot, book, kinds=["plain"])
    session = inbox(dovecot)
    data = body(session.fetch("3", "(BODY.PEEK[])"))
    assert data.endswith(b"\r\n")
    changed = data[:-3] + bytes([data[-3] ^ 1]) + b"\r\n"
    if where == "headers":
        changed = data.replace(b"Subject: plain", b"Subject: plane")
    session.append("INBOX", None, None, changed)
    session.store("3", "+FLAGS", r"(\Deleted)")
    session.expunge()
    report = verify(book, mailboxes(dovecot))
    assert red(report) == {"altered": 1}
    assert report.of("altered")[0].detail.startswith(where)


def test_somebody_elses_message_is_misdelivered(dovecot: Dovecot, book: Path) -> None:
    deliver(dovecot, book, recipients_per_message=1)
    data = body(inbox(dovecot).fetch("1", "(BODY.PEEK[])"))
    inbox(dovecot, ACCOUNTS[1]).append("INBOX", None, None, data)
    assert red(verify(book, mailboxes(dovecot))) == {"misdelivered": 1}


def test_an_account_that_cannot_be_read_is_not_clean(dovecot: Dovecot, book: Path) -> None:
    deliver(dovecot, book)
    wrong = [Mailbox(ACCOUNTS[0], dovecot.host, dovecot.imap_port, ACCOUNTS[0], "wrong"), *mailboxes(dovecot)[1:]]
    assert red(verify(book, wrong)) == {"unread": 1}


def test_postfix_passes_every_kind_of_message_unaltered(
    start_postfix: Callable[..., Postfix], dovecot: Dovecot, book: Path
) -> None:
    """Or a test with Postfix as the world could not tell whose fault an altered octet is."""
    world = start_postfix(relay={"example.com": (dovecot.host, dovecot.lmtp_port)}, protocol="lmtp")
    dovecot.prepare(*ACCOUNTS)
    plan = Plan([(world.host, world.smtp_port)], ACCOUNTS, count=54, sessions=4, max_size=1 << 16)
    outcome = asyncio.run(run(plan, book))
    assert outcome.acked == 54, outcome.summary()
    wait_until(lambda: not world.queue(), "an empty queue")
    report = verify(book, mailboxes(dovecot))
    assert report.ok, report.table()


def test_both_work_as_programs(dovecot: Dovecot, book: Path) -> None:
    def program(name: str, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", f"onedomain.ledger.{name}", "--ledger", str(book), "--json", *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])

    sent = program(
        "load", f"{dovecot.host}:{dovecot.lmtp_port}", "--lmtp", "--count", "5", f"--to=alias@x={ACCOUNTS[0]}"
    )
    assert (sent.returncode, json.loads(sent.stdout)["acked"]) == (0, 5), sent.stderr
    places = book.with_name("mailboxes.json")
    places.write_text(json.dumps([vars(mailboxes(dovecot)[0]) | {"user": "alias@x"}]))
    judged = program("verify", "--mailboxes", str(places))
    assert judged.returncode == 0 and json.loads(judged.stdout)["ok"], judged.stdout + judged.stderr
    session = dovecot.imap("alias@x")
    session.select("INBOX")
    session.store("1", "+FLAGS", r"(\Deleted)")
    session.expunge()
    judged = program("verify", "--mailboxes", str(places))
    assert judged.returncode == 1 and json.loads(judged.stdout)["lost"] == 1
