"""What clients were told is done is found on the servers; what is undone behind their backs turns the ledger red."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from onedomain.ledger.clients import Client, work
from onedomain.ledger.corpus import Corpus
from onedomain.ledger.ledger import ACKED, UNKNOWN, Ledger, read
from onedomain.ledger.verify import Mailbox, verify
from tests.lab.cyrus import Cyrus
from tests.lab.dovecot import Dovecot
from tests.lab.relay import Relay

pytestmark = pytest.mark.real

BOB = "bob@example.com"
MESSAGE = Corpus().message(0, "t1", "a@example.org", [BOB]).data


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        yield ledger


def mailbox(server: Dovecot | Cyrus, port: int | None = None) -> Mailbox:
    return Mailbox(BOB, server.host, port or server.imap_port, BOB, "secret", server.kind)


@pytest.fixture(params=["dovecot", "cyrus"])
def server(request: pytest.FixtureRequest) -> Dovecot | Cyrus:
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


def test_random_work_is_clean(server: Dovecot | Cyrus, ledger: Ledger) -> None:
    client = Client(mailbox(server), ledger)
    client.connect()
    assert work(client, 150, seed=7) == 150
    client.close()
    report = verify(ledger.path, [mailbox(server)])
    assert report.ok, report.table()
    assert {act.op for act in read(ledger.path)} == {"append", "copy", "move", "store", "expunge"}
    server.kill()
    server.start()
    report = verify(ledger.path, [mailbox(server)])
    assert report.ok, report.table()


@pytest.mark.parametrize("undone", ["flag", "expunge", "move", "copy"])
def test_an_acknowledged_change_that_is_undone_is_seen(dovecot: Dovecot, ledger: Ledger, undone: str) -> None:
    client = Client(mailbox(dovecot), ledger)
    client.connect()
    assert client.append("INBOX", MESSAGE, "t1") == ACKED
    behind = dovecot.imap(BOB)
    if undone == "flag":
        client.store("t1", "INBOX", added=[r"\Flagged"])
        behind.select("INBOX")
        behind.store("1", "-FLAGS", r"(\Flagged)")
    elif undone == "expunge":
        client.expunge("t1", "INBOX")
        behind.append("INBOX", None, None, MESSAGE)
    elif undone == "move":
        client.move("t1", "INBOX", "Trash")
        behind.select("Trash")
        behind._simple_command("MOVE", "1", "INBOX")
    else:
        client.copy("t1", "INBOX", "Trash")
        behind.select("Trash")
        behind.store("1", "+FLAGS", r"(\Deleted)")
        behind.expunge()
    client.close()
    behind.logout()
    report = verify(ledger.path, [mailbox(dovecot)])
    expected = {"flag": "misflagged", "expunge": "unasked", "move": "misplaced", "copy": "lost"}[undone]
    assert {finding.kind for finding in report.findings} == {expected}, report.table()


def test_a_lost_answer_is_in_doubt(dovecot: Dovecot, start_relay: Callable[..., Relay], ledger: Ledger) -> None:
    relay = start_relay(dovecot.host, dovecot.imap_port)
    client = Client(mailbox(dovecot, relay.port), ledger)
    client.connect()
    relay.lose(b"APPENDUID")
    assert client.append("INBOX", MESSAGE, "t1") == UNKNOWN
    assert not client.connected
    report = verify(ledger.path, [mailbox(dovecot)])
    assert report.ok and (report.doubt_present, report.doubt_absent) == (1, 0), report.table()
