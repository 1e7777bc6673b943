"""What clients remember of a Dovecot or a Cyrus (RFC 7162) is worth as much at a node that takes its place: a link
tells it the MODSEQs. Caches of every moment come back to it, and are what a client without a cache is shown.
"""

from __future__ import annotations

import base64
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from onedomain.decision.link.promote import promote
from onedomain.model.replica import Promotion
from tests.backend.contract import account
from tests.backend.link.test_pairs import LONG, NAME, Pair, Place
from tests.backend.link.test_pairs import places as places
from tests.node.cache import parse_set
from tests.node.lab import Imap

FLAGS = ("\\Seen", "\\Flagged", "\\Answered", "$Label1", "Work")


async def logged_in(place: Place) -> Imap:
    client = await Imap.open((place.lab.host, place.lab.imap_port))
    assert isinstance(client, Imap)
    await client.line()
    if place.server.kind == "node":
        words = base64.b64encode(f"{NAME}\0{place.lab.proxy}\0{place.lab.proxy_password}".encode()).decode()
        answer = await client(f"AUTHENTICATE PLAIN {words}")
    else:
        answer = await client(f"LOGIN {NAME} secret")
    assert answer[-1].startswith(b"OK"), answer
    assert (await client("ENABLE QRESYNC"))[-1].startswith(b"OK")
    return client


@dataclass
class Cache:
    validity: int
    modseq: int
    flags: dict[int, frozenset[bytes]]

    def told(self, lines: list[bytes]) -> None:
        for line in lines:
            if line.startswith(b"* VANISHED "):
                for uid in parse_set(line.split(b" ")[-1]):
                    self.flags.pop(uid, None)
            elif b" FETCH (" in line:
                uid, flags = re.search(rb"UID (\d+)", line), re.search(rb"FLAGS \(([^)]*)\)", line)
                if uid is not None and flags is not None:
                    self.flags[int(uid[1])] = frozenset(flags[1].split()) - {b"\\Recent"}


def number(lines: list[bytes], name: bytes) -> int:
    found = re.search(rb"\[" + name + rb" (\d+)\]", b"\n".join(lines))
    assert found is not None, lines
    return int(found[1])


async def fresh(client: Imap) -> Cache:
    told = await client("SELECT INBOX")
    cache = Cache(number(told, b"UIDVALIDITY"), number(told, b"HIGHESTMODSEQ"), {})
    cache.told(await client("UID FETCH 1:* (FLAGS)"))
    return cache


async def act(client: Imap, dice: random.Random) -> None:
    here = sorted((await fresh(client)).flags)
    uid = dice.choice(here) if here else 0
    what = dice.random()
    if not here or what < 0.35:
        raw = b"Subject: %d\r\n\r\nx\r\n" % dice.randrange(1 << 30)
        await client(b"APPEND INBOX {%d+}\r\n%b" % (len(raw), raw))
    elif what < 0.8:
        chosen = " ".join(dice.sample(FLAGS, dice.randrange(4)))
        assert (await client(f"UID STORE {uid} FLAGS ({chosen})"))[-1].startswith(b"OK")
    else:
        await client(f"UID STORE {uid} +FLAGS (\\Deleted)")
        assert (await client(f"UID EXPUNGE {uid}"))[-1].startswith(b"OK")


@pytest.mark.real
@pytest.mark.parametrize("seed", range(4 if LONG else 1))
@pytest.mark.parametrize("kind", ["dovecot", "cyrus"])
async def test_caches_are_right_at_a_node(places: Callable[[str], Place], kind: str, seed: int) -> None:
    dice = random.Random(seed)
    pair = Pair(places(kind), places("node"))
    await pair.target.provide(account(NAME))
    client = await logged_in(pair.primary)
    for _ in range(dice.randrange(1, 12)):
        await act(client, dice)
    caches: list[Any] = []
    for _ in range(25):
        for _ in range(dice.randrange(4)):
            await act(client, dice)
        if dice.random() < 0.5:
            caches.append(await fresh(client))
        if dice.random() < 0.5:
            await pair.sweep()
    await pair.sweep()
    assert pair.kept.state.folders
    for _ in range(dice.randrange(4)):  # seen by some, and lost
        await act(client, dice)
        caches.append(await fresh(client))
    promotion: Promotion = await pair.run(lambda _, powers: promote(pair.kept.state, powers))
    assert not promotion.refused and not any(folder.renumbered for folder in promotion.folders)
    there = await logged_in(pair.replica)
    for _ in range(dice.randrange(6)):
        await act(there, dice)
    truth = await fresh(there)
    for cache in caches:
        assert (cache.validity, truth.modseq > cache.modseq) == (truth.validity, True)
        told = await there(f"SELECT INBOX (QRESYNC ({cache.validity} {cache.modseq}))")
        cache.told(told)
        assert cache.flags == truth.flags
