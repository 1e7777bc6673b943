"""Sessions without a task: when they get one, and what becomes of a message that is being committed when one ends.
What is said is tested in test_smtp.py.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from onedomain.edge.smtp import SmtpEdge
from onedomain.edge.smtp_talk import SmtpTalk
from onedomain.net.stream import Stream
from onedomain.net.tls import CertificateFiles, ServerContexts
from tests.directory.views import account, book
from tests.edge.smtp_kit import RULES, Client, Edge, edge
from tests.edge.test_smtp import BODY, MAIL, send
from tests.lab.tls import Certificate

ANN = account("ann@example.com")


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> list[Stream]:
    """Sessions that went on as a task."""
    seen: list[Stream] = []
    real = SmtpEdge.go_on

    async def go_on(self: SmtpEdge, stream: Stream, talk: SmtpTalk, work: object = None) -> None:
        seen.append(stream)
        await real(self, stream, talk, work)  # type: ignore[arg-type]

    monkeypatch.setattr(SmtpEdge, "go_on", go_on)
    return seen


async def hanging(made: Edge) -> tuple[Client, asyncio.Event]:
    """A client whose message is being committed until the event is set."""
    client = await made.ready()
    hang = made.spool.hang = asyncio.Event()
    client.send(MAIL + b"RCPT TO:<ann@example.com>\r\nDATA\r\n")
    await client.replies(3)
    client.send(BODY + b".\r\n")
    while not made.spool.tasks:
        await asyncio.sleep(0)
    return client, hang


async def test_mail_needs_no_task(tasks: list[Stream]) -> None:
    async with edge(view=book(ANN)) as made:
        client = await made.ready()
        for _ in range(3):
            assert (await send(client, "ann@example.com"))[-1].startswith("250 2.0.0 queued as ")
        assert (await client.ask("NONSENSE")).startswith("500")
        assert (await send(client, "bob@example.com"))[1].startswith("550")
        assert (await client.ask("QUIT")).startswith("221") and await client.ended()
        assert len(made.spool.messages) == 3 and not tasks


async def test_a_message_that_does_not_fit_into_memory_is_waited_for_in_a_task(tasks: list[Stream]) -> None:
    async with edge(view=book(ANN)) as made:
        made.spool.spills = True
        client = await made.ready()
        assert (await send(client, "ann@example.com"))[-1].startswith("250 2.0.0 queued as ")
        assert (await send(client, "ann@example.com"))[-1].startswith("250 2.0.0 queued as ")
        made.spool.refuses_spill = True
        assert (await send(client, "ann@example.com"))[-1].startswith("452")
        assert len(made.spool.messages) == 2 and len(tasks) == 1


async def test_what_comes_behind_a_message_waits_for_its_answer(tasks: list[Stream]) -> None:
    async with edge(view=book(ANN)) as made:
        client, hang = await hanging(made)
        client.send(MAIL + b"RCPT TO:<ann@example.com>\r\nDATA\r\n")
        await asyncio.sleep(0.05)  # if it were read now it would be answered now
        hang.set()
        assert await client.codes(4) == [250, 250, 250, 354]
        client.send(BODY + b".\r\nQUIT\r\n")
        assert await client.codes(2) == [250, 221] and await client.ended()
        assert len(made.spool.messages) == 2 and not tasks


async def test_a_client_that_leaves_while_its_message_is_committed_has_sent_it(tasks: list[Stream]) -> None:
    async with edge(view=book(ANN)) as made:
        client, hang = await hanging(made)
        client.writer.transport.abort()
        await asyncio.sleep(0.05)  # until the edge has been told
        hang.set()
        await asyncio.gather(*made.spool.tasks)
        while made.listener is not None and made.listener.sessions:
            await asyncio.sleep(0)
        assert len(made.spool.messages) == 1 and made.notes.named("received") and not tasks


async def test_a_message_that_is_being_committed_has_its_answer_before_the_session_is_ended(
    tasks: list[Stream],
) -> None:
    async with edge(view=book(ANN)) as made:
        client, hang = await hanging(made)
        assert made.listener is not None
        draining = asyncio.create_task(made.listener.drain(60))
        await asyncio.sleep(0)
        hang.set()
        assert (await client.reply()).startswith("250 2.0.0") and (await client.reply()).startswith("421 4.3.2")
        assert await client.ended() and await draining == 0 and len(tasks) == 1


async def test_a_session_that_is_cut_while_its_message_is_committed_takes_nothing_with_it() -> None:
    async with edge(view=book(ANN)) as made:
        client, hang = await hanging(made)
        assert made.listener is not None
        assert await made.listener.drain(0) == 1
        assert await client.ended()
        hang.set()
        await asyncio.gather(*made.spool.tasks)
        assert len(made.spool.messages) == 1 and made.notes.named("received")


async def test_a_refused_commit_is_told() -> None:
    async with edge(view=book(ANN)) as made:
        client = await made.ready()
        made.spool.refuses_commit = True
        assert (await send(client, "ann@example.com"))[-1] == "452 4.3.1 disk full"
        made.spool.refuses_commit = False
        assert (await send(client, "ann@example.com"))[-1].startswith("250")


async def test_a_defect_ends_its_session_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async with edge(view=book(ANN)) as made:
        client, other = await made.ready(), await made.ready()
        told: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
        monkeypatch.setattr(SmtpTalk, "_sender", lambda self, event: 1 // 0)
        client.send(MAIL)
        assert await client.ended()
        monkeypatch.undo()
        assert (await send(other, "ann@example.com"))[-1].startswith("250")
        assert len(told) == 1 and len(made.notes.named("session failed")) == 1
        made.notes.events.clear()


@pytest.mark.parametrize("what", [
    MAIL + b"RCPT TO:<ann@example.com>\r\n" * 200 + b"DATA\r\n",
    MAIL + b"RCPT TO:<ann@example.com>\r\nBDAT 6000 LAST\r\n" + b"x" * 5998 + b"\r\n",
], ids=["recipients", "chunk"])
async def test_a_large_record_is_heard_to_its_end(what: bytes, certificate: Certificate) -> None:
    """What OpenSSL has taken from the kernel no event tells of."""
    contexts = ServerContexts([CertificateFiles(str(certificate.cert), str(certificate.key))])
    async with edge(view=book(ANN), tls=contexts, implicit=True) as made:
        trust = certificate.client_context()
        client = Client(*await asyncio.open_connection("localhost", made.port, ssl=trust))
        assert (await client.reply()).startswith("220 ")
        await client.ask("EHLO client.example.org")
        client.send(what)
        codes = await client.codes(what.count(b"RCPT") + 2)
        assert codes[-1] == (354 if b"DATA" in what else 250)
        client.close()


async def test_who_stops_in_a_body_has_one_pause() -> None:
    """However much has come by then."""
    async with edge(view=book(ANN), rules=replace(RULES, idle=2.0)) as made:
        client = await made.ready()
        client.send(MAIL + b"RCPT TO:<ann@example.com>\r\nDATA\r\n" + b"x" * 70 + (b"\r\n" + b"x" * 70) * 100)
        assert await client.codes(3) == [250, 250, 354]
        began = asyncio.get_running_loop().time()
        assert (await client.reply()).startswith("421")
        assert asyncio.get_running_loop().time() - began < 3.5, "sessions are looked at about once a second"


async def test_a_defect_while_an_answer_is_told_ends_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    async with edge(view=book(ANN)) as made:
        client, hang = await hanging(made)
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        monkeypatch.setattr(SmtpTalk, "_answer", lambda self, message, level="": 1 // 0)
        hang.set()
        assert await client.ended()
        assert len(made.spool.messages) == 1 and len(made.notes.named("session failed")) == 1
        made.notes.events.clear()
