"""`onedomain node`: accounts and the check, without a node running."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner

from onedomain.cli.node import app
from onedomain.directory import credentials

runner = CliRunner()


def test_accounts_are_made_and_listed(tmp_path: Path) -> None:
    data = ["--data", str(tmp_path)]
    added = runner.invoke(app, ["account", "add", "Taro@Example.com", "--password-stdin", *data], input="secret\n")
    assert added.exit_code == 0, added.output
    assert runner.invoke(app, ["account", "add", "a..b@x.jp", "--no-password", *data]).exit_code == 0
    listed = runner.invoke(app, ["account", "list", "--json", *data])
    assert json.loads(listed.output) == ["a..b@x.jp", "taro@example.com"]
    db = sqlite3.connect(tmp_path / "node.db")
    ((stored,),) = db.execute("SELECT password FROM account WHERE name = 'taro@example.com'")
    db.close()
    assert credentials.verify(stored, "secret") and "secret" not in stored


def test_what_is_no_address_is_refused(tmp_path: Path) -> None:
    assert runner.invoke(app, ["account", "add", "nobody", "--no-password", "--data", str(tmp_path)]).exit_code == 1


def test_check_answers_by_its_status(tmp_path: Path) -> None:
    data = ["--data", str(tmp_path)]
    assert runner.invoke(app, ["check", *data]).exit_code == 1  # nothing there at all
    runner.invoke(app, ["account", "add", "u@x.jp", "--no-password", *data])
    sound = runner.invoke(app, ["check", "--json", *data])
    assert sound.exit_code == 0 and json.loads(sound.output)["clean"] is True
    db = sqlite3.connect(tmp_path / "node.db")
    db.execute("UPDATE folder SET uidvalidity = 0 WHERE name = 'INBOX'")
    db.commit()
    db.close()
    broken = runner.invoke(app, ["check", *data])
    assert broken.exit_code == 1 and "uidvalidity" in broken.output


def test_what_is_said_in_japanese(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDOMAIN_LANG", "ja")
    data = ["--data", str(tmp_path)]
    added = runner.invoke(app, ["account", "add", "taro@x.jp", "--no-password", *data])
    assert "taro@x.jp: アカウントがあります" in added.output
    as_json = runner.invoke(app, ["account", "add", "taro@x.jp", "--password-stdin", "--json", *data], input="p\n")
    assert json.loads(as_json.output) == {"account": "taro@x.jp", "password": True}
    assert "問題ありません" in runner.invoke(app, ["check", *data]).output
    wrong = tmp_path / "node.toml"
    wrong.write_text('data = "d"\nimaps = ["127.0.0.1:1"]\nmax_sessions = 0\nlmtp = ["x"]\nnix = 1\n')
    said = runner.invoke(app, ["check", "--config", str(wrong)])
    assert said.exit_code == 2
    for words in ("max_sessions: 1 以上", "lmtp.0: 127.0.0.1:10143 のように", "nix: この表にないキー"):
        assert words in said.output, said.output
    wrong.write_text('data = "d"\nimaps = ["127.0.0.1:1"]\n')
    assert "imaps には certificate" in runner.invoke(app, ["check", "--config", str(wrong)]).output
    wrong.write_text("data = ")
    assert str(wrong) in runner.invoke(app, ["check", "--config", str(wrong)]).output


def test_wrong_settings_are_told(tmp_path: Path) -> None:
    assert runner.invoke(app, ["run", "--data", str(tmp_path), "--imap", "nonsense"]).exit_code == 2
