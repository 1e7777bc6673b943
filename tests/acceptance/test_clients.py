"""Mail programs that are not ours, through a running edge, at each kind of home: one's own password there included."""

from __future__ import annotations

import imaplib
import os
import poplib
import smtplib
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.cluster import KINDS, PASSWORD, Cluster
from tests.acceptance.conftest import new_folder, started
from tests.lab.fetched import body, parts
from tests.lab.process import need, wait_until
from tests.lab.tls import Certificate

HOMES = ["d1", "g1", "c1", "n1"]
PEOPLE = 7
MESSAGE = (
    "Subject: =?iso-2022-jp?b?GyRCQEE1YRsoQg==?=\r\nFrom: a@example.org\r\nMessage-ID: <{0}@example.org>\r\n"
    "Date: Fri, 21 Nov 2025 10:00:00 +0900\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    "Content-Transfer-Encoding: 8bit\r\n\r\n.御請求 {0}\r\n..\r\n"
)
ORDERS, INVOICES = "&U9ds6A-", "&U9ds6A-/&iwtsQmb4-"
"""受注 and 受注/請求書 in the modified UTF-7 of RFC 3501 section 5.1.3."""


def message(name: object) -> bytes:
    return MESSAGE.format(name).encode()


@pytest.fixture(scope="module")
def office(certificate: Certificate) -> Iterator[Cluster]:
    """One edge that takes passwords over TLS only; g1 is a Dovecot that lets people in with their own password only."""
    safe = {"plaintext_passwords": False}
    with ExitStack() as stack:
        folder = new_folder(stack)
        own = KINDS["generic"](folder, users={f"g1-{n}@example.com": PASSWORD for n in range(PEOPLE)})
        homes = [KINDS[kind](folder) for kind in ("dovecot", "cyrus", "node")]
        homes.append(replace(own, password=PASSWORD))
        yield started(stack, homes, folder / "edges", people=PEOPLE, certificate=certificate,
                      listener=dict.fromkeys(("imap", "imaps", "pop3", "pop3s", "submission", "submissions"), safe))


@pytest.fixture(params=HOMES)
def account(request: pytest.FixtureRequest) -> str:
    """Another one for each test, which finds it empty."""
    return f"{request.param}-{_TESTS.index(request.function.__name__)}@example.com"


def imap(office: Cluster, account: str, certificate: Certificate) -> imaplib.IMAP4:
    client = imaplib.IMAP4(office.edge.host, office.edge.port["imap"], timeout=60)
    client.starttls(certificate.client_context())
    client.login(account, PASSWORD)
    return client


def ok(answer: tuple[str, list[Any]]) -> list[Any]:
    assert answer[0] == "OK", answer
    return answer[1]


def deliver(office: Cluster, account: str, *messages: bytes) -> None:
    """By SMTP, and there at the home, in this order, when this returns."""
    with office.smtp() as client:
        for each in messages:
            client.sendmail("writer@example.org", [account], each, ["BODY=8BITMIME"])
            office.await_quiet()


def test_imaplib(office: Cluster, account: str, certificate: Certificate) -> None:
    client = imap(office, account, certificate)
    ok(client.create(ORDERS))
    ok(client.create(INVOICES))
    assert any(line.endswith((f' "{INVOICES}"'.encode(), f" {INVOICES}".encode())) for line in ok(client.list()))
    date = imaplib.Time2Internaldate(1_700_000_000)
    ok(client.append(INVOICES, "(\\Seen $Later)", date, message(1)))
    big = message("big") + b"x" * 76 + b"\r\n"
    big += (b"y" * 76 + b"\r\n") * (5_000_000 // 78)
    ok(client.append(INVOICES, "", None, big))
    assert ok(client.select(INVOICES)) == [b"2"]
    assert body(client.fetch("2", "(BODY.PEEK[])")) == big
    first = parts(client.fetch("1", "(FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])"))
    assert first[1] == message(1) and b"\\Seen" in first[0] and b"$Later" in first[0]
    assert imaplib.Internaldate2tuple(first[0]) == time.localtime(1_700_000_000)
    ok(client.copy("1", "INBOX"))
    ok(client.store("1", "+FLAGS", "(\\Flagged)"))
    ok(client.store("1", "-FLAGS.SILENT", "($Later)"))
    client.literal = "御請求 1".encode()
    assert ok(client.uid("SEARCH", "CHARSET", "UTF-8", "BODY"))[0].split() == [b"1"]
    assert ok(client.search(None, "FLAGGED", "NOT", "KEYWORD", "$Later")) == [b"1"]
    assert b"MOVE" in ok(client.capability())[0].split()  # those from before the log-in are the edge's own
    ok(client._simple_command("UID", "MOVE", "1", ORDERS))
    assert client.response("EXPUNGE")[1] == [b"1"]
    ok(client.store("1", "+FLAGS", "(\\Deleted)"))
    assert ok(client.expunge()) == [b"1"]
    assert ok(client.search(None, "ALL")) == [b""]
    assert ok(client.select(ORDERS)) == [b"1"]
    assert b"\\Flagged" in ok(client.fetch("1", "(FLAGS)"))[0]
    ok(client.rename(INVOICES, "Old"))
    ok(client.close())
    ok(client.delete("Old"))
    assert client.logout()[0] == "BYE"
    assert office.messages(account) == [message(1)]


def test_idle_tells_of_a_delivery(office: Cluster, account: str, certificate: Certificate) -> None:
    client = imap(office, account, certificate)
    ok(client.select())
    client.send(b"i1 IDLE\r\n")
    assert client.readline().startswith(b"+ ")
    with office.smtp() as sender:
        sender.sendmail("writer@example.org", [account], message("idle"))
    began = time.monotonic()
    while not (line := client.readline()).startswith(b"* 1 EXISTS"):
        assert line.startswith(b"* "), line
    took = time.monotonic() - began
    client.send(b"DONE\r\n")
    while (line := client.readline()).startswith(b"* "):
        pass
    assert line.startswith(b"i1 OK")
    print(f"{account}: told {took:.2f} s after the 250")
    assert took < 5
    client.logout()


def test_poplib(office: Cluster, account: str, certificate: Certificate) -> None:
    deliver(office, account, message(1), message(2), message(3))
    stored = office.messages(account)

    def session() -> poplib.POP3:
        client = poplib.POP3(office.edge.host, office.edge.port["pop3"], timeout=60)
        client.stls(certificate.client_context())
        client.user(account)
        client.pass_(PASSWORD)
        return client

    def uidls(client: poplib.POP3) -> list[bytes]:
        return [line.split()[1] for line in client.uidl()[1]]

    client = session()
    before = uidls(client)
    assert len(set(before)) == 3 and client.stat() == (3, sum(map(len, stored)))
    assert [b"\r\n".join(client.retr(n)[1]) + b"\r\n" for n in (1, 2, 3)] == stored
    assert client.top(2, 1)[1][-2:] == [b"", ".御請求 2".encode()]
    client.dele(2)
    client.close()  # without QUIT nothing is removed: RFC 1939 section 6
    client = session()
    assert uidls(client) == before
    client.dele(2)
    client.quit()
    client = session()
    assert uidls(client) == [before[0], before[2]]
    client.quit()
    assert office.messages(account) == [stored[0], stored[2]]
    lab = office.homes[office.accounts[account]].lab
    if lab.kind == "dovecot":  # its own POP3 server shows the same: nobody's client downloads anything again
        own = poplib.POP3(lab.host, lab.pop3_port)
        own.user(account)
        own.pass_((lab.users or {}).get(account, "secret"))
        assert uidls(own) == [before[0], before[2]]
        own.quit()


def test_smtplib_submits(office: Cluster, account: str, certificate: Certificate) -> None:
    edge = office.edge
    client = smtplib.SMTP(edge.host, edge.port["submission"], local_hostname="desk.example.com", timeout=60)
    client.starttls(context=certificate.client_context())
    client.login(account, PASSWORD)
    assert client.sendmail(account, [account], message("587"), ["BODY=8BITMIME"]) == {}
    client.quit()
    secure = smtplib.SMTP_SSL(edge.host, edge.port["submissions"], context=certificate.client_context(), timeout=60)
    secure.user, secure.password = account, PASSWORD
    secure.ehlo()
    assert secure.auth("LOGIN", secure.auth_login, initial_response_ok=False)[0] == 235
    assert secure.sendmail(account, [account], message("465")) == {}
    with pytest.raises(smtplib.SMTPRecipientsRefused, match=r"5\.1\.1"):
        secure.sendmail(account, ["nobody@example.com"], message("lost"))
    secure.quit()
    office.await_quiet()
    stored = office.messages(account)  # deliveries may overtake one another
    assert len(stored) == 2 and all(any(text.endswith(message(port)) for text in stored) for port in ("587", "465"))


@pytest.mark.parametrize("way", ["explicit", "implicit"])
def test_curl(office: Cluster, account: str, certificate: Certificate, tmp_path: Path, way: str) -> None:
    need("curl", "curl")
    s, force = ("s", []) if way == "implicit" else ("", ["--ssl-reqd"])
    port = office.edge.port

    def curl(url: str, *words: str) -> bytes:
        command = ["curl", "-sS", "--max-time", "60", "--cacert", str(certificate.ca), "-u", f"{account}:{PASSWORD}"]
        return subprocess.run([*command, *force, *words, url], check=True, capture_output=True).stdout

    (tmp_path / "letter").write_bytes(message(way))
    mail, post = f"imap{s}://127.0.0.1:{port[f'imap{s}']}", f"pop3{s}://127.0.0.1:{port[f'pop3{s}']}"
    before = len(office.messages(account))
    curl(f"smtp{s}://127.0.0.1:{port['submissions' if s else 'submission']}/desk.example.com",
         "--mail-from", account, "--mail-rcpt", account, "-T", str(tmp_path / "letter"))
    office.await_quiet()
    curl(f"{mail}/INBOX", "-T", str(tmp_path / "letter"))
    inbox = office.messages(account)
    assert len(inbox) == before + 2 and inbox[-1] == message(way) and inbox[-2].endswith(message(way))
    for number, text in enumerate(inbox, 1):
        assert curl(f"{mail}/INBOX;MAILINDEX={number}") == text
        assert curl(f"{post}/{number}") == text
    assert len(curl(f"{post}/").split(b"\r\n")) == len(inbox) + 1
    assert b"INBOX" in curl(f"{mail}/") and curl(f"{mail}/INBOX?ALL").startswith(b"* SEARCH 1 2")


def test_mbsync(office: Cluster, account: str, certificate: Certificate, tmp_path: Path) -> None:
    """Both ways; the second run changes nothing and downloads nothing again."""
    need("mbsync", "mbsync")
    deliver(office, account, *(message(n) + (b"x" * 70 + b"\r\n") * 70 for n in range(20)))
    client = imap(office, account, certificate)
    ok(client.create(ORDERS))
    ok(client.append(ORDERS, "(\\Seen)", None, message("ordered")))
    client.logout()
    mail = tmp_path / "mail"
    mail.mkdir()
    (tmp_path / "rc").write_text(
        f"IMAPAccount edge\nHost localhost\nPort {office.edge.port['imap']}\nUser {account}\nPass \"{PASSWORD}\"\n"
        f"SSLType STARTTLS\nCertificateFile {certificate.ca}\n\nIMAPStore far\nAccount edge\n\nMaildirStore near\n"
        f"Path {mail}/\nInbox {mail}/INBOX\nSubFolders Verbatim\n\nChannel all\nFar :far:\nNear :near:\n"
        "Patterns *\nCreate Both\nExpunge Both\nCopyArrivalDate yes\nSyncState *\n"
    )

    def sync() -> int:
        """Octets that came down the line."""
        wait_until(lambda: len(of_account("login")) == len(of_account("logout")), "the ends of sessions in the log")
        seen = len(of_account("logout"))
        done = subprocess.run(["mbsync", "-c", str(tmp_path / "rc"), "-a"], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        wait_until(lambda: len(of_account("logout")) > seen, "the end of the session in the log")
        return sum(int(event["downstream"]) for event in of_account("logout")[seen:])

    def of_account(event: str) -> list[dict[str, Any]]:
        return [each for each in office.edge.events(event) if each["account"] == account]

    def here(folder: str = "INBOX") -> list[Path]:
        return sorted(path for part in ("cur", "new") for path in (mail / folder / part).iterdir())

    first = sync()
    assert len(here()) == 20 and len(here(ORDERS)) == 1 and first > 20 * 70 * 72
    state = here()
    again = sync()
    assert here() == state and again < 5000, f"{again} octets for nothing new"
    here()[0].unlink()
    flagged = here()[0]
    flagged.rename(mail / "INBOX/cur" / f"{flagged.name.partition(':')[0]}:2,FS")
    (mail / "INBOX/new/1.local").write_bytes(message("from here").replace(b"\r\n", b"\n"))
    sync()
    client = imap(office, account, certificate)
    assert ok(client.select()) == [b"20"]
    assert len(ok(client.search(None, "FLAGGED", "SEEN"))[0].split()) == 1
    assert len(ok(client.search(None, "HEADER", "Message-ID", '"from here"'))[0].split()) == 1
    client.logout()
    assert sync() < 5000


def test_mutt_in_batch(office: Cluster, account: str, certificate: Certificate, tmp_path: Path) -> None:
    """Sends by submission and files its copy over IMAP."""
    need("mutt", "mutt")
    edge = office.edge
    client = imap(office, account, certificate)
    client.create("Sent")  # some have it already
    client.logout()
    (tmp_path / "rc").write_text(
        f"set ssl_usesystemcerts=no\nset certificate_file={certificate.ca}\nset ssl_force_tls=yes\n"
        f'set imap_user="{account}"\nset imap_pass="{PASSWORD}"\nset smtp_pass="{PASSWORD}"\n'
        f'set smtp_url="smtp://{account}@127.0.0.1:{edge.port["submission"]}/"\nset from="{account}"\n'
        f'set realname="Tarō"\nset use_envelope_from=yes\nset hostname=desk.example.com\nset copy=yes\n'
        f'set folder="imap://127.0.0.1:{edge.port["imap"]}/"\nset record="=Sent"\nset nowait_key\n'
        'set charset="utf-8"\nset send_charset="us-ascii:utf-8"\n'
    )
    done = subprocess.run(
        ["mutt", "-n", "-F", str(tmp_path / "rc"), "-s", "見積書", "--", account], input="本文です。\n".encode(),
        capture_output=True, timeout=60, env={**os.environ, "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    office.await_quiet()
    (arrived,), (filed,) = office.messages(account), office.messages(account, "Sent")
    assert filed.partition(b"\r\n\r\n")[2] == arrived.partition(b"\r\n\r\n")[2]
    assert b"Subject: =?utf-8?" in filed


# -- no password without TLS


def talk(edge: Any, protocol: str, *commands: bytes) -> list[bytes]:
    """The first line of the answer to each command, without TLS."""
    with socket.create_connection((edge.host, edge.port[protocol]), timeout=10) as line, line.makefile("rb") as answers:
        said = [answers.readline()]
        for command in commands:
            line.sendall(command + b"\r\n")
            said.append(answers.readline())
            while said[-1][3:4] == b"-" and said[-1][:3].isdigit():
                said[-1] += answers.readline()
                if said[-1].splitlines()[-1][3:4] == b" ":
                    break
    return said


def test_no_password_without_tls(office: Cluster, certificate: Certificate) -> None:
    edge, account = office.edge, office.of("n1")[0]
    login = f'LOGIN {account} "{PASSWORD}"'.encode()
    greeting, refused, plain = talk(edge, "imap", b"a " + login, b"b AUTHENTICATE PLAIN AGEAYg==")
    assert b"LOGINDISABLED" in greeting and b"AUTH=" not in greeting and b"STARTTLS" in greeting
    assert refused.startswith(b"a NO [PRIVACYREQUIRED]") and plain.startswith(b"b NO [PRIVACYREQUIRED]")
    _, user, auth = talk(edge, "pop3", f"USER {account}".encode(), b"AUTH PLAIN AGEAYg==")
    assert user.startswith(b"-ERR") and auth.startswith(b"-ERR")
    _, hello, mail = talk(edge, "submission", b"EHLO x", b"AUTH PLAIN AGEAYg==")
    assert b"STARTTLS" in hello and b"AUTH" not in hello
    assert mail.startswith(b"538 5.7.11")
    client = imap(office, account, certificate)
    assert "LOGINDISABLED" not in client.capabilities
    client.logout()
    submission = smtplib.SMTP(edge.host, edge.port["submission"], timeout=10)
    submission.starttls(context=certificate.client_context())
    submission.login(account, PASSWORD)
    submission.quit()


def test_a_client_that_does_not_trust_the_certificate_stays_out(office: Cluster) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        imaplib.IMAP4_SSL(office.edge.host, office.edge.port["imaps"], ssl_context=ssl.create_default_context())


_TESTS = ["test_imaplib", "test_idle_tells_of_a_delivery", "test_poplib", "test_smtplib_submits", "test_curl",
          "test_mbsync", "test_mutt_in_batch"]
