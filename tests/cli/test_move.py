"""The verbs about moves and drains: what is written, what is refused and why."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from onedomain.app.real import RealClock
from onedomain.cli import account, server
from onedomain.directory.moves import Moves
from onedomain.model.move import Count, Entry, Report
from onedomain.store.sql import Database

SERVER = """
[[server]]
name = "{name}"
kind = "node"
imap = {{ host = "127.0.0.1" }}
delivery = {{ host = "127.0.0.1" }}
{more}
"""
LINKED = 'replication = { user = "links", password = "x" }'
CONFIG = """\
[edge]
name = "mx1.example.com"
state = "."
[[domain]]
name = "example.com"
postmaster = "boss@example.com"
[[unit]]
name = "head"
[[listener]]
protocol = "smtp"
""" + "".join(SERVER.format(name=name, more=LINKED if name != "alone" else "") for name in ("s1", "s2", "s3", "alone"))

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    (tmp_path / "onedomain.toml").write_text(CONFIG)
    (tmp_path / "onedomain.toml").chmod(0o600)
    monkeypatch.setenv("ONEDOMAIN_LANG", "en")
    monkeypatch.setenv("ONEDOMAIN_CONFIG", str(tmp_path / "onedomain.toml"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.add_typer(account.app, name="account")
    app.add_typer(server.app, name="server")

    def run(words: str, status: int = 0) -> Result:
        result = CliRunner().invoke(app, words.split())
        assert result.exit_code == status, result.output
        return result

    for name, home, copies in (("a", "s1", ""), ("b", "s1", "--replica s3"), ("c", "alone", ""), ("d", "s2", "")):
        run(f"account add {name}@example.com --server {home} {copies}")
    return run


def moves(run: Run) -> list[tuple[str, str, str, str]]:
    found = json.loads(run("account moves --json").output)
    return [(each["account"][0], each["from"], each["to"], each["stage"]) for each in found]


def test_a_move_is_written_once(run: Run) -> None:
    assert "1 accounts would move; 0 would not" in run("account move a@example.com --to s2 --dry-run").output
    assert moves(run) == []
    assert "1 accounts are on their way" in run("account move a@example.com --to s2").output
    assert moves(run) == [("a", "s1", "s2", "copying")]
    assert "on its way already" in run("account move a@example.com --to s3", 1).output
    assert "1 moves cancelled" in run("account move-cancel a@example.com").output
    assert moves(run) == [("a", "s1", "s2", "cancelled")]
    run("account move a@example.com --to s3 --drop")
    assert moves(run) == [("a", "s1", "s3", "copying")]


def test_who_had_a_replica_has_it_after_a_move_was_cancelled(run: Run) -> None:
    """Whether it was to be the target or another, and whatever of the move has been done."""
    def replicas() -> list[str]:
        return list(json.loads(run("account show b@example.com --json").output)["replicas"])

    run("account move b@example.com --to s3 --drop")
    run("account move-cancel b@example.com")
    assert replicas() == ["s3"], "it was there before"
    for words in ("", " --drop"):
        run(f"account move b@example.com --to s2{words}")
        run("account set b@example.com --replica s2 --replica s3")  # what comes first in a move
        run("account move-cancel b@example.com")
        assert replicas() == ["s3"]
    run("account move b@example.com --to s2 --drop")
    run("account set b@example.com --replica s2")
    run("account move-cancel b@example.com")
    assert replicas() == [], "somebody has changed them meanwhile, so only the target goes"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ("account move --to s2", 2, "Name accounts, or --unit, or --from"),
        ("account move a@example.com --to nowhere", 1, "There is no server nowhere; known: s1, s2, s3, alone"),
        ("account move nobody@example.com --to s2", 1, "There is no account nobody@example.com"),
        ("account move d@example.com --to s2", 1, "d@example.com: lives there already"),
        ("account move c@example.com --to s2", 1, "no log-in for every account"),
        ("account move a@example.com --to alone", 1, "no log-in for every account"),
    ],
)
def test_what_is_refused(run: Run, words: str, status: int, said: str) -> None:
    assert said in run(words, status).output
    assert moves(run) == []


def test_a_unit_or_a_server_at_once(run: Run) -> None:
    run("account move --unit head --to s2", 1)  # d lives there, c can't
    assert moves(run) == [("a", "s1", "s2", "copying"), ("b", "s1", "s2", "copying")]
    run("account move-cancel")
    answer = json.loads(run("account move --from s1 --to s3 --json").output)
    assert [each["account"] for each in answer["moves"]] == ["a@example.com", "b@example.com"]
    assert answer["written"] is True and answer["refused"] == []


def test_a_drain_sends_people_to_their_replicas(run: Run) -> None:
    answer = json.loads(run("server drain s1 --json").output)
    targets = {each["account"][0]: each["to"] for each in answer["moves"]}
    assert targets["b"] == "s3", "where its copy is"
    assert targets["a"] in ("s2", "s3")
    assert {each["cause"] for each in answer["moves"]} == {"drain"}
    assert "no log-in for every account" in run("server drain alone", 1).output
    assert "takes accounts again" in run("server return s1").output


def test_a_drain_may_leave_people_where_they_are(run: Run) -> None:
    assert "takes no new accounts" in run("server drain s1 --stay").output
    assert moves(run) == []


def test_a_replica_is_dropped_by_what_it_lacks(run: Run) -> None:
    answer = json.loads(run("account drop b@example.com --json").output)
    [written] = answer["moves"]
    assert (written["from"], written["to"], written["stage"], written["keep"], written["force"]) == (
        "s3", "s1", "finishing", False, False)
    assert "on its way already" in run("account drop b@example.com --force", 1).output
    assert "1 moves cancelled" in run("account move-cancel b@example.com").output
    assert run("account drop b@example.com --force").output.startswith("1 accounts are on their way")
    assert "a@example.com: has no replica" in run("account drop a@example.com", 1).output
    assert "0 accounts are on their way" in run("account drop a@example.com", 1).output


def test_what_was_compared_can_be_read(run: Run, tmp_path: Path) -> None:
    assert "b@example.com was never compared" in run("account report b@example.com", 1).output
    run("account drop b@example.com")
    entries = (Entry("INBOX", 0, 7, "only there"), Entry("Sent", 3, 0, "missing"))
    report = Report(86_400.0, 2, (Count("same", 1204), Count("missing", 1), Count("only there", 1)), 1, entries, True)

    async def keep() -> None:
        database = await Database.open(f"sqlite:///{tmp_path}/directory.db")
        try:
            kept = Moves(database, RealClock())
            [move] = await kept.open()
            await kept.keep_report(move, report)
        finally:
            await database.close()

    asyncio.run(keep())
    shown = run("account report b@example.com").output
    for words in ("2 mailboxes with messages", "1204 same, 1 missing, 1 only there", "Only the first 2 are kept",
                  "1 messages at the old server are not the same", "account drop ADDRESS --force"):
        assert words in " ".join(shown.split()), shown
    told = json.loads(run("account report b@example.com --json").output)
    assert [each["verdict"] for each in told["entries"]] == ["only there", "missing"]
    assert (told["differ"], told["account"], told["moves"][0]["differ"]) == (1, "b@example.com", 1)
