"""What every kind of server has to do, whatever it is; test_real.py runs it against each.

Imports the backends' public face only. A kind comes as a `Case`: a running server of the lab and how it is configured.
"""

from __future__ import annotations

import asyncio
import email
import os
import random
import time
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from onedomain.backend.base import DELIVERY, IMAP, ClientInfo, Found
from onedomain.backend.mailserver import MailServer, Tools
from onedomain.backend.names import recipient_name
from onedomain.backend.registry import make_backend
from onedomain.model.account import Account, Home
from onedomain.model.failure import Failed, Kind
from onedomain.model.health import Seen, Sighting
from onedomain.model.message import DELIVERY_ID_HEADER, Delivery, Envelope, State, Target
from onedomain.model.server import Endpoint, LoginWay, Server
from onedomain.net.tls import ClientContexts
from tests.backend.fake import Attempts, Bytes
from tests.lab.fetched import body
from tests.lab.relay import Relay

COMMON = b"Date: Sat, 21 Nov 2026 22:00:00 +0900\r\nMessage-ID: <%d@outside.example>\r\n"
"""Cyrus adds them at the end of the header where they are missing."""

SHIFT_JIS = "Subject: 請求書①\r\n".encode("cp932") + b"\r\n" + "㈱髙島様\r\n".encode("cp932")
ISO_2022_JP = b"Subject: =?ISO-2022-JP?B?GyRCQUE1YRsoQg==?=\r\n\r\n" + "請求\r\n".encode("iso2022_jp")


class Chance:
    def token(self, size: int) -> bytes:
        return os.urandom(size)

    def random(self) -> float:
        return random.random()


@dataclass
class Eyes:
    sightings: list[Sighting] = field(default_factory=list)

    def saw(self, sighting: Sighting) -> None:
        self.sightings.append(sighting)


@dataclass
class Case:
    """`lab` is the running server; every user's password is "secret". `kept` stands in its answer to a message."""

    lab: Any
    server: Server
    kept: bytes
    eyes: Eyes = field(default_factory=Eyes)

    def backend(self, **changes: Any) -> MailServer:
        tools = Tools(ClientContexts(), self.eyes, Chance(), "edge.example")
        return make_backend(replace(self.server, **changes), tools)


def local(port: int) -> Endpoint:
    return Endpoint("127.0.0.1", port)


def account(name: str = "hanako@example.com") -> Account:
    return Account(name, "sales", Home("mail1"))


def message(backend: MailServer, *names: str, id: str = "", body: bytes = b"Subject: x\r\n\r\nhello\r\n") -> Delivery:
    id = id or os.urandom(16).hex()
    names = names or ("hanako@example.com",)
    recipients = tuple((i, recipient_name(backend.server, account(n), n)) for i, n in enumerate(names))
    envelope = Envelope("a@outside.example", tuple(Target(n, n) for n in names), eight_bit=not body.isascii())
    return Delivery(id, envelope, recipients, Bytes(body), f"{DELIVERY_ID_HEADER}: {id}\r\n".encode())


async def deliver(backend: MailServer, delivery: Delivery) -> None:
    attempt = Attempts()
    outcomes = await backend.deliver(delivery, attempt)
    assert {o.state for o in outcomes.values()} == {State.DONE}, outcomes
    assert set(outcomes) == {index for index, _ in delivery.recipients}
    assert attempt.count == 1


def bodies(case: Case, name: str = "hanako@example.com", folder: str = "INBOX") -> list[bytes]:
    """Every message of a folder, read by imaplib from the server itself."""
    session = case.lab.imap(name)
    try:
        session.select(folder, readonly=True)
        _, found = session.search(None, "ALL")
        return [body(session.fetch(number, "(BODY.PEEK[])")) for number in found[0].split()]
    finally:
        session.logout()


class Contract:
    async def test_delivers_byte_for_byte(self, case: Case) -> None:
        backend = case.backend()
        dots, eight_bit = b"Subject: dots\r\n\r\n.\r\n..\r\n.x\r\n", b"Subject: 8bit\r\n\r\n\xe8\xab\x8b\xff\r\n"
        texts = [COMMON % number + text for number, text in enumerate((ISO_2022_JP, SHIFT_JIS, dots, eight_bit))]
        for text in texts:
            await deliver(backend, message(backend, body=text))
        kept = bodies(case)
        assert len(kept) == len(texts)
        for text in texts:
            assert sum(body.endswith(text) for body in kept) == 1, (text, kept)
        assert {sighting.seen for sighting in case.eyes.sightings} == {Seen.OK}
        await backend.close()

    async def test_delivers_to_several_at_once(self, case: Case) -> None:
        backend = case.backend()
        names = ("hanako@example.com", "taro@example.com", "jiro+tag@example.com")
        await deliver(backend, message(backend, *names, id="shared-id"))
        for name in ("hanako@example.com", "taro@example.com"):
            (kept,) = bodies(case, name)
            assert email.message_from_bytes(kept)[DELIVERY_ID_HEADER] == "shared-id"
        await backend.close()

    async def test_many_at_once_over_few_connections(self, case: Case) -> None:
        # Three first deliveries at once make Dovecot 2.3 panic in its list of folders now and then (EDEADLK of fcntl).
        backend = case.backend(max_deliveries=3)
        await deliver(backend, message(backend))
        await asyncio.gather(*(deliver(backend, message(backend, body=b"Subject: %d\r\n\r\n" % i)) for i in range(60)))
        assert len(bodies(case)) == 61
        await backend.close()

    async def test_finds_what_it_has_in_any_folder(self, case: Case) -> None:
        backend = case.backend()
        here, there, nowhere = (os.urandom(16).hex() for _ in range(3))
        await deliver(backend, message(backend, id=here))
        await deliver(backend, message(backend, id=there))
        session = case.lab.imap("hanako@example.com")
        session.create('"007"')
        session.create('"a &itxsQg- b"')
        session.select("INBOX")
        session.copy("2", '"a &itxsQg- b"')
        session.store("2", "+FLAGS", "\\Deleted")
        session.expunge()
        session.logout()
        found = await backend.find(account(), here)
        assert (found.found, found.folder.upper()) == (Found.YES, "INBOX"), found
        found = await backend.find(account(), there, since=time.time())
        assert found.found is Found.YES and "itxsQg" in found.folder
        assert (await backend.find(account(), nowhere)).found is Found.NO
        assert (await backend.find(account(), nowhere, since=time.time())).found is Found.NO
        assert (await backend.find(account("taro@example.com"), here)).found is Found.NO
        await backend.close()

    async def test_a_lost_answer_is_in_doubt_and_then_found(self, case: Case) -> None:
        relay = Relay("127.0.0.1", case.server.delivery.port)
        relay.start()
        try:
            backend = case.backend(delivery=local(relay.port))
            await deliver(backend, message(backend))  # over the connection that then is reused
            relay.lose(case.kept)
            lost = message(backend)
            attempt = Attempts()
            outcomes = await backend.deliver(lost, attempt)
            assert ([o.state for o in outcomes.values()], attempt.count) == ([State.IN_DOUBT], 1)
            assert relay.still_to_lose == 0
            assert (await backend.find(account(), lost.id)).found is Found.YES
            assert len(bodies(case)) == 2
            await backend.close()
        finally:
            relay.stop()

    async def test_cannot_find_without_a_log_in(self, case: Case) -> None:
        backend = case.backend(login_way=LoginWay.PASSWORD)
        assert not backend.can_find
        found = await backend.find(account(), "x")
        assert found.found is Found.CANT
        assert found.failure and found.failure.kind is Kind.GIVE_UP and "master" in found.failure.reason

    async def test_cannot_find_with_a_wrong_master(self, case: Case) -> None:
        backend = case.backend(master_password="wrong")
        found = await backend.find(account(), "x")
        assert found.found is Found.CANT
        assert found.failure and found.failure.kind is Kind.AGAIN and "master" in found.failure.reason

    @pytest.mark.parametrize("way", ["configured", "password"])
    async def test_logs_in(self, case: Case, way: str) -> None:
        backend = case.backend() if way == "configured" else case.backend(login_way=LoginWay.PASSWORD)
        await deliver(backend, message(backend))
        client = ClientInfo("192.0.2.7", 4711, "127.0.0.1", 143, "session1")
        session = await backend.log_in(account(), None if way == "configured" else "secret", client)
        assert "IMAP4REV1" in session.capabilities and "IDLE" in session.capabilities
        assert not any(capability.startswith("AUTH=") for capability in session.capabilities)
        await session.stream.write(b"x1 SELECT INBOX\r\n")
        text = b""
        while b"x1 " not in text:
            text += await session.stream.read()
        assert b"* 1 EXISTS" in text and b"x1 OK" in text
        session.stream.close()
        await backend.close()

    async def test_refuses_wrong_passwords(self, case: Case) -> None:
        """Also where a master could get in: that he can says nothing about the user's password."""
        backend = case.backend()
        await backend.check_password(account(), "secret", ClientInfo())
        with pytest.raises(Failed) as raised:
            await backend.check_password(account(), "wrong", ClientInfo())
        failure = raised.value.failure
        assert (failure.kind, failure.code, failure.enhanced) == (Kind.REFUSE, 535, "5.7.8")
        assert "wrong" not in failure.reason
        await backend.close()

    async def test_refuses_wrong_passwords_whatever_its_own_way_in(self, case: Case) -> None:
        backend = case.backend()
        await backend.check_password(account(), "secret", ClientInfo())
        with pytest.raises(Failed) as raised:
            await backend.check_password(account(), "wrong", ClientInfo())
        assert raised.value.failure.kind is Kind.REFUSE
        await backend.close()

    async def test_probes(self, case: Case) -> None:
        backend = case.backend()
        for face in (IMAP, DELIVERY):
            sighting = await backend.probe(face)
            assert (sighting.face, sighting.seen, sighting.reason) == (face, Seen.OK, "")
            assert 0 < sighting.seconds < 5
        await backend.close()

    async def test_probe_messages_leave_nothing(self, case: Case) -> None:
        backend = case.backend()
        left = message(backend, "probe@example.com", id="probe-edge.example-left-by-a-crash")
        await deliver(backend, left)
        await deliver(backend, message(backend, "probe@example.com", id="somebody-elses"))
        sighting = await backend.probe_message("probe@example.com")
        assert (sighting.seen, sighting.reason) == (Seen.OK, "")
        (kept,) = bodies(case, "probe@example.com")
        assert email.message_from_bytes(kept)[DELIVERY_ID_HEADER] == "somebody-elses"
        await backend.close()

    async def test_a_dead_server(self, case: Case) -> None:
        backend = case.backend()
        await deliver(backend, message(backend))
        watching = asyncio.create_task(backend.watch(IMAP))
        delivery_watching = asyncio.create_task(backend.watch(DELIVERY))
        await asyncio.sleep(0.3)
        assert not watching.done() and not delivery_watching.done()
        case.lab.kill()
        await asyncio.wait_for(asyncio.gather(watching, delivery_watching), 1)
        attempt = Attempts()
        outcomes = await backend.deliver(message(backend), attempt)
        assert [o.state for o in outcomes.values()] == [State.AGAIN] and attempt.count == 0
        assert case.eyes.sightings[-1].seen is Seen.REFUSED
        assert (await backend.probe(IMAP)).seen is Seen.REFUSED
        assert (await backend.probe(DELIVERY)).seen is Seen.REFUSED
        with pytest.raises(Failed) as raised:
            await backend.log_in(account(), "secret", ClientInfo())
        assert raised.value.failure.kind is Kind.AGAIN
        found = await backend.find(account(), "x")
        assert found.found is Found.CANT and found.failure and found.failure.kind is Kind.AGAIN
        case.lab.start()
        await deliver(backend, message(backend))
        await backend.close()
