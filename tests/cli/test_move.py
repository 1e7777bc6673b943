"""The verbs about moves and drains: what is written, what is refused and why."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from onedomain.cli import account, server

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
