"""TLS towards servers: what is verified, what is demanded, and that credentials wait for it."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from onedomain.backend.base import ClientInfo
from onedomain.backend.smarthost import Smarthost
from onedomain.backend.smtp_session import Credentials, SmtpTimes
from onedomain.model.failure import Failed, Kind
from onedomain.model.health import Seen
from onedomain.model.message import State
from onedomain.model.server import Endpoint, LoginWay, Server, TlsMode
from onedomain.net.tls import ClientContexts
from tests.backend.contract import Case, Chance, Eyes, account
from tests.backend.fake import Attempts, FakeSmtp
from tests.backend.test_delivery import delivery
from tests.lab.tls import Authority, Certificate

TIMES = SmtpTimes(connect=2, greeting=2, command=2, data=2, block=2, end=2)


@pytest.fixture
def stranger(tmp_path: Any) -> Certificate:
    """From an authority that nobody else trusts."""
    return Authority(tmp_path / "strangers").issue("localhost")


# ---- IMAP, a real Dovecot ----------------------------------------------------------------------------------------


@pytest.mark.real
async def test_imap(start_dovecot: Callable[..., Any], certificate: Certificate, stranger: Certificate) -> None:
    lab = start_dovecot(tls=certificate, plugins="  acl_user = %u\n")
    plain = Endpoint("localhost", lab.imap_port)
    server = Server("mail1", "dovecot", plain, plain, login_way=LoginWay.PASSWORD)
    case = Case(lab, server, b"")
    ours, theirs = str(certificate.ca), str(stranger.ca)
    good = [
        replace(plain, tls=TlsMode.STARTTLS, ca_file=ours),
        replace(plain, tls=TlsMode.OPPORTUNISTIC),
        Endpoint("localhost", lab.imaps_port, TlsMode.IMPLICIT, ca_file=ours),
        Endpoint("localhost", lab.imaps_port, TlsMode.IMPLICIT, "mail.example.com", ours),
    ]
    for endpoint in good:
        session = await case.backend(imap=endpoint).log_in(account(), "secret", ClientInfo())
        assert session.stream.tls is not None and session.stream.tls.version in ("TLSv1.2", "TLSv1.3")
        assert (await case.backend(imap=endpoint).probe("imap")).seen is Seen.OK
        session.stream.close()
    bad = [
        replace(plain, tls=TlsMode.STARTTLS, ca_file=theirs),
        Endpoint("localhost", lab.imaps_port, TlsMode.IMPLICIT, ca_file=theirs),
        Endpoint("localhost", lab.imaps_port, TlsMode.IMPLICIT, "mail.elsewhere.example", ours),
        replace(plain, tls=TlsMode.IMPLICIT, ca_file=ours),
    ]
    for endpoint in bad:
        case.eyes.sightings.clear()
        with pytest.raises(Failed) as raised:
            await case.backend(imap=endpoint).log_in(account(), "secret", ClientInfo())
        assert raised.value.failure.kind is Kind.AGAIN
        assert raised.value.failure.enhanced.startswith("4.7.")
        assert [sighting.seen for sighting in case.eyes.sightings] == [Seen.BROKEN]


# ---- SMTP, through the smarthost ---------------------------------------------------------------------------------


def smarthost(fake: FakeSmtp, tls: TlsMode, ca: str = "", credentials: Credentials | None = None) -> Smarthost:
    endpoint = replace(fake.endpoint, host="localhost", tls=tls, ca_file=ca)
    return Smarthost(
        endpoint, hello="edge.example", contexts=ClientContexts(), watch=Eyes(), nonce=Chance(),
        credentials=credentials, times=TIMES,
    )  # fmt: skip


def fake_smarthost(certificate: Certificate, *more: str) -> FakeSmtp:
    capabilities = ("PIPELINING", "STARTTLS", *more)
    return FakeSmtp(lmtp=False, capabilities=capabilities, secure=certificate.server_context())


@pytest.mark.parametrize("mechanism", ["PLAIN LOGIN", "LOGIN"])
async def test_smtp_logs_in_after_tls(certificate: Certificate, mechanism: str) -> None:
    fake = fake_smarthost(certificate, f"AUTH {mechanism}")
    answers = itertools.cycle(["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", "235 2.7.0 in"])
    if mechanism == "LOGIN":
        for word in ("AUTH", *(base64.b64encode(secret).decode().upper() for secret in (b"us", b"pw"))):
            fake.replies[word] = lambda _: next(answers)
    async with fake.running():
        host = smarthost(fake, TlsMode.STARTTLS, str(certificate.ca), Credentials("us", "pw"))
        outcomes = await host.deliver(delivery("x@elsewhere.example"), Attempts())
        assert outcomes[0].state is State.DONE
        verbs = [line.split(" ")[0] for line in fake.lines]
        assert verbs[:4] == ["EHLO", "STARTTLS", "EHLO", "AUTH"]
        assert (await host.probe("delivery")).seen is Seen.OK
        await host.close()


async def test_smtp_wrong_certificate_gets_nothing(certificate: Certificate, stranger: Certificate) -> None:
    fake = fake_smarthost(certificate, "AUTH PLAIN")
    async with fake.running():
        host = smarthost(fake, TlsMode.STARTTLS, str(stranger.ca), Credentials("us", "pw"))
        outcomes = await host.deliver(delivery("x@elsewhere.example"), Attempts())
        assert outcomes[0].state is State.AGAIN
        assert outcomes[0].failure and outcomes[0].failure.enhanced == "4.7.5"
        assert not any(line.startswith(("AUTH", "MAIL")) for line in fake.lines)
        await host.close()


async def test_smtp_opportunistic_takes_any_certificate(certificate: Certificate) -> None:
    fake = fake_smarthost(certificate)
    async with fake.running():
        host = smarthost(fake, TlsMode.OPPORTUNISTIC)
        assert (await host.deliver(delivery("x@elsewhere.example"), Attempts()))[0].state is State.DONE
        assert [line.split(" ")[0] for line in fake.lines[:3]] == ["EHLO", "STARTTLS", "EHLO"]
        await host.close()


async def test_smtp_our_log_in_refused_keeps_the_mail(certificate: Certificate) -> None:
    fake = fake_smarthost(certificate, "AUTH PLAIN")
    fake.replies["AUTH"] = "535 5.7.8 wrong"
    async with fake.running():
        host = smarthost(fake, TlsMode.STARTTLS, str(certificate.ca), Credentials("us", "pw-secret"))
        outcome = (await host.deliver(delivery("x@elsewhere.example"), Attempts()))[0]
        assert outcome.state is State.AGAIN
        assert outcome.failure and "535 5.7.8" in outcome.failure.reason and "pw-secret" not in outcome.failure.reason
        await host.close()


async def test_nobody_can_be_asked_at_a_smarthost(certificate: Certificate) -> None:
    async with FakeSmtp(lmtp=False).running() as fake:
        host = smarthost(fake, TlsMode.NONE)
        found = await host.find(account(), "id-1")
        assert not host.can_find and found.failure and found.failure.kind is Kind.GIVE_UP
        with pytest.raises(Failed):
            await host.log_in(account(), "secret", ClientInfo())
