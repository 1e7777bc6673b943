"""The session over the real spool, on a real disk: what was acknowledged is there, byte by byte, after a restart."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from onedomain.app.real import RealClock, RealNonce
from onedomain.edge.smtp import SmtpEdge
from onedomain.edge.smtp_ports import SmtpParts
from onedomain.edge.smtp_visit import smtp_visits
from onedomain.net.listen import Listener, bind
from onedomain.queue.spool import Spool
from onedomain.store.disk import RealDisk
from tests.directory.views import account, book
from tests.edge.parts import Board, Notes
from tests.edge.smtp_kit import RULES, Client, Counts, FakeLevels
from tests.edge.test_smtp import send


async def open_spool(folder: Path, notes: Notes) -> Spool:
    return await Spool.open(str(folder), disk=RealDisk(), clock=RealClock(), nonce=RealNonce(), trace=notes)


async def body_of(spool: Spool, id: str) -> bytes:
    body = spool.body(spool.entries[id])
    parts = b""
    while len(parts) < body.size:
        parts += await body.read(len(parts), 1 << 20)
    return parts


@pytest.fixture
async def notes() -> AsyncIterator[Notes]:
    yield Notes()


async def test_acknowledged_mail_is_there_after_a_restart(tmp_path: Path, notes: Notes) -> None:
    spool = await open_spool(tmp_path / "spool", notes)
    parts = SmtpParts(book(account("ann@example.com")), Board(), spool, FakeLevels(), RealClock(), notes, Counts())

    talk = SmtpEdge(parts, RULES)
    listener = Listener(bind("127.0.0.1", 0), talk, trace=notes, visits=smtp_visits(talk))
    listener.start()
    sent: dict[str, bytes] = {}
    dice = random.Random(7)

    async def session(sizes: list[int]) -> None:
        client = Client(*await asyncio.open_connection(*listener.address))
        await client.reply()
        await client.ask("EHLO x")
        for size in sizes:
            body = b"Subject: x\r\n\r\n" + b"".join(
                bytes(dice.choices(range(33, 256), k=60)) + b"\r\n" for _ in range(size // 62))
            wire = body.replace(b"\r\n.", b"\r\n..")
            reply = (await send(client, "ann@example.com", body=wire))[-1]
            sent[reply.rpartition(" ")[2]] = body
        client.close()

    await asyncio.gather(session([100, 2_000_000, 300, 70_000]), session([50_000] * 5), session([1000] * 20))
    await listener.drain(5)
    assert len(sent) == 29
    await spool.close()
    spool = await open_spool(tmp_path / "spool", notes)
    try:
        assert set(spool.entries) == set(sent)
        for id, body in sent.items():
            assert (await body_of(spool, id)).endswith(b"\r\nX-OneDomain-Delivery: " + id.encode() + b"\r\n" + body)
            assert spool.entries[id].envelope.targets[0].account == "ann@example.com"
    finally:
        await spool.close()
    assert not notes.named("session failed")
