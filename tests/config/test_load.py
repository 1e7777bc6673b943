"""One file: what it means when it is right; every problem with its place when it is not."""

# ruff: noqa: E501 (a table reads best with one row to a line)

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from onedomain.config import Config, ConfigErrors, load, template
from onedomain.model.account import Domain, Level, Unit
from onedomain.model.server import Endpoint, LoginWay, ServerClass, TlsMode
from tests.lab.tls import Certificate

MINIMAL = """\
[edge]
name = "mx1.example.com"
state = "state"

[[domain]]
name = "example.com"
postmaster = "boss@example.com"

[[server]]
name = "s1"
kind = "dovecot"
imap = { host = "127.0.0.1" }
delivery = { host = "127.0.0.1" }

[[unit]]
name = "head"
servers = ["s1"]

[[listener]]
protocol = "smtp"
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.setenv("ONEDOMAIN_LANG", "en")

    def write(text: str = MINIMAL, *changes: tuple[str, str], more: str = "") -> Path:
        for before, after in changes:
            assert before in text
            text = text.replace(before, after)
        path = tmp_path / "onedomain.toml"
        path.write_text(text + more)
        return path

    return write


def problems(path: Path) -> list[tuple[int, str, str]]:
    with pytest.raises(ConfigErrors) as caught:
        load(path, {})
    return [(problem.line, problem.path, problem.message) for problem in caught.value.problems]


def test_replicas_and_failover(write: Write) -> None:
    more = '[failover]\nautomatic = true\nsilent = "1s"\n'
    config = load(write(MINIMAL, ('servers = ["s1"]', 'servers = ["s1"]\nreplicas = ["s1"]'), more=more))
    assert config.units == (Unit("head", ("s1",), replicas=("s1",)),)
    assert (config.failover.automatic, config.failover.silent, config.failover.lease) == (True, 1.0, 3.0)
    large = '[limits]\nmessage_size = "200MiB"\n'
    for replicas, paths in (('\nreplicas = ["s1"]', ["limits.message_size"]), ("", [])):
        told = load(write(MINIMAL, ('servers = ["s1"]', f'servers = ["s1"]{replicas}'), more=large)).warnings
        assert [warning.path for warning in told] == paths and all("160 MiB" in warning.message for warning in told)
    unknown = write(MINIMAL, ('servers = ["s1"]', 'servers = ["s1"]\nreplicas = ["s2"]'))
    [(_, path, message)] = problems(unknown)
    assert path == "unit[1].replicas[1]" and "s2" in message


def test_minimal(write: Write) -> None:
    path = write()
    config = load(path)
    assert config.domains == (Domain("example.com", "example.com", "+", "boss@example.com"),)
    assert config.units == (Unit("head", ("s1",), Level.SPOOL, False),)
    [server] = config.servers
    assert (server.imap, server.delivery) == (Endpoint("127.0.0.1", 143), Endpoint("127.0.0.1", 24))
    assert (server.class_, server.login_way) == (ServerClass.EXCLUSIVE, LoginWay.PASSWORD)
    assert config.state == path.parent / "state"
    assert config.control == path.parent / "state/control.sock"
    assert config.database_url == f"sqlite:///{path.parent}/state/directory.db"
    [listener] = config.listeners
    assert (listener.protocol, listener.port, listener.bare_newline) == ("smtp", 25, "refuse")
    assert config.smarthost is None and config.limits.recipients == 1000
    assert config.warnings == ()


@pytest.mark.parametrize("language", ["en", "ja"])
def test_template_is_valid_and_so_are_its_defaults(
    write: Write, certificate: Certificate, tmp_path: Path, language: str
) -> None:
    paths = ("/etc/onedomain/mail.crt", str(certificate.cert)), ("/etc/onedomain/mail.key", str(certificate.key))
    text = template(language)
    assert ("SIGHUP で" in text) == (language == "ja") and "#en" not in text and "#ja" not in text
    config = load(write(text, *paths))
    assert [server.kind for server in config.servers] == ["dovecot", "cyrus"]
    assert config.servers[1].uidl_format == "%v.%u"
    [warning] = config.warnings
    assert warning.path == "smarthost"

    (tmp_path / "secrets").mkdir()
    for name in ("head", "head-doveadm", "branch-admin", "smarthost"):
        (tmp_path / "secrets" / name).write_text("s3cret\n")
    uncommented = re.sub(r"(?m)^# (?=\[?\[?[a-z_.]+\]?\]?( =|$))", "", text)
    assert uncommented.count("\n#") < text.count("\n#") - 25
    everything = load(write(uncommented, *paths), {"PROBE_PASSWORD": "pr0be"})
    defaults = everything.file.model_dump(exclude={"edge", "domain", "server", "unit", "smarthost", "listener", "tls", "log"})
    for table, value in config.file.model_dump().items():
        if table in defaults and table not in ("resolver",):
            assert defaults[table] == value, "a default that the template shows is another one"
    assert everything.servers[0].master_password == "s3cret"
    assert everything.servers[0].probe_password == "pr0be"
    assert (everything.servers[0].doveadm, everything.servers[0].doveadm_key) == (Endpoint("192.0.2.10", 8080), "s3cret")
    assert "s3cret" not in repr(everything) + repr(everything.servers) + str(everything.file)


def test_values(write: Write, tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("p@ss/word\r\nmore\n")
    config = load(
        write(
            MINIMAL,
            ('name = "example.com"', 'name = "例え.jp"\naliases = ["Example.COM", "xn--wgv71a119e.jp"]'),
            ('{ host = "127.0.0.1" }\nd', '{ host = "imap.test", tls = "implicit", tls_name = "x" }\nd'),
            more="""
port = 0
address = "::"
proxy_trusted = ["10.1.2.3/8"]
[[listener]]
protocol = "imap"
plaintext_passwords = true
address = "127.0.0.1"
[directory]
url = "postgresql://od:old@db.example.com:5433/od"
password_file = "pw"
[smarthost]
host = "out.example.com"
tls = "implicit"
port = 465
user = "me"
password_env = "OUT"
[limits]
message_size = "2MB"
idle = "10m"
[retry]
first = 2
""",
        ),
        {"OUT": "0ut"},
    )
    assert {(domain.name, domain.canonical) for domain in config.domains} == {
        ("例え.jp", "例え.jp"),
        ("xn--r8jz45g.jp", "例え.jp"),
        ("example.com", "例え.jp"),
        ("xn--wgv71a119e.jp", "例え.jp"),
        ("日本語.jp", "例え.jp"),
    }
    assert config.servers[0].imap == Endpoint("imap.test", 993, TlsMode.IMPLICIT, "x")
    assert config.database_url == "postgresql://od:p%40ss%2Fword@db.example.com:5433/od"
    assert config.smarthost_endpoints == (Endpoint("out.example.com", 465, TlsMode.IMPLICIT),)
    assert config.smarthost is not None and config.smarthost.password == "0ut"
    assert (config.limits.message_size, config.limits.idle, config.retry.first) == (2_000_000, 600.0, 2.0)
    assert config.listeners[0].proxy_trusted == ("10.0.0.0/8",)
    assert config.listeners[1].name == "imap 127.0.0.1:143"


def test_the_database_of_a_relative_path_is_beside_the_file(write: Write, tmp_path: Path) -> None:
    config = load(write(more='[directory]\nurl = "sqlite:///people.db"\n'))
    assert config.database_url == f"sqlite:///{tmp_path}/people.db"
    assert load(write(more='[directory]\nurl = "sqlite:////a/b.db"\n')).database_url == "sqlite:////a/b.db"


WRONG: list[tuple[str, tuple[str, str], str, tuple[int, str, str]]] = [
    ("unknown key", ("kind", "kimd"), "", (11, "server[1].kimd", "is not a key")),
    ("unknown table", ("", ""), "[smarthorst]\n", (21, "smarthorst", "is not a key")),
    ("no server", ('servers = ["s1"]', 'servers = ["s2"]'), "", (17, "unit[1].servers[1]", "no server is called 's2'")),
    ("text for number", ("", ""), 'port = "25"\n', (21, "listener[1].port", "whole number")),
    ("number too big", ("", ""), "port = 65536\n", (21, "listener[1].port", "at most 65535")),
    ("true for number", ("", ""), "port = true\n", (21, "listener[1].port", "whole number")),
    ("choice", ('"dovecot"', '"dovcot"'), "", (11, "server[1].kind", "'dovecot', 'cyrus', 'imap' or 'node'")),
    ("inline table", ('imap = { host = "127.0.0.1"', 'imap = { host = "h", prot = 1'), "", (12, "server[1].imap.prot", "")),
    ("duration", ("", ""), '[retry]\nfirst = "soon"\n', (22, "retry.first", "duration such as")),
    ("order", ("", ""), '[retry]\nfirst = "1h"\n', (21, "retry", "must grow")),
    ("size", ("", ""), '[limits]\nmessage_size = "50 MB!"\n', (22, "limits.message_size", "size such as")),
    ("small", ("", ""), "[limits]\nrecipients = 5\n", (22, "limits.recipients", "at least 100")),
    ("address", ("boss@example.com", "boss"), "", (7, "domain[1].postmaster", "'boss' is not a mail address")),
    ("no postmaster", ('postmaster = "boss@example.com"', ""), "", (5, "domain[1].postmaster", "is missing")),
    ("domain name", ('"example.com"', '"exam ple"'), "", (6, "domain[1].name", "not a domain name")),
    ("network", ("", ""), 'proxy_trusted = ["all"]\n', (21, "listener[1].proxy_trusted[1]", "not a network")),
    ("same server", ("[[unit]]", '[[server]]\nname = "s1"\nkind = "imap"\nimap = {host="h"}\ndelivery = {host="h"}\n[[unit]]'),
     "", (16, "server[2].name", "there twice, first at server[1].name")),
    ("same port", ("", ""), '[[listener]]\nprotocol = "smtp"\naddress="127.0.0.1"\n', (21, "listener[2].port", "taken already by listener[1]")),
    ("metrics port", ("", ""), "[metrics]\nport = 25\n", (22, "metrics.port", "taken already by listener[1]")),
    ("same domain", ("postmaster", 'aliases = ["example.com"]\npostmaster'), "", (7, "domain[1].aliases[1]", "there twice")),
    ("no certificate", ("", ""), '[[listener]]\nprotocol = "imaps"\n', (22, "listener[2].protocol", "needs a certificate")),
    ("no certificate", ("", ""), '[[listener]]\nprotocol = "pop3"\n', (22, "listener[2].protocol", "needs a certificate")),
    ("certificate away", ("", ""), '[[tls.certificate]]\ncertificate = "a"\nkey = "onedomain.toml"\n', (22, "tls.certificate[1].certificate", "No such file")),
    ("certificate", ("", ""), '[[tls.certificate]]\ncertificate = "onedomain.toml"\nkey = "onedomain.toml"\n', (22, "tls.certificate[1].certificate", "cannot be used")),
    ("no such level", ('servers = ["s1"]', 'level = "mirror"'), "", (17, "unit[1].level", "must be one of")),
    ("doveadm", ("[[unit]]", '[server.doveadm]\nhost = "h"\nport = 8080\n[[unit]]'), "", (15, "server[1].doveadm", "needs a key")),
    ("doveadm's port", ("[[unit]]", '[server.doveadm]\nhost = "h"\napi_key = "k"\n[[unit]]'), "",
     (15, "server[1].doveadm.port", "is missing")),
    ("doveadm elsewhere", ('"dovecot"', '"imap"\ndoveadm = { host = "h", port = 1, api_key = "k" }'), "",
     (9, "server[1]", 'kind = "dovecot" only')),
    ("login", ("[[unit]]", '[server.login]\nway = "master"\n[[unit]]'), "", (15, "server[1].login", "needs user and a password")),
    ("secret file", ("", ""), '[smarthost]\nhost = "h"\npassword_file = "nix"\n', (21, "smarthost", "nix cannot be read")),
    ("secret variable", ("", ""), '[smarthost]\nhost = "h"\npassword_env = "NIX"\n', (21, "smarthost", "no variable NIX")),
    ("two secrets", ("", ""), '[smarthost]\nhost = "h"\npassword = "a"\npassword_env = "NIX"\n', (21, "smarthost", "more than once")),
    ("replication", ("kind", 'replication = {user = "r", password = "x"}\nkind'), "",
     (9, "server[1]", "kind node and cyrus only")),
    ("replication alone", ("kind", 'replication = {user = "r"}\nkind'), "",
     (11, "server[1].replication", "needs user and a password")),
    ("a URL as a host", ('imap = { host = "127.0.0.1"', 'imap = { host = "imap://h"'), "", (12, "server[1].imap.host", "not the name or IP")),
    ("a port with the host", ('imap = { host = "127.0.0.1"', 'imap = { host = "h:143"'), "", (12, "server[1].imap.host", "not the name or IP")),
    ("half an address", ('imap = { host = "127.0.0.1"', 'imap = { host = "10.0.0"'), "", (12, "server[1].imap.host", "not the name or IP")),
    ("no PEM", ('imap = { host = "127.0.0.1"', 'imap = { ca_file = "onedomain.toml", host = "h"'), "", (12, "server[1].imap.ca_file", "cannot be used")),
    ("long socket", ('"state"', '"' + 120 * "x" + '"'), "", (3, "edge.state", "too long for a socket")),
    ("peer port", ("state =", 'peer_listen = "127.0.0.1:25"\nstate ='), "", (3, "edge.peer_listen", "taken already by listener[1]")),
    ("peer port 0", ("state =", 'peer_listen = "0.0.0.0:1"\npeer_address = "a:0"\nstate ='), "", (4, "edge.peer_address", "no port")),
    ("url port", ("", ""), '[directory]\nurl = "postgresql://h:x/d"\n', (22, "directory.url", "not a URL")),
    ("url without a database", ("", ""), '[directory]\nurl = "postgresql://h"\n', (22, "directory.url", "names no database")),
    ("url without a file", ("", ""), '[directory]\nurl = "sqlite:///"\n', (22, "directory.url", "names no file")),
    ("webhook", ("", ""), '[alerts]\nwebhook = "ftp://x"\n', (22, "alerts.webhook", "not a URL")),
    ("probe account", ("kind", 'probe = { accounts = ["a"] }\nkind'), "", (11, "server[1].probe.accounts[1]", "not a mail address")),
    ("resolver", ("", ""), '[resolver]\nservers = ["ns"]\n', (22, "resolver.servers[1]", "not an IP address")),
    ("uidl", ("kind", 'uidl_format = "%f"\nkind'), "", (11, "server[1].uidl_format", "may contain %u")),
    ("format", ("kind", 'rcpt_format = "{user}"\nkind'), "", (11, "server[1].rcpt_format", "may contain {local}")),
    ("url", ("", ""), '[directory]\nurl = "mysql://x"\n', (22, "directory.url", "must begin with")),
    ("xclient", ("smtp", "submission"), 'xclient_trusted = ["::1"]\n', (19, "listener[1]", "smtp only")),
    ("peer", ("state =", 'peer_address = "a:1"\nstate ='), "", (3, "edge.peer_address", "needs peer_listen")),
    ("a table for a list", ("[[unit]]", "[unit]"), "", (15, "unit", "must be a list")),
    ("syntax", ("[[unit]]", "[[unit]"), "", (15, "", "not valid TOML")),
    ("twice in TOML", ("kind", 'name = "s2"\nkind'), "", (11, "", "not valid TOML")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "more", "expected"), WRONG, ids=[row[0] for row in WRONG])
def test_wrong(write: Write, name: str, change: tuple[str, str], more: str, expected: tuple[int, str, str]) -> None:
    found = problems(write(MINIMAL, change, more=more) if change[0] else write(more=more))
    assert any(
        (line, path) == expected[:2] and expected[2] in message for line, path, message in found
    ), found


def test_every_problem_at_once_in_the_order_of_the_file(write: Write) -> None:
    path = write(MINIMAL, ("kind", "kimd"), ("boss@example.com", "boss"), more='port = "x"\n')
    assert [line for line, _, _ in problems(path)] == [7, 9, 11, 21]
    path = write(MINIMAL, ('["s1"]', '["s2", "s3"]'), more='[[listener]]\nprotocol = "smtp"\n')
    assert [place for _, place, _ in problems(path)] == ["unit[1].servers[1]", "unit[1].servers[2]", "listener[2].port"]


def test_what_to_do(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(MINIMAL, ("kind", "kimd"))
    with pytest.raises(ConfigErrors) as caught:
        load(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: 2 problem(s)")
    assert "line 11: server[1].kimd: is not a key of this table\n    did you mean kind?" in text
    assert 'line 9: server[1].kind: is missing\n    add: kind = "dovecot"' in text
    monkeypatch.setenv("ONEDOMAIN_LANG", "ja")
    with pytest.raises(ConfigErrors, match=r"11 行目: server\[1\]\.kimd: この表にないキーです"):
        load(path)


def test_files_that_are_none(write: Write, tmp_path: Path) -> None:
    assert "cannot be read" in problems(tmp_path / "nix.toml")[0][2]
    path = write()
    path.write_bytes(MINIMAL.encode() + b"# \x83\x81\x81[\x83\x8b\n")
    assert "not UTF-8" in problems(path)[0][2]
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
    assert isinstance(load(path), Config)


def test_warnings(write: Write) -> None:
    config = load(
        write(
            MINIMAL,
            ("kind", "draining = true\nkind"),
            more='[[listener]]\nprotocol="imap"\nplaintext_passwords = true\n[smarthost]\nhost="h"\npassword = "p"\n',
        )
    )
    assert [(warning.line, warning.path) for warning in config.warnings] == [
        (18, "unit[1].servers"),
        (24, "listener[2].plaintext_passwords"),
        (27, "smarthost.password"),
    ]
