"""Each server of the lab starts, takes mail, gives it back, is killed, and has the mail when it comes back."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab.cyrus import Cyrus
from tests.lab.dovecot import Dovecot
from tests.lab.keeper import descendants
from tests.lab.postfix import Postfix, smtp_source
from tests.lab.postgres import Postgres
from tests.lab.process import Server, answers, need, wait_until
from tests.lab.sink import Sink
from tests.lab.tls import Certificate

pytestmark = pytest.mark.real

MESSAGE = (
    b"From: a@example.org\r\nDate: Sat, 21 Nov 2026 22:00:00 +0900\r\nMessage-ID: <1@example.org>\r\n"
    b"Subject: \x93\xfa\x96\x7b\r\n\r\n.\r\n..\r\n\xff 8-bit\r\n"
)
BOB = "bob@example.com"


def stored(server: Dovecot | Cyrus, user: str = BOB) -> list[bytes]:
    session = server.imap(user)
    try:
        session.select("INBOX", readonly=True)
        _, answer = session.uid("FETCH", "1:*", "(BODY.PEEK[])")
        return [item[1] for item in answer if isinstance(item, tuple)]
    finally:
        session.logout()


def check_keeps_mail(server: Dovecot | Cyrus) -> None:
    with server.lmtp() as lmtp:
        assert lmtp.sendmail("a@example.org", [BOB], MESSAGE) == {}
    (before,) = stored(server)
    assert before.endswith(MESSAGE)
    tree = server.pids
    server.kill()
    assert not any(Path(f"/proc/{pid}").exists() for pid in tree)
    assert not answers(server.host, server.imap_port)
    server.start()
    assert stored(server) == [before]


def check_pause(server: Server, port: int) -> None:
    server.pause()
    with socket.create_connection((server.host, port), timeout=0.3) as hanging, pytest.raises(TimeoutError):
        hanging.recv(1)
    server.resume()
    assert answers(server.host, port)


@pytest.mark.parametrize("format", ["sdbox", "mdbox", "maildir"])
def test_dovecot_keeps_mail_over_a_kill(start_dovecot: Callable[..., Dovecot], format: str) -> None:
    check_keeps_mail(start_dovecot(format=format))


def test_dovecot_pauses(dovecot: Dovecot) -> None:
    check_pause(dovecot, dovecot.imap_port)


def test_dovecot_knows_only_its_users(start_dovecot: Callable[..., Dovecot]) -> None:
    dovecot = start_dovecot(users={BOB: "first"})
    with dovecot.lmtp() as lmtp:
        lmtp.helo()
        lmtp.mail("a@example.org")
        assert lmtp.rcpt("nobody@example.com")[0] == 550
    with pytest.raises(Exception, match="AUTHENTICATIONFAILED"):
        dovecot.imap(BOB, "wrong")
    dovecot.set_user("new@example.com", "second")
    dovecot.imap("new@example.com", "second").logout()
    dovecot.set_user("new@example.com", "third")
    dovecot.imap("new@example.com", "third").logout()
    dovecot.set_user("new@example.com", None)
    with pytest.raises(Exception, match="AUTHENTICATIONFAILED"):
        dovecot.imap("new@example.com", "third")
    dovecot.imap(f"{BOB}*master", dovecot.master_password).logout()


def test_dovecot_speaks_tls(start_dovecot: Callable[..., Dovecot], certificate: Certificate) -> None:
    dovecot = start_dovecot(tls=certificate)
    context = certificate.client_context()
    with (
        socket.create_connection((dovecot.host, dovecot.imaps_port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        assert secure.recv(100).startswith(b"* OK")


def test_dovecot_answers_doveadm_over_http(dovecot: Dovecot) -> None:
    need("curl", "curl")
    command = '[["user", {"userMask": ["bob@example.com"]}, "tag1"]]'
    answer = subprocess.run(
        ["curl", "-s", "-H", f"Authorization: X-Dovecot-API {_base64(dovecot.api_key)}", "-d", command,
         f"http://127.0.0.1:{dovecot.doveadm_http_port}/doveadm/v1"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert '"uid":"5000"' in answer.stdout


def _base64(text: str) -> str:
    import base64

    return base64.b64encode(text.encode()).decode()


def test_cyrus_keeps_mail_over_a_kill(cyrus: Cyrus) -> None:
    check_keeps_mail(cyrus)


def test_cyrus_pauses(cyrus: Cyrus) -> None:
    check_pause(cyrus, cyrus.imap_port)


def test_cyrus_knows_only_its_users(start_cyrus: Callable[..., Cyrus]) -> None:
    cyrus = start_cyrus(users={BOB: "first", "a..b@example.com": "x"})
    with cyrus.lmtp() as lmtp:
        lmtp.helo()
        lmtp.mail("a@example.org")
        assert lmtp.rcpt("nobody@example.com")[0] == 550
        assert lmtp.rcpt("a..b@example.com")[0] == 250
    with pytest.raises(Exception, match="authentication failure"):
        cyrus.imap(BOB, "wrong")


def test_cyrus_lets_the_proxy_act_for_others(start_cyrus: Callable[..., Cyrus]) -> None:
    import imaplib

    cyrus = start_cyrus(users={BOB: "first"})
    session = imaplib.IMAP4(cyrus.host, cyrus.imap_port)
    session.authenticate("PLAIN", lambda _: f"{BOB}\0{cyrus.proxy}\0{cyrus.proxy_password}".encode())
    assert session.select("INBOX")[0] == "OK"
    session.logout()


def test_cyrus_can_suppress_duplicates(start_cyrus: Callable[..., Cyrus]) -> None:
    for suppress, copies in ((False, 2), (True, 1)):
        cyrus = start_cyrus(duplicatesuppression=suppress)
        for _ in range(2):
            with cyrus.lmtp() as lmtp:
                lmtp.sendmail("a@example.org", [BOB], MESSAGE)
        assert len(stored(cyrus)) == copies


def test_postfix_relays_and_keeps_its_queue_over_a_kill(
    start_postfix: Callable[..., Postfix], start_dovecot: Callable[..., Dovecot]
) -> None:
    dovecot = start_dovecot(start=False)
    world = start_postfix(relay={"example.com": ("127.0.0.1", dovecot.lmtp_port)}, protocol="lmtp")
    with world.smtp() as smtp:
        smtp.sendmail("a@example.org", [BOB], MESSAGE)
    assert len(world.queue()) == 1
    world.kill()
    dovecot.start()
    world.start()
    world.flush()
    wait_until(lambda: stored(dovecot), "delivery")
    (only,) = stored(dovecot)
    assert only.endswith(MESSAGE)


def test_postfix_keeps_what_it_does_not_relay(postfix: Postfix) -> None:
    with postfix.smtp() as smtp:
        smtp.sendmail("a@example.org", ["someone@elsewhere.example"], MESSAGE)
    wait_until(postfix.received, "delivery")
    (only,) = postfix.received()
    assert only.endswith(MESSAGE.replace(b"\r\n", b"\n"))


def test_sink_catches_the_envelope(sink: Sink) -> None:
    smtp_source("127.0.0.1", sink.port, count=20, sender="a@example.org", recipient="b@example.net", sessions=4)
    caught = sink.caught()
    assert len(caught) == 20
    assert {(mail.sender, mail.recipients) for mail in caught} == {("a@example.org", ("b@example.net",))}


def test_sink_refuses_as_told(start_sink: Callable[..., Sink]) -> None:
    import smtplib

    sink = start_sink(hard=["rcpt"])
    with smtplib.SMTP("127.0.0.1", sink.port, timeout=10) as smtp:
        smtp.ehlo()
        smtp.mail("a@example.org")
        assert smtp.rcpt("b@example.net")[0] == 500


def test_postgres_survives_crash_and_kill(start_postgres: Callable[..., Postgres]) -> None:
    postgres = start_postgres()
    postgres.execute("create table t (n int)")
    for number, end in enumerate((postgres.crash, postgres.kill, postgres.stop)):
        postgres.execute(f"insert into t values ({number})")
        end()
        assert not postgres.running
        postgres.start()
        assert postgres.execute("select count(*) from t") == str(number + 1)


async def test_postgres_url_is_an_empty_database(postgres_url: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(postgres_url.replace("+asyncpg", ""))
    assert await connection.fetchval("select count(*) from pg_tables where schemaname = 'public'") == 0
    await connection.close()


def test_nothing_survives_the_test_process(tmp_path: Path) -> None:
    """A test process killed with SIGKILL in the middle of everything leaves no server behind, detached or not."""
    script = tmp_path / "victim.py"
    script.write_text(
        "import sys, time; from pathlib import Path; from tests.lab.process import Tree\n"
        f"tree = Tree(['sh', '-c', 'setsid -f sleep 1000; exec sleep 1000'], Path({str(tmp_path / 'log')!r}))\n"
        "tree.start()\n"
        # Both are sleeping, and setsid, which is between them for a moment, has gone.
        "def comm(pid):\n"
        "    try: return Path(f'/proc/{pid}/comm').read_text().strip()\n"
        "    except OSError: return ''\n"
        "pids = []\n"
        "while [*map(comm, pids)] != ['sleep', 'sleep']: time.sleep(0.01); pids = tree.pids\n"
        "print(*pids, flush=True); time.sleep(1000)\n"
    )
    victim = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2],
                              env={**os.environ, "PYTHONPATH": "."})  # fmt: skip
    assert victim.stdout
    pids = [int(word) for word in victim.stdout.readline().split()]
    assert len(pids) == 2 and set(pids) <= set(descendants(1))
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    victim.stdout.close()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "end of the servers", patience=10)
