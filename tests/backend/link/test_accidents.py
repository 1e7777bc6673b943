"""Links between real servers while people work, lines break, answers get lost and servers are killed; from seeds.

The ledger is kept by those who act, and compared with what imaplib sees. `ONEDOMAIN_SEEDS` as in tests/simulation.
"""

from __future__ import annotations

import asyncio
import imaplib
import os
import random
import smtplib
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from onedomain.decision.link.actions import Action
from onedomain.model.failure import Failed, again
from onedomain.model.message import DELIVERY_ID_HEADER
from onedomain.replica.performer import Performer
from tests.backend.contract import account, local
from tests.backend.link.mailbox import Mailbox, append, client, done, expunge, quote, store
from tests.backend.link.test_pairs import NAME, Pair, Place, check_same
from tests.backend.link.test_pairs import places as places  # a fixture
from tests.simulation.seeds import seeds

LONG = os.environ.get("ONEDOMAIN_LONG") == "1"
FLAGS = ("\\Seen", "\\Flagged", "\\Answered", "\\Draft", "Work", "$Label1")
NAMES = ("Lists", "Archive", "Old")


@dataclass
class Ledger:
    """Tokens: acknowledged by the server, expunged by their user, and doubtful, as the answer was lost or awaited."""

    kept: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)
    doubtful: set[str] = field(default_factory=set)

    @contextmanager
    def doubt(self, token: str) -> Iterator[None]:
        """What was half done once, by a server that was killed, stays in doubt."""
        before = token in self.doubtful
        self.doubtful.add(token)
        yield
        if not before:
            self.doubtful.discard(token)

    def check(self, seen: Mailbox, where: str) -> None:
        found = Counter(message.subject.decode() for box in seen.boxes.values() for message in box.messages.values())
        for token in self.kept - self.doubtful:
            wanted = 0 if token in self.removed else 1
            assert found[token] == wanted, f"{where}: {token} is there {found[token]} times, not {wanted}"
        assert all(found[token] == 1 for token in found.keys() - self.doubtful), found
        assert set(found) <= self.kept | self.doubtful, set(found) - self.kept


class User(threading.Thread):
    """Somebody at the primary: mail comes, is read, filed, flagged, thrown away."""

    def __init__(self, place: Place, seed: int, ledger: Ledger) -> None:
        super().__init__(daemon=True)
        self.place, self.random = place, random.Random(seed)
        self.seed, self.ledger = seed, ledger
        self.stop = threading.Event()
        self.number = 0
        self.trouble: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                try:
                    with client(self.place.lab, NAME) as session:
                        while not self.stop.wait(self.random.random() * 0.01):
                            self.act(session)
                except (OSError, imaplib.IMAP4.error, smtplib.SMTPException):
                    self.stop.wait(0.05)  # the server is being killed and started
        except BaseException as error:  # noqa: BLE001 - told by end()
            self.trouble = error

    def end(self) -> None:
        self.stop.set()
        self.join(60)
        if self.trouble is not None:
            raise self.trouble

    def act(self, session: imaplib.IMAP4) -> None:
        dice = self.random.random()
        name = self.random.choice(("INBOX", *map(self.place.path, NAMES)))
        if dice < 0.3:
            self.new(lambda raw: self.deliver(raw))
            return
        if session.select(quote(name))[0] != "OK":
            done(session.create(quote(name)))
            return
        if dice < 0.45:
            self.new(lambda raw: append(session, name, raw, self.random.choice(FLAGS)))
            return
        found = {}
        for each in done(session.uid("FETCH", "1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")):
            if isinstance(each, tuple):
                found[each[0].split(b"UID ")[1].split()[0].decode()] = each[1].split(b":")[1].strip().decode()
        if not found:
            return
        uid, token = self.random.choice(sorted(found.items()))
        if dice < 0.7:
            store(session, name, uid, "FLAGS", " ".join(self.random.sample(FLAGS, self.random.randrange(3))))
        elif dice < 0.85:
            with self.ledger.doubt(token):
                expunge(session, name, uid)
                self.ledger.removed.add(token)
        else:
            other = self.random.choice(("INBOX", *map(self.place.path, NAMES)))
            if other != name and session.status(quote(other), "(UIDNEXT)")[0] == "OK":
                with self.ledger.doubt(token):
                    done(session.uid("MOVE", uid, quote(other)))

    def new(self, put: Callable[[bytes], None]) -> None:
        self.number += 1
        token = f"token{self.seed}x{self.number}"
        raw = f"Date: Sat, 21 Nov 2026 22:00:00 +0900\r\nMessage-ID: <{token}@o>\r\nSubject: {token}\r\n"
        raw += f"{DELIVERY_ID_HEADER}: 0d{self.seed}x{self.number}x\r\n\r\n"
        raw += f"{token}\r\n" * self.random.choice((1, 1, 4000))
        with self.ledger.doubt(token):
            put(raw.encode())
            self.ledger.kept.add(token)

    def deliver(self, raw: bytes) -> None:
        with self.place.lab.lmtp() as lmtp:
            lmtp.sendmail("a@outside.example", [NAME], raw)


class Shaky(Performer):
    """Breaks off before or after an action, as a killed process does."""

    dice: random.Random
    odds: float

    async def perform(self, action: Action) -> Any:
        dice = self.dice.random()
        if dice < self.odds:
            raise Failed(again(451, "4.3.2", "accident", "before"))
        answer = await super().perform(action)
        if dice > 1 - self.odds:
            raise Failed(again(451, "4.3.2", "accident", "after"))
        return answer


@pytest.fixture
async def pair(
    request: pytest.FixtureRequest, places: Callable[[str], Place], start_relay: Callable[..., Any]
) -> AsyncIterator[Pair]:
    """With a relay on both lines of the link."""
    sides = []
    for kind in request.param:
        place = places(kind)
        relay = start_relay("127.0.0.1", place.lab.imap_port)
        place.server = replace(place.server, imap=local(relay.port))
        place.lab.relay = relay
        sides.append(place)
    pair = Pair(*sides)
    for side in (pair.source, pair.target):
        await side.provide(account(NAME))
    yield pair
    await pair.source.close()
    await pair.target.close()


def accident(pair: Pair, dice: random.Random) -> None:
    place = dice.choice((pair.primary, pair.replica))
    match dice.choice(("reset", "reset", "lose", "lose", "kill")):
        case "reset":
            place.lab.relay.reset()
        case "lose":
            pair.replica.lab.relay.lose(dice.choice((b"APPENDUID", b"Expunge completed", b"Store completed", b"Fetch")))
        case "kill":
            place.lab.kill()
            place.lab.start()


PAIRS = [("dovecot", "dovecot")] + [("dovecot", "generic"), ("dovecot", "node"), ("node", "dovecot")] * LONG


@pytest.mark.real
@pytest.mark.parametrize("pair", [pytest.param(each, id="-".join(each)) for each in PAIRS], indirect=True)
async def test_it_converges_whatever_happens(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Invariants 2, 6 and 7 (docs/replication.md)."""
    monkeypatch.setattr("tests.backend.link.test_pairs.Performer", Shaky)
    ledger = Ledger()
    for seed in seeds(1):
        Shaky.dice, Shaky.odds = random.Random(seed), 0.03
        dice = random.Random(seed + 1)
        user = User(pair.primary, seed, ledger)
        user.start()
        cut = 0
        try:
            for number in range(60):
                if number % 10 == 9:
                    await asyncio.to_thread(accident, pair, dice)
                try:
                    await pair.sweep(audit=dice.random() < 0.1)
                except Failed:
                    cut += 1
        finally:
            await asyncio.to_thread(user.end)
        Shaky.odds = 0.0
        pair.replica.lab.relay.lose(b"no such word", 0)
        for _ in range(3):  # what is left over of broken lines
            try:
                await pair.sweep(audit=True)
            except Failed:
                cut += 1
        await pair.quiet()
        assert cut, "nothing happened"
        here = check_same(pair, uids=False)
        ledger.check(here, f"seed {seed}")
