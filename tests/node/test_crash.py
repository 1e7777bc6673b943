"""A node killed with SIGKILL under load: nothing acknowledged is lost, nothing is there twice, everything is sound."""

from __future__ import annotations

import asyncio
import imaplib
import os
import random
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from onedomain.node.store.verify import verify
from tests.node.lab import Lmtp, message
from tests.node.program import SECRET, NodeProgram
from tests.node.replica import MESSAGE, ask, link_log_in

KILLS, STORES = (25, 4) if os.environ.get("ONEDOMAIN_LONG") == "1" else (15, 1)
FOLDER = b"linked@example.com ll 77"


@pytest.fixture
def program(tmp_path: Path) -> Iterator[NodeProgram]:
    program = NodeProgram(tmp_path)
    yield program
    if program.tree is not None:
        program.tree.kill()


async def deliver(port: int, first: int, taken: set[str], unsure: list[str]) -> None:
    """Until the node is gone. `taken`: ids that had their 250; `unsure`: those whose answer never came."""
    delivery = ""
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        client = await Lmtp.open(("127.0.0.1", port))
        assert isinstance(client, Lmtp)
        await client.reply()
        await client.send(b"LHLO test\r\n")
        await client.reply()
        for n in range(first, first + 100_000):
            size = 300_000 if n % 50 == 7 else 3_000  # some are large enough for a segment of their own
            delivery = f"id-{n}"
            replies = await client.deliver(message(n, size, delivery), "u@example.com")
            if replies[0].startswith(b"250 "):
                taken.add(delivery)
                delivery = ""
    if delivery:
        unsure.append(delivery)


class Given:
    """What a link has given: UIDs that were answered for, as there or as gone, and those of the last command of all."""

    def __init__(self) -> None:
        self.there: set[int] = set()
        self.gone: set[int] = set()
        self.unsure: set[int] = set()
        self.command = b""

    async def link(self, port: int) -> None:
        """Look whether everything is there, repeat what was not answered, and give on until the node is gone."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            client = await link_log_in(("127.0.0.1", port))
            await ask(client, b"ACCOUNT linked@example.com")
            await ask(client, b"FOLDER " + FOLDER + b" f 1 1 NIL")
            self.check(await ask(client, b"MESSAGES " + FOLDER + b" 0"))
            if self.command:
                await ask(client, self.command)
                self.sure()
            while True:
                uid = max(self.there | self.gone, default=0) + 1
                if uid % 5 == 0 and self.there:
                    self.unsure = set(list(self.there)[:3])
                    self.command = b"EXPUNGE %b (%b %d)" % (FOLDER, b",".join(b"%d" % u for u in self.unsure), uid + 1)
                    await ask(client, self.command)
                    self.sure()
                self.unsure = {uid, uid + 1}
                given = b"".join(b" (%d %d 0 () id-%d) {%d+}\r\n%b" % (u, u + 1, u, len(body(u)), body(u))
                                 for u in (uid, uid + 1))
                self.command = b"APPEND " + FOLDER + given
                await ask(client, self.command)
                self.sure()

    def sure(self) -> None:
        if self.command.startswith(b"APPEND"):
            self.there |= self.unsure
        else:
            self.there -= self.unsure
            self.gone |= self.unsure
        self.command, self.unsure = b"", set()

    def check(self, lines: list[bytes]) -> None:
        found = {int(each[1]): int(each[5]) for line in lines if (each := MESSAGE.match(line)) is not None}
        assert self.there - self.unsure <= set(found) <= self.there | self.unsure
        assert all(size == len(body(uid)) for uid, size in found.items())


def body(uid: int) -> bytes:
    return b"given %d " % uid * (40_000 if uid % 97 == 1 else 50)


async def load(program: NodeProgram, round_: int, seconds: float, given: Given) -> tuple[set[str], list[str]]:
    taken: set[str] = set()
    unsure: list[str] = []
    senders = [
        asyncio.create_task(deliver(program.ports["lmtp"], (round_ * 10 + k) * 100_000, taken, unsure))
        for k in range(6)
    ]
    link = asyncio.create_task(given.link(program.ports["imap"]))
    await asyncio.sleep(seconds)
    await asyncio.to_thread(program.kill)
    await asyncio.gather(*senders, link)
    return taken, unsure


def churn(port: int, seed: int, stop: threading.Event) -> None:
    """A client that moves, flags and expunges what it appended itself, while the deliveries go on."""
    rng = random.Random(seed)
    with suppress(OSError, imaplib.IMAP4.error, imaplib.IMAP4.abort):
        client = log_in(port)
        client.select("Drafts")
        while not stop.is_set():
            client.append("Drafts", None, None, b"Subject: mine\r\n\r\n" + b"x" * rng.randrange(5_000))  # type: ignore[arg-type]
            client.noop()
            client.store("1:*", "+FLAGS", rng.choice(["(\\Seen)", "(a b)", "(\\Deleted)"]))
            rng.choice([client.expunge, client.noop, lambda: client.copy("1:*", "Archive")])()


def log_in(port: int) -> imaplib.IMAP4:
    client = imaplib.IMAP4("127.0.0.1", port)
    client.authenticate("PLAIN", lambda _: f"u@example.com\0edge\0{SECRET}".encode())
    return client


def delivered(port: int) -> list[str]:
    client = log_in(port)
    client.select("INBOX", readonly=True)
    _, data = client.uid("FETCH", "1:*", "(BODY.PEEK[HEADER.FIELDS (X-OneDomain-Delivery)])")
    client.logout()
    return [item[1].split()[1].decode() for item in data if isinstance(item, tuple)]


@pytest.mark.slow
@pytest.mark.timeout(60 + 10 * KILLS)
@pytest.mark.parametrize("store", range(STORES))
def test_killed_at_random_moments(program: NodeProgram, store: int) -> None:
    rng = random.Random(20260211 + store)
    acknowledged: set[str] = set()
    given = Given()
    for round_ in range(KILLS):
        program.start()
        stop = threading.Event()
        client = threading.Thread(target=churn, args=(program.ports["imap"], round_, stop))
        client.start()
        taken, unsure = asyncio.run(load(program, round_, rng.uniform(0.02, 0.4), given))
        stop.set()
        client.join()
        acknowledged |= taken
        assert verify(program.data).findings == ()
        assert len(unsure) <= 6
    assert len(acknowledged) > KILLS and len(given.there) > KILLS and given.gone
    program.start()
    found = delivered(program.ports["imap"])
    assert len(found) == len(set(found)), "twice"
    assert acknowledged - set(found) == set(), "lost"

    async def again() -> list[bytes]:
        client = await Lmtp.open(("127.0.0.1", program.ports["lmtp"]))
        assert isinstance(client, Lmtp)
        await client.reply()
        await client.send(b"LHLO test\r\n")
        await client.reply()
        return await client.deliver(message(1, 100, found[0]), "u@example.com")

    assert asyncio.run(again()) == [b"250 2.0.0 stored already"]
    program.stop()
    assert program.check()["clean"] is True
