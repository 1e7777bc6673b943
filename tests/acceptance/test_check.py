"""`onedomain check` and what a wrong file does: everything is found at once, with its line, and nothing starts half."""

from __future__ import annotations

import datetime
import imaplib
import json
import os
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.cluster import Home, add_accounts
from tests.lab.cyrus import Cyrus
from tests.lab.dovecot import Dovecot
from tests.lab.edge import Edge, document
from tests.lab.ours import command, run
from tests.lab.ports import free_port
from tests.lab.process import wait_until
from tests.lab.tls import Authority, Certificate

JOE, PROBE = "joe@example.com", "probe@example.com"
FEW = {"max_sessions": 100}
PLACES = dict.fromkeys(("smtp", "imap", "imaps"), FEW)


@dataclass(frozen=True)
class Said:
    status: int
    out: str
    err: str

    def findings(self, weight: str) -> list[tuple[str, str]]:
        """(place, message) of each."""
        return [(one["where"], one["message"]) for one in json.loads(self.out) if one["weight"] == weight]


def onedomain(*words: str | Path, language: str = "en", files: int = 0) -> Said:
    """`files`: the limit of open files that it runs under."""
    around = {"ONEDOMAIN_LANG": language}
    if files:
        limited = ["sh", "-c", f'ulimit -n {files} && exec "$@"', "sh", *command(*words)]
        done = subprocess.run(limited, capture_output=True, text=True, timeout=60, env={**os.environ, **around})
    else:
        done = run(*words, timeout=60, environment=around)
    return Said(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def home(start_dovecot: Callable[..., Dovecot]) -> Dovecot:
    """Knows two people, and refuses everybody else."""
    return start_dovecot(users={JOE: "secret", PROBE: "secret"}, plugins="  acl_user = %u\n")


def table(home: Dovecot, folder: Path, name: str = "d1", **other: Any) -> dict[str, Any]:
    (folder / "master").write_text(home.master_password + "\n")
    return {
        "name": name, "kind": "dovecot",
        "imap": {"host": home.host, "port": home.imap_port},
        "delivery": {"host": home.host, "port": home.lmtp_port},
        "login": {"way": "master", "user": home.master_user, "password_file": folder / "master"},
        "probe": {"accounts": [PROBE]},
        **other,
    }


@pytest.fixture
def good(home: Dovecot, lab_folder: Path, certificate: Certificate) -> Edge:
    (lab_folder / "api_key").write_text(f"{home.api_key}\n")
    doveadm = {"host": home.host, "port": home.doveadm_http_port, "api_key_file": lab_folder / "api_key"}
    edge = Edge(lab_folder / "e1", servers=[table(home, lab_folder, doveadm=doveadm)], certificate=certificate,
                protocols=list(PLACES), listener=PLACES, extra={"domain": [{"name": "example.com", "postmaster": JOE}]})
    edge.state.mkdir()
    add_accounts(edge, [(JOE, "d1")])
    return edge


def test_a_good_set_up(good: Edge) -> None:
    said = onedomain("check", "--config", good.config, "--json")
    assert said.status == 0 and not said.findings("error") and not said.findings("warning"), said
    messages = [message for _, message in said.findings("ok")]
    assert any(message.startswith("delivery answers in") for message in messages)
    assert any(message.startswith("IMAP answers in") for message in messages)
    assert any(message.startswith("doveadm's HTTP interface answers in") for message in messages)
    assert f"log-in for {JOE} works" in messages and "1 accounts, 0 aliases" in messages
    japanese = onedomain("check", "--config", good.config, language="ja")
    assert japanese.status == 0 and f"{JOE} としてログインできました" in japanese.out
    good.start()
    try:  # its own ports are no finding
        beside = onedomain("check", "--config", good.config, "--json")
        assert beside.status == 0 and not beside.findings("error"), beside
    finally:
        good.stop()


def test_before_anything_has_run_it_makes_nothing(good: Edge, lab_folder: Path) -> None:
    good.tables["edge"]["state"] = lab_folder / "new"
    good.write()
    said = onedomain("check", "--config", good.config, "--json")
    assert said.status == 0 and "there are no accounts" in str(said.findings("warning")), said
    assert not (lab_folder / "new").exists()


def test_addresses_that_lead_nowhere(good: Edge) -> None:
    """Of the postmaster above all, who has to be reachable (RFC 5321 section 4.5.1)."""
    good.run("alias", "add", "sales@example.com", "nobody@example.com")
    good.run("alias", "add", "info@example.com", JOE)
    good.tables["domain"][0]["postmaster"] = "boss@example.com"
    good.write()
    said = onedomain("check", "--config", good.config, "--json")
    assert said.status == 0
    (postmaster, aliases, alerts) = sorted(said.findings("warning"), reverse=True)
    assert postmaster[0] == "domain[1].postmaster" and "boss@example.com is unknown" in postmaster[1], postmaster
    assert aliases[0] == "directory" and "1 aliases lead nowhere, sales@example.com" in aliases[1], aliases
    assert alerts[0] == "alerts" and "nobody is told of links that stop" in alerts[1], alerts
    good.tables["alerts"] = {"webhook": "http://127.0.0.1:9/hook"}
    good.write()
    assert {place for place, _ in onedomain("check", "--config", good.config, "--json").findings("warning")} == {
        "domain[1].postmaster", "directory"}
    good.tables["domain"][0]["postmaster"] = JOE
    good.tables["alerts"] = {"mail": False}
    good.write()
    assert {place for place, _ in onedomain("check", "--config", good.config, "--json").findings("warning")} == {
        "alerts", "directory"}


def test_everything_that_is_wrong_is_found_at_once(
    good: Edge, home: Dovecot, start_dovecot: Callable[..., Dovecot], lab_folder: Path, authority: Authority
) -> None:
    anybody = start_dovecot()
    (lab_folder / "wrong").write_text("not this\n")
    login = {"way": "master", "user": home.master_user, "password_file": lab_folder / "wrong"}
    demanded = {"host": anybody.host, "port": anybody.imap_port, "tls": "starttls", "tls_name": "localhost"}
    closed = {"host": "127.0.0.1", "port": free_port("127.0.0.1")}
    good.tables["server"] = [
        table(home, lab_folder),
        table(home, lab_folder, "down", kind="cyrus", imap=closed, delivery=closed, login={"way": "password"},
              probe={"accounts": []}),
        table(home, lab_folder, "stranger", login=login,
              doveadm={"host": home.host, "port": home.doveadm_http_port, "api_key": "not this"}),
        table(anybody, lab_folder, "clear", imap=demanded),
    ]
    good.tables["unit"][0]["replicas"] = ["clear"]
    expired = authority.issue("old.example.com", lifetime=datetime.timedelta(days=-3))
    good.tables["tls"]["certificate"] = [{"certificate": expired.cert, "key": expired.key}]
    good.write()
    add_accounts(good, [(f"{name}@example.com", name) for name in ("stranger", "clear")])
    gone = {**good.tables, "server": [*good.tables["server"], table(home, lab_folder, "gone")]}
    good.config.write_text(document(gone))
    add_accounts(good, [("lost@example.com", "gone")])
    good.write()
    with socket.create_server((good.host, good.port["smtp"])):
        said = onedomain("check", "--config", good.config, "--json")
        japanese = onedomain("check", "--config", good.config, language="ja")
    assert said.status == japanese.status == 1
    errors, warnings = said.findings("error"), said.findings("warning")
    for where, words in [
        ("server[2].delivery", "delivery does not work"), ("server[2].imap", "IMAP does not work"),
        ("server[3].login", "log-in for"), ("server[3].doveadm", "doveadm_api_key"), ("server[4].imap", "STARTTLS"),
        ("tls.certificate[1].certificate", "ends on"), ("listener[1].port", "the port cannot be opened"),
        ("server", "lost@example.com among them, live on gone"),
    ]:
        assert [one for one in errors if one[0] == where and words in one[1]], (where, words, errors)
    assert len(errors) == 8, errors
    for where, words in [
        ("server[2]", "no probe account"), ("server[2]", "may arrive twice"), ("server[2].kind", "Message-ID"),
        ("server[4].delivery", "surely does not exist"), ("server[4]", "cannot be given UIDs"),
        ("server[4]", "autoexpunge"),
    ]:
        assert [one for one in warnings if one[0] == where and words in one[1]], (where, words, warnings)
    lines = good.config.read_text().splitlines()
    for one in json.loads(said.out):
        if one["weight"] != "ok":
            assert one["advice"], one
        if one["where"] == "listener[1].port":
            assert lines[one["line"] - 1] == f"port = {good.port['smtp']}"
    assert home.master_password not in said.out and "not this" not in said.out
    assert "使えません" in japanese.out and "期限" in japanese.out and "重複して届く" in japanese.out
    assert "does not work" not in japanese.out


@pytest.mark.parametrize("wrong", [True, False])
def test_what_a_cyrus_does_to_mail_is_seen(
    start_cyrus: Callable[..., Cyrus], lab_folder: Path, wrong: bool
) -> None:
    """Two settings that are on by default and that nobody tells; the probe account is empty again afterwards."""
    home = start_cyrus(duplicatesuppression=wrong, munge8bit=wrong)
    login = {"way": "authzid", "user": home.proxy, "password": home.proxy_password}
    place = {"host": home.host, "port": home.imap_port}
    delivery = {**place, "port": home.lmtp_port}
    table = {"name": "c1", "kind": "cyrus", "imap": place, "delivery": delivery, "login": login}
    edge = Edge(lab_folder / "e1", servers=[{**table, "probe": {"accounts": [PROBE]}}], protocols=["smtp"])
    edge.state.mkdir()
    for _ in range(2):  # what the first run sent does not stand in the way of the second
        said = onedomain("check", "--config", edge.config, "--json")
        warned = [message for where, message in said.findings("warning") if where == "server[1].kind"]
        kept = [message for where, message in said.findings("ok") if where == "server[1].kind"]
        assert len(warned) == (2 if wrong else 0) and len(kept) == (0 if wrong else 1), said
        assert not wrong or ("drops it" in warned[0] and "Shift_JIS" in warned[1])
    with imaplib.IMAP4(home.host, home.imap_port, timeout=20) as client:
        client.login(PROBE, "any")
        assert client.select()[1] == [b"0"]
    edge.tables["server"] = [table]
    edge.write()
    said = onedomain("check", "--config", edge.config, "--json")
    assert [1 for where, words in said.findings("warning") if where == "server[1].kind" and "nobody can see" in words]


def test_what_a_replica_takes_away_by_age_is_asked(start_cyrus: Callable[..., Cyrus], lab_folder: Path) -> None:
    """By the log-in that there is; as standing advice only where nobody tells."""
    home = start_cyrus()
    place = {"host": home.host, "port": home.imap_port}
    login = {"way": "authzid", "user": home.proxy, "password": home.proxy_password}
    delivery = {**place, "port": home.lmtp_port}
    copies = {"name": "c1", "kind": "cyrus", "imap": place, "delivery": delivery, "login": login}
    edge = Edge(lab_folder / "e1", servers=[copies, {"name": "n", "kind": "node", **NOBODY, "replication": USER}],
                protocols=["smtp"])
    edge.state.mkdir()

    def said(weight: str) -> list[str]:
        found = onedomain("check", "--config", edge.config, "--json").findings(weight)
        return [words for where, words in found if where == "server[1]" and ("expire" in words or "copies" in words)]

    add_accounts(edge, [(JOE, "n"), (PROBE, "n")], replicas={"n": "c1"})
    home.create_account(JOE, PROBE)
    assert said("ok") == ["cyr_expire takes nothing away from the 2 account(s) with copies here that were asked"]
    assert not said("warning")
    with home.imap(home.admin, home.admin_password) as admin:
        imaplib.Commands["SETMETADATA"] = ("AUTH",)
        value = '(/shared/vendor/cmu/cyrus-imapd/expire "30")'
        done = admin._simple_command("SETMETADATA", f'"user{home.separator}{PROBE}"', value)  # type: ignore[attr-defined]
        assert done[0] == "OK", done
    [words] = said("warning")
    assert f"in 1 folder(s) of 2 account(s) that were asked, after 30 day(s) in {PROBE} INBOX" in words
    edge.tables["server"][0]["login"] = {"way": "password"}
    edge.write()
    [words] = said("warning")
    assert "keeps second copies; what cyr_expire takes away" in words, "nobody can ask"


NOBODY = {"imap": {"host": "127.0.0.1", "port": 1}, "delivery": {"host": "127.0.0.1", "port": 1}}
USER = {"user": "u", "password": "p"}
ALL, OWN = "links have no log-in", "has no replication user"


@pytest.mark.parametrize("table, words", [
    ({"kind": "dovecot"}, ALL), ({"kind": "imap"}, ALL), ({"kind": "cyrus"}, ALL), ({"kind": "node"}, OWN),
    ({"kind": "node", "login": {"way": "authzid", **USER}}, OWN), ({"kind": "node", "replication": USER}, ""),
    ({"kind": "cyrus", "replication": USER}, ""), ({"kind": "imap", "login": {"way": "authzid", **USER}}, ""),
    ({"kind": "dovecot", "login": {"way": "master", **USER}}, ""),
])  # fmt: skip
def test_a_log_in_that_links_lack(table: dict[str, Any], words: str, lab_folder: Path) -> None:
    """At either side, and only where replicas are kept."""
    other = {"name": "n", "kind": "node", **NOBODY, "replication": USER}
    edge = Edge(lab_folder / "e1", servers=[{"name": "s", **NOBODY, **table}, other], protocols=["smtp"])
    for unit, lacks in [({"servers": ["n"], "replicas": ["s"]}, True), ({"servers": ["s"], "replicas": ["n"]}, True),
                        ({"servers": ["s"]}, False)]:
        edge.tables["unit"] = [{"name": "u", **unit}]
        edge.write()
        said = onedomain("check", "--config", edge.config, "--json")
        found = [message for where, message in said.findings("error") if where == "server[1]"]
        assert bool(found) == bool(lacks and words) and all(words in message for message in found), (unit, said)
        expiry = [1 for _, message in said.findings("warning") if "keeps second copies" in message]
        assert len(expiry) == (unit.get("replicas") == ["s"] and table["kind"] != "node")


def test_the_log_in_of_links_is_tried(make_home: Callable[..., Home], lab_folder: Path) -> None:
    one, two = make_home("node", "a"), make_home("node", "b")
    for home in (one, two):
        home.lab.start()
    try:
        wrong = {**two.table, "replication": {"user": "replica", "password": "not this"}}
        edge = Edge(lab_folder / "e1", servers=[one.table, wrong], protocols=["smtp"],
                    units=[{"name": "all", "servers": ["a", "b"], "replicas": ["a", "b"]}])
        edge.state.mkdir()
        add_accounts(edge, [("x@example.com", "a"), ("y@example.com", "b")])
        said = onedomain("check", "--config", edge.config, "--json")
        assert ("server[1].replication", "links can log in") in said.findings("ok"), said
        assert [1 for where, words in said.findings("error")
                if where == "server[2].replication" and "links cannot log in" in words], said
        assert "not this" not in said.out
    finally:
        one.lab.kill()
        two.lab.kill()


def test_a_replica_that_is_never_made_is_told(make_home: Callable[..., Home], lab_folder: Path) -> None:
    homes = [make_home("node", name) for name in "abc"]
    edge = Edge(lab_folder / "e1", servers=[home.table for home in homes], protocols=["smtp"],
                units=[{"name": "all", "servers": ["a"], "replicas": ["b", "c"]}])
    edge.state.mkdir()
    add_accounts(edge, [("x@example.com", "a")])

    def told() -> list[str]:
        said = onedomain("check", "--config", edge.config, "--json")
        return [words for where, words in said.findings("warning")
                if where == "directory" and "several replicas" in words]

    assert not told(), "each account of the unit has one of them"
    edge.run("account", "set", "x@example.com", "--replica", "c", "--replica", "b")
    (words,) = told()
    assert "x@example.com among them: only the first (c) has a copy" in words
    edge.run("account", "set", "x@example.com", "--replica", "c")
    assert not told()


def test_what_this_machine_cannot_give(good: Edge) -> None:
    good.tables["edge"].update(user="nobody-of-this-name", peer_listen="192.0.2.7:7465", peer_address="192.0.2.7:7465")
    good.tables["metrics"] = {"address": "192.0.2.7"}
    good.tables["limits"] = {"spool_free": 2**59}
    good.write()
    said = onedomain("check", "--config", good.config, "--json")
    assert {where for where, _ in said.findings("error")} == {
        "edge.user", "edge.peer_listen", "metrics.port", "limits.spool_free"}, said
    if os.geteuid() == 0:
        database = good.config.parent / "elsewhere.db"
        database.touch(0o600)
        good.tables["edge"] = {**good.tables["edge"], "user": "nobody"}
        good.tables["directory"] = {"url": f"sqlite:///{database}"}
        good.write()
        said = onedomain("check", "--config", good.config, "--json")
        assert [words for where, words in said.findings("error") if where == "directory.url"
                and f"nobody may not use {database}" in words], said


def test_the_limit_of_open_files(good: Edge) -> None:
    said = onedomain("check", "--config", good.config, "--json", files=300)
    assert [where for where, words in said.findings("warning") if "open files" in words] == ["listener"]
    limited = ["sh", "-c", 'ulimit -n 300 && exec "$@"', "sh"]
    process = subprocess.Popen([*limited, *command("run", "--config", good.config)])
    try:
        wait_until(lambda: good.events("few descriptors"), "a line in the log")
    finally:
        process.terminate()
        process.wait(30)
    (event,) = good.events("few descriptors")
    assert event["limit"] == 300 < event["needed"]


WRONG = """\
[edge]
name = "mx1.example.com"
state = "state"
wokers = 2

[[domain]]
name = "example.com"
postmaster = "no address"

[[server]]
name = "s1"
kind = "dovcot"
imap = { host = "192.0.2.1" }
delivery = { host = "192.0.2.1", port = "24" }

[[unit]]
name = "all"

[[listener]]
protocol = "smtp"
port = %d
"""


@pytest.mark.parametrize("verb, language, words", [
    ("run", "en", "did you mean workers"), ("check", "ja", "workers の間違い"), ("status", "en", "did you mean"),
])
def test_a_wrong_file_starts_nothing(tmp_path: Path, verb: str, language: str, words: str) -> None:
    port = free_port("127.0.0.1")
    path = tmp_path / "onedomain.toml"
    path.write_text(WRONG % port)
    said = onedomain(verb, "--config", path, language=language)
    assert said.status == 2 and not said.out, said
    line = "line {}:" if language == "en" else "{} 行目:"
    for number, key in [(4, "edge.wokers"), (8, "domain[1].postmaster"), (12, "server[1].kind"),
                        (14, "server[1].delivery.port")]:
        assert f"{line.format(number)} {key}" in said.err, said.err
    assert words in said.err
    assert [one.name for one in tmp_path.iterdir()] == ["onedomain.toml"]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def test_a_port_that_is_taken_starts_nothing(good: Edge) -> None:
    with socket.create_server((good.host, good.port["imap"])):
        said = onedomain("run", "--config", good.config)
    assert said.status == 1 and f"imap {good.host}:{good.port['imap']}" in said.err
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((good.host, good.port["smtp"]), timeout=1)


@pytest.mark.parametrize("language", ["en", "ja"])
def test_what_init_writes_is_right_once_the_certificates_are_there(
    tmp_path: Path, certificate: Certificate, language: str
) -> None:
    path = tmp_path / "onedomain.toml"
    assert onedomain("init", path, language=language).status == 0
    before = onedomain("check", "--config", path, "--file-only", language=language)
    assert before.status == 2 and "tls.certificate[1].certificate" in before.err
    text = path.read_text()
    path.write_text(text.replace("/etc/onedomain/mail.crt", str(certificate.cert))
                    .replace("/etc/onedomain/mail.key", str(certificate.key)))
    after = onedomain("check", "--config", path, "--file-only", language=language)
    assert after.status == 0, after.err


@pytest.mark.parametrize("kind, more, protocols, warned", [
    ("dovecot", {}, ("smtp", "pop3"), ["doveconf pop3_uidl_format"]),
    ("cyrus", {}, ("smtp", "pop3"), ["cyr_info conf"]),
    ("dovecot", {"uidl_format": "%08Xu%08Xv"}, ("smtp", "pop3"), []),
    ("dovecot", {}, ("smtp", "imap"), []),
    ("node", {}, ("smtp", "pop3"), []),
])  # fmt: skip
def test_uidls_that_are_only_assumed(
    kind: str, more: dict[str, Any], protocols: tuple[str, ...], warned: list[str], lab_folder: Path
) -> None:
    """Whoever shows others than the server did makes every POP3 client fetch everything again."""
    edge = Edge(lab_folder / "e1", servers=[{"name": "s1", "kind": kind, **NOBODY, **more}], protocols=protocols)
    edge.state.mkdir()
    said = onedomain("check", "--config", edge.config, "--json")
    found = [one for one in json.loads(said.out) if "UIDL" in one["message"]]
    assert len(found) == len(warned) and all(one["weight"] == "warning" for one in found), said
    assert all(words in json.dumps(one) for one, words in zip(found, warned, strict=True)), said
