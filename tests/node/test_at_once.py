"""Sessions that really work at the same time in one folder, deliveries among them: each session's cache is
right at the end, no UID ever named two messages, and what was acknowledged is there once.

test_model.py knows at each step what must be there, since its sessions speak in turn. Here nobody waits for anybody.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from onedomain.node.server import Node
from onedomain.node.store.verify import verify
from tests.node.cache import Cache, fresh
from tests.node.lab import Imap, imap, lmtp, start_node

SESSIONS = 6
ACTS = 60
FLAGS = ("\\Seen", "\\Flagged", "work")
TOKEN = re.compile(rb"UID (\d+).*?token-([a-z0-9-]+);", re.S)


@dataclass
class Ledger:
    """`kept`: acknowledged; `gone`: of those, what somebody asked to expunge; `named`: (UIDVALIDITY, UID) -> token."""

    kept: set[bytes] = field(default_factory=set)
    gone: set[bytes] = field(default_factory=set)
    named: dict[int, bytes] = field(default_factory=dict)

    def name(self, lines: list[bytes]) -> None:
        for line in lines:
            if found := TOKEN.search(line):
                assert self.named.setdefault(int(found[1]), found[2]) == found[2], "a UID named two messages"


async def work(node: Node, number: int, ledger: Ledger) -> tuple[Imap, Cache]:
    dice = random.Random(number)
    client, cache = await imap(node), Cache("f")
    await client("ENABLE QRESYNC")
    await cache.open(client)
    for act in range(ACTS):
        known = [uid for uid in cache.order if uid is not None]
        what = dice.random()
        if what < 0.4 or not known:
            token = f"s{number}-{act}"
            text = f"token-{token};"
            lines = await client(f"APPEND f {{{len(text)}+}}\r\n{text}")
            assert lines[-1].startswith(b"OK [APPENDUID")
            ledger.kept.add(token.encode())
        elif what < 0.6:
            uids = ",".join(map(str, dice.sample(known, min(3, len(known)))))
            lines = await client(f"UID STORE {uids} {dice.choice('+-')}FLAGS ({dice.choice(FLAGS)})")
        elif what < 0.75:
            uid = dice.choice(known)
            lines = await client(f"UID FETCH {uid} (UID BODY.PEEK[])")
            ledger.name(lines)
            if uid in ledger.named:
                ledger.gone.add(ledger.named[uid])
                cache.told(lines)
                cache.told(await client(f"UID STORE {uid} +FLAGS.SILENT (\\Deleted)"))
                lines = await client(f"UID EXPUNGE {uid}")
        elif what < 0.85:
            lines = await client(f"UID MOVE {dice.choice(known)} {'g' if dice.random() < 0.5 else 'f'}")
        elif what < 0.9:
            await client.close()
            client = await imap(node)
            await client("ENABLE QRESYNC")
            await cache.open(client)
            continue
        else:
            lines = await client("UID FETCH 1:* (UID FLAGS BODY.PEEK[])")
            ledger.name(lines)
        cache.told(lines)
        await cache.fetch_new(client)
    return client, cache


async def deliver(node: Node, ledger: Ledger, over: asyncio.Event) -> None:
    client, number = await lmtp(node), 0
    while not over.is_set():
        token = b"mail-%d" % number
        number += 1
        text = b"X-OneDomain-Delivery: 0d%dx\r\nSubject: s\r\n\r\ntoken-%b;\r\n" % (number, token)
        [reply] = await client.deliver(text, "u@example.com")
        assert reply.startswith(b"250 ")
        ledger.kept.add(token)
    await client.close()


async def tokens(client: Imap, name: str) -> Counter[bytes]:
    await client(f"EXAMINE {name}")
    found = (TOKEN.search(line) for line in await client("UID FETCH 1:* (UID BODY.PEEK[])"))
    return Counter(each[2] for each in found if each)


@pytest.mark.parametrize("seed", range(2))
async def test_whoever_works_at_the_same_time(tmp_path: Path, seed: int) -> None:
    node = await start_node(tmp_path / "node")
    judge, ledger, over = await imap(node), Ledger(), asyncio.Event()
    for name in "fg":
        await judge(f"CREATE {name}")
    mail = asyncio.create_task(deliver(node, ledger, over))
    ended = await asyncio.gather(*(work(node, seed * 100 + number, ledger) for number in range(SESSIONS)))
    over.set()
    await mail
    there = await fresh(judge, "f")
    for client, cache in ended:
        await cache.look(client)
        assert cache.flags == there and cache.order == sorted(there)
        await client.close()
    found = sum([await tokens(judge, name) for name in ("f", "g", "INBOX")], Counter[bytes]())
    assert len(ledger.kept) > SESSIONS * ACTS / 4 and ledger.gone
    assert set(found) - ledger.gone == ledger.kept - ledger.gone and set(found.values()) == {1}
    await judge.close()
    await node.close()
    assert verify(tmp_path / "node").findings == ()
