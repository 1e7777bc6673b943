"""Mail that people submit: log-in, sender, what is added, where it may go; the programs people use."""

from __future__ import annotations

import asyncio
import shutil
import smtplib
import ssl
from dataclasses import replace

import pytest

from onedomain.net.tls import CertificateFiles, ServerContexts
from tests.directory.views import account, book
from tests.edge.smtp_kit import OFFER, RULES, SUBMISSION, Client, edge
from tests.edge.test_smtp import BODY, send
from tests.lab.tls import Authority, Certificate

ANN, JOE = account("ann@example.com"), account("joe@example.com")
RIGHT = "AUTH PLAIN AGFubkBleGFtcGxlLmNvbQByaWdodA=="  # ann@example.com, right
WRONG = "AUTH PLAIN AGFubkBleGFtcGxlLmNvbQB3cm9uZw=="
OWN = b"MAIL FROM:<ann@example.com>\r\n"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Authority(tmp_path_factory.mktemp("authority")).issue("mail.example")


@pytest.fixture
def tls(certificate: Certificate) -> ServerContexts:
    return ServerContexts([CertificateFiles(str(certificate.cert), str(certificate.key))])


async def test_nothing_without_a_log_in() -> None:
    async with edge(view=book(ANN), rules=SUBMISSION) as made:
        client = await made.ready()
        assert await client.ask("MAIL FROM:<ann@example.com>") == "530 5.7.0 authentication required"
        assert await client.ask(WRONG) == "535 5.7.8 authentication failed"
        assert (await client.ask("MAIL FROM:<ann@example.com>")).startswith("530")
        assert await client.ask(RIGHT) == "235 2.7.0 authentication successful"
        assert (await client.ask("MAIL FROM:<ann@example.com>")).startswith("250")


@pytest.mark.parametrize(("sender", "any_sender", "code"), [
    ("ann@example.com", False, "250"), ("ann+x@example.com", False, "250"), ("joe@example.com", False, "553"),
    ("ceo@example.net", False, "553"), ("ceo@example.net", True, "250"), ("", False, "250")])
async def test_sender(sender: str, any_sender: bool, code: str) -> None:
    async with edge(view=book(ANN, JOE), rules=replace(SUBMISSION, any_sender=any_sender)) as made:
        client = await made.ready()
        await client.ask(RIGHT)
        assert (await client.ask(f"MAIL FROM:<{sender}>"))[:3] == code


async def test_inside_stays_inside_and_outside_goes_out() -> None:
    async with edge(view=book(ANN, JOE), rules=SUBMISSION) as made:
        client = await made.ready()
        await client.ask(RIGHT)
        replies = await send(client, "joe@example.com", "x@example.net", "nobody@example.com", mail=OWN)
        assert [reply[:3] for reply in replies] == ["250", "250", "250", "550", "354", "250"]
        (kept,) = made.spool.messages
        assert [(t.account, t.address) for t in kept.envelope.targets] == [
            ("joe@example.com", "joe@example.com"), ("", "x@example.net")]
        assert kept.envelope.login == "ann@example.com"
        assert b" with ESMTPA id " in kept.data
        assert made.notes.named("received")[0]["login"] == "ann@example.com"


async def test_date_and_message_id_are_added_where_they_are_missing() -> None:
    async with edge(view=book(ANN), rules=SUBMISSION) as made:
        client = await made.ready()
        await client.ask(RIGHT)
        await send(client, "ann@example.com", mail=OWN, body=b"Subject: x\r\n\r\n")
        await send(client, "ann@example.com", mail=OWN, body=b"date: x\r\n" + BODY)
        bare, complete = made.spool.messages
        assert bare.data.count(b"\r\nDate: ") == 1
        assert b"\r\nMessage-ID: <q0000000000000001@mx.example.com>\r\nSubject: x\r\n\r\n" in bare.data
        assert bare.message_id == "<q0000000000000001@mx.example.com>"
        assert complete.data.endswith(b"X-OneDomain-Delivery: q0000000000000002\r\ndate: x\r\n" + BODY)


async def test_mail_from_outside_gets_nothing_added() -> None:
    async with edge(view=book(ANN)) as made:
        client = await made.ready()
        await send(client, "ann@example.com", body=b"Subject: x\r\n\r\n")
        assert b"Date:" not in made.spool.messages[0].data and b"Message-ID:" not in made.spool.messages[0].data


async def test_no_password_in_the_clear(tls: ServerContexts) -> None:
    rules = replace(SUBMISSION, offer=replace(SUBMISSION.offer, auth_in_clear=False, starttls=True))
    async with edge(view=book(ANN), rules=rules, tls=tls) as made:
        client = await made.connect()
        hello = await client.ask("EHLO x")
        assert "STARTTLS" in hello and "AUTH" not in hello
        assert (await client.ask(RIGHT)).startswith("538 5.7.11")


async def test_what_comes_behind_starttls_is_not_believed(tls: ServerContexts, certificate: Certificate) -> None:
    rules = replace(RULES, offer=replace(OFFER, starttls=True))
    async with edge(view=book(ANN), rules=rules, tls=tls) as made:
        client = await made.ready()
        evil = b"MAIL FROM:<evil@example.org>\r\nRCPT TO:<ann@example.com>\r\n"
        client.send(b"STARTTLS\r\n" + evil)
        assert (await client.reply()).startswith("220")
        await client.writer.start_tls(certificate.client_context(), server_hostname="mail.example")
        assert (await client.ask("DATA")).startswith("503")
        assert made.notes.named("injection before TLS")[0]["discarded"] == len(evil)


async def test_plaintext_instead_of_a_handshake(tls: ServerContexts) -> None:
    rules = replace(RULES, offer=replace(OFFER, starttls=True))
    async with edge(view=book(ANN), rules=rules, tls=tls) as made:
        client = await made.ready()
        assert (await client.ask("STARTTLS")).startswith("220")
        client.send(b"MAIL FROM:<evil@example.org>\r\n" * 20)
        while made.listener is not None and made.listener.sessions:
            await asyncio.sleep(0.01)
        assert made.spool.made == 0 and made.notes.named("connection lost")


def _smtplib(port: int, context: ssl.SSLContext, *, implicit: bool) -> dict[str, tuple[int, bytes]]:
    if implicit:
        client: smtplib.SMTP = smtplib.SMTP_SSL("localhost", port, timeout=20, context=context)
    else:
        client = smtplib.SMTP("localhost", port, timeout=20)
        client.starttls(context=context)
    with client:
        client.login("ann@example.com", "right")
        text = "From: ann@example.com\r\nSubject: =?x\r\n\r\n.dot\r\n..two\r\n" + "x\r\n" * 20_000 + ".\r\nend"
        return client.sendmail("ann@example.com", ["joe@example.com", "nobody@example.com"], text)


@pytest.mark.parametrize("implicit", [False, True])
async def test_smtplib(tls: ServerContexts, certificate: Certificate, implicit: bool) -> None:
    rules = replace(SUBMISSION, offer=replace(SUBMISSION.offer, auth_in_clear=False, starttls=not implicit))
    async with edge(view=book(ANN, JOE), rules=rules, tls=tls, implicit=implicit) as made:
        refused = await asyncio.to_thread(_smtplib, made.port, certificate.client_context(), implicit=implicit)
        assert list(refused) == ["nobody@example.com"]
        (kept,) = made.spool.messages
        assert kept.data.endswith(b"\r\n\r\n.dot\r\n..two\r\n" + b"x\r\n" * 20_000 + b".\r\nend\r\n")
        assert b" with ESMTPSA id " in kept.data and b"\t(TLSv1.3 with cipher " in kept.data


async def swaks(port: int, *arguments: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        "swaks", "--server", "127.0.0.1", "--port", str(port), "--timeout", "20", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, output.decode("utf-8", "replace")


@pytest.mark.real
@pytest.mark.skipif(shutil.which("swaks") is None, reason="needs swaks")
async def test_swaks() -> None:
    # in the clear: swaks needs a Perl module for TLS that is not always there, and smtplib has shown TLS already
    async with edge(view=book(ANN, JOE), rules=SUBMISSION) as made:
        usual = ("--from", "ann@example.com", "--to", "joe@example.com")
        for mechanism in ("PLAIN", "LOGIN"):
            code, output = await swaks(
                made.port, *usual, "--auth", mechanism, "--auth-user", "ann@example.com", "--auth-password", "right")
            assert code == 0, output
        assert len(made.spool.messages) == 2
        code, output = await swaks(made.port, *usual)
        assert code != 0 and "530 5.7.0" in output
    async with edge(view=book(ANN, JOE), rules=replace(RULES, xclient_trusted=())) as made:
        code, output = await swaks(made.port, "--from", "x@example.org", "--to", "ann@example.com", "--pipeline")
        assert code == 0, output
        code, output = await swaks(made.port, "--from", "x@example.org", "--to", "nobody@example.com")
        assert code != 0 and "550 5.1.1" in output
        assert len(made.spool.messages) == 1


async def test_login_mechanism_in_steps() -> None:
    async with edge(view=book(ANN), rules=SUBMISSION) as made:
        client: Client = await made.ready()
        assert await client.ask("AUTH LOGIN") == "334 VXNlcm5hbWU6"
        assert await client.ask("YW5uQGV4YW1wbGUuY29t") == "334 UGFzc3dvcmQ6"
        assert (await client.ask("cmlnaHQ=")).startswith("235")


async def test_who_is_known_is_not_asked_about_again() -> None:
    async with edge(view=book(ANN), rules=SUBMISSION) as made:
        for _ in range(2):
            client = await made.ready()
            assert await client.ask(RIGHT) == "235 2.7.0 authentication successful"
            assert (await send(client, "ann@example.com", mail=OWN))[-1].startswith("250")
        assert made.authenticator.checks == 1 and len(made.spool.messages) == 2
        assert all(message.envelope.login == "ann@example.com" for message in made.spool.messages)
        assert b"with ESMTPA id" in made.spool.messages[1].data
