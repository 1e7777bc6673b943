"""The verbs on the directory, as people and scripts use them."""

# ruff: noqa: E501 (what is typed stays on one line)

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from onedomain.cli import account, alias, unit
from onedomain.directory.credentials import verify

CONFIG = """\
[edge]
name = "mx1.example.com"
state = "."
[[domain]]
name = "example.com"
aliases = ["example.co.jp"]
postmaster = "boss@example.com"
[[server]]
name = "s1"
kind = "node"
imap = { host = "127.0.0.1" }
delivery = { host = "127.0.0.1" }
[[server]]
name = "s2"
kind = "node"
imap = { host = "127.0.0.1" }
delivery = { host = "127.0.0.1" }
draining = true
[[unit]]
name = "head"
servers = ["s1", "s2"]
[[unit]]
name = "sales"
strict = true
level = "primary"
[[listener]]
protocol = "smtp"
"""

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    (tmp_path / "onedomain.toml").write_text(CONFIG)
    monkeypatch.setenv("ONEDOMAIN_LANG", "en")
    monkeypatch.setenv("ONEDOMAIN_CONFIG", str(tmp_path / "onedomain.toml"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    for name, part in (("account", account), ("alias", alias), ("unit", unit)):
        app.add_typer(part.app, name=name)

    def run(*words: str, given: str = "", status: int = 0) -> Result:
        result = CliRunner().invoke(app, list(words), input=given)
        assert result.exit_code == status, result.output + repr(result.exception)
        return result

    return run


def data(result: Result) -> Any:
    return json.loads(result.stdout)


def test_an_account_from_birth_to_end(run: Run) -> None:
    made = data(run("account", "add", "Taro@Example.co.jp", "--unit", "head", "--password", "--json", given="pass wörd\n"))
    assert made == {
        "address": "taro@example.com", "unit": "head", "primary": "s1", "replicas": [], "epoch": 1, "mailbox": "",
        "password": "argon2id", "forward_to": [], "keep_copy": True, "enabled": True,
    }  # fmt: skip
    assert "home: s2" in run("account", "add", "hana@example.com", "--unit", "sales", "--server", "s2").stdout
    assert [row["address"] for row in data(run("account", "list", "--json"))] == ["hana@example.com", "taro@example.com"]
    assert "the home decides" in run("account", "list", "hana").stdout
    changed = data(
        run("account", "set", "taro@example.com", "--server", "s2", "--replica", "s1", "--forward", "a@b.example",
            "--disabled", "--json")
    )  # fmt: skip
    assert (changed["primary"], changed["replicas"], changed["epoch"]) == ("s2", ["s1"], 2)
    assert (changed["forward_to"], changed["enabled"]) == (["a@b.example"], False)
    run("alias", "add", "info@example.com", "taro@example.com")
    shown = run("account", "show", "taro@example.com").stdout
    assert "aliases: info@example.com" in shown and "epoch: 2" in shown and "argon2id$" not in shown
    cleared = run("account", "set", "taro@example.com", "--forward", "", "--replica", "", "--enabled", "--json")
    assert data(cleared)["forward_to"] == data(cleared)["replicas"] == []
    assert "like that already" in run("account", "set", "taro@example.com", "--enabled").stdout
    assert "its mail at s2 was not touched" in run("account", "remove", "taro@example.com", "--yes").stdout
    run("account", "show", "taro@example.com", status=1)


def test_passwords_come_from_standard_input_only(run: Run) -> None:
    run("account", "add", "taro@example.com", "--unit", "head")

    def stored() -> str:
        return run("account", "export").stdout.splitlines()[1].split(",")[5].strip('"')

    run("account", "password", "taro@example.com", given="geheim\n")
    line = run("account", "export").stdout.splitlines()[1]
    assert "$argon2id$" in line and "geheim" not in line
    run("account", "password", "taro@example.com", "--scheme", "ssha256", given="geheim\n")
    assert verify(stored(), "geheim")
    run("account", "password", "taro@example.com", "--hash", given="{SHA}9Rfd8dMqES/xrVXGbRsSyzjn6Pc=\n")
    assert stored() == "{SHA}9Rfd8dMqES/xrVXGbRsSyzjn6Pc="
    assert "unknown scheme" in run("account", "password", "taro@example.com", "--hash", given="{X}y\n", status=2).stderr
    assert "use ARGON2ID" in run("account", "password", "taro@example.com", "--scheme", "SHA", given="x\n", status=2).stderr
    assert "no password" in run("account", "password", "taro@example.com", given="", status=2).stderr
    assert "home's own log-in" in run("account", "password", "taro@example.com", "--remove").stdout
    assert stored() == ""
    assert "{SHA}" not in run("account", "export", "--no-passwords").stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["account", "add", "x@example.com"], "name one with --unit: head, sales"),
        (["account", "add", "x@example.com", "--unit", "nix"], "no unit is called 'nix'"),
        (["account", "add", "x@example.com", "--unit", "head", "--server", "s9"], "no server is called 's9'"),
        (["account", "add", "x@other.example", "--unit", "head"], "not in a domain of ours"),
        (["account", "add", "x", "--unit", "head"], "not a mail address"),
        (["account", "add", "taro@example.com", "--unit", "head"], "exists already"),
        (["account", "add", "info@example.com", "--unit", "head"], "is an alias or an account already"),
        (["account", "show", "nobody@example.com"], "there is no nobody@example.com"),
        (["account", "set", "nobody@example.com", "--enabled"], "there is no nobody@example.com"),
        (["account", "remove", "nobody@example.com"], "there is no nobody@example.com"),
        (["alias", "add", "taro@example.com", "a@b.example"], "is an alias or an account already"),
        (["alias", "add", "x@example.com", "b"], "not a mail address"),
        (["alias", "remove", "x@example.com"], "there is no x@example.com"),
        (["unit", "show", "nix"], "no unit is called 'nix'"),
    ],
)
def test_errors_say_what_to_do(run: Run, words: list[str], message: str) -> None:
    run("account", "add", "taro@example.com", "--unit", "head")
    run("alias", "add", "info@example.com", "taro@example.com")
    assert message in run(*words, status=1).stderr


def test_wrong_use(run: Run, tmp_path: Path) -> None:
    assert "name something to change" in run("account", "set", "taro@example.com", status=2).stderr
    assert "No such file" in run("account", "import", "nix.csv", status=2).stderr
    (tmp_path / "sjis.csv").write_bytes("address,unit\n太郎".encode("cp932"))
    assert "not UTF-8" in run("account", "import", "sjis.csv", status=2).stderr
    (tmp_path / "onedomain.toml").write_text(CONFIG.replace("kind", "kimd"))
    assert "did you mean kind?" in run("account", "list", status=2).stderr
    (tmp_path / "onedomain.toml").write_text(CONFIG + '[directory]\nurl = "postgresql://x@127.0.0.1:1/y"\n')
    assert "does not answer" in run("account", "list", status=3).stderr
    (tmp_path / "onedomain.toml").write_text(CONFIG + '[directory]\nurl = "sqlite:////nowhere/at/all.db"\n')
    assert "not a folder" in run("account", "list", status=3).stderr


def test_csv_both_ways(run: Run, tmp_path: Path) -> None:
    rows = "address,unit,password\ntaro@example.com,head,{PLAIN}x\nhana@example.com,sales,\n"
    (tmp_path / "in.csv").write_text(rows)
    assert "nothing was written" in run("account", "import", "in.csv", "--dry-run").stdout
    assert data(run("account", "list", "--json")) == []
    assert "2 added, 0 changed, 0 unchanged" in run("account", "import", "in.csv").stdout
    assert "2 written to out.csv" in run("account", "export", "out.csv").stdout
    assert (tmp_path / "out.csv").stat().st_mode & 0o777 == 0o600
    assert data(run("account", "import", "out.csv", "--json"))["unchanged"] == 2
    wrong = run("account", "import", "-", given="address,unit\nx@example.com,nix\ny,head\n", status=1)
    assert "line 2: no unit is called 'nix'" in wrong.stderr and "line 3: 'y' is not" in wrong.stderr
    assert "2 line(s) are wrong; nothing was written" in wrong.stderr
    answer = run("account", "import", "-", "--json", given="address,unit\nx@example.com,nix\n", status=1)
    assert data(answer)["written"] is False and data(answer)["errors"][0]["line"] == 2
    assert "1 added" in run("alias", "import", "-", given="address,targets\n@example.com,taro@example.com a@b.example\n").stdout
    assert run("alias", "export").stdout == "address,targets\n@example.com,taro@example.com a@b.example\n"
    assert data(run("alias", "list", "--json")) == [
        {"address": "@example.com", "targets": ["taro@example.com", "a@b.example"]}
    ]
    assert "@example.com" in run("alias", "list").stdout
    assert "removed" in run("alias", "remove", "@example.co.jp").stdout


def test_people_may_be_named_before_anything_has_run(run: Run, tmp_path: Path) -> None:
    (tmp_path / "onedomain.toml").write_text(CONFIG.replace('state = "."', 'state = "var/state"'))
    run("account", "add", "joe@example.com", "--unit", "head")
    assert (tmp_path / "var/state").stat().st_mode & 0o777 == 0o700
    elsewhere = '[directory]\nurl = "sqlite:///missing/people.db"\n[[listener]]'
    (tmp_path / "onedomain.toml").write_text(CONFIG.replace("[[listener]]", elsewhere))
    assert "missing is not a folder" in run("account", "list", status=3).output
    assert not (tmp_path / "missing").exists()


def test_units(run: Run) -> None:
    run("account", "add", "taro@example.com", "--unit", "head")
    head, sales = data(run("unit", "list", "--json"))
    assert head == {
        "unit": "head", "level": "spool", "strict": False, "accounts": 1,
        "servers": [
            {"server": "s1", "accounts": 1, "draining": False}, {"server": "s2", "accounts": 0, "draining": True},
        ],
    }  # fmt: skip
    assert (sales["level"], sales["strict"], len(sales["servers"])) == ("primary", True, 2)
    assert "head" in run("unit", "list").stdout
    assert "draining" in run("unit", "show", "head").stdout
    assert data(run("unit", "show", "sales", "--json")) == sales


def test_japanese(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDOMAIN_LANG", "ja")
    assert "作成しました" in run("account", "add", "taro@example.com", "--unit", "head").stdout
    assert "既にあります" in run("account", "add", "taro@example.com", "--unit", "head", status=1).stderr
