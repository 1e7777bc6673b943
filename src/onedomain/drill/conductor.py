"""Runs a drill: mail flows in, people work, players are taken away and given back, and at the end everything is read.

Knows the order of things. Does not know how a player is taken away (theatre), nor what is right (judge).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from onedomain.demo.readers import Notices, Readers
from onedomain.drill.coverage import Coverage
from onedomain.drill.filters import Filtered, as_delivered, filtered, perhaps_consumed
from onedomain.drill.judge import Death, Judgement, judged
from onedomain.drill.people import People
from onedomain.drill.plan import Act, moments
from onedomain.drill.theatre import Theatre
from onedomain.drill.watch import Watch, dead_ends, outage
from onedomain.ledger.ledger import read
from onedomain.ledger.verify import Found, read_mailbox

DRAIN_SECONDS = 120.0
SETTLE_LOOKS = 3
"""How often the queue has to be seen empty in a row: a failover may still put something into it."""
READERS_PAUSE = 0.2
UNSURE = 1.0, 30.0
"""Seconds before a server is taken, and after it is back, in which what it was in the middle of may be done twice."""


@dataclass(frozen=True, slots=True)
class Load:
    """Messages per second from outside, people at work, people who only read, and for how many seconds."""

    rate: float = 50.0
    people: int = 6
    readers: int = 2
    duration: float = 600.0
    max_size: int = 50_000
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Answered:
    """An act, on how many accounts, and after how many seconds log-ins were answered again; None: not before the next.

    `took`: seconds until all of it was dead or cut off, before those; a server is many processes.
    """

    act: Act
    accounts: int
    seconds: float | None
    took: float = 0.0

    @property
    def in_time(self) -> bool:
        return self.seconds is not None and self.seconds <= self.act.patience


@dataclass(frozen=True, slots=True)
class Ending:
    """`left`: messages still in queues; None: an edge did not answer. `turned_away`: people's failed log-ins.

    `dead_ends`: edges at which the last log-ins of all failed, with what was said.
    """

    judgement: Judgement
    filtered: Filtered
    answered: tuple[Answered, ...]
    left: int | None
    changes: int
    turned_away: int
    tries: int
    notices: Notices
    dead_ends: tuple[str, ...]

    @property
    def clean(self) -> bool:
        return self.judgement.ok and self.left == 0 and not self.notices.contradictions

    @property
    def in_time(self) -> bool:
        return all(one.in_time for one in self.answered) and not self.dead_ends


@dataclass
class Conductor:
    theatre: Theatre
    acts: Sequence[Act]
    load: Load
    folder: Path
    say: Callable[[str, Act | None], None] = lambda what, act: None
    _began: float = 0.0
    _deaths: list[Death] = field(default_factory=list)
    _last_death: float = 0.0  # as it was planned
    _done: list[tuple[Act, float, frozenset[str]]] = field(default_factory=list)  # act, monotonic, accounts
    _took: dict[Act, float] = field(default_factory=dict)  # as it was done
    _outages: dict[Act, tuple[frozenset[str], float, float]] = field(default_factory=dict)  # of whom, from, until
    _coverage: Coverage = field(init=False)
    _away: dict[Act, Act] = field(default_factory=dict)  # as it was planned -> with its name

    def play(self) -> Ending:
        """Whatever happens, senders and people have left when it returns."""
        theatre = self.theatre
        ledger = self.folder / "ledger.jsonl"
        homes = theatre.homes()
        at_work = _spread(homes, self.load.people)
        observed = [next(account for account, home in sorted(homes.items()) if home == name)
                    for name in sorted(set(homes.values()))]
        people = People(theatre.doors, at_work, theatre.password, ledger)
        readers = Readers([(door.host, door.imap, door.pop3) for door in theatre.doors], theatre.people,
                          theatre.password, self.load.readers, READERS_PAUSE)
        watch = Watch(theatre.doors, observed, theatre.password)
        self._coverage = Coverage(theatre.ages)
        sender = self._sender(ledger)
        self._began = time.monotonic()
        try:
            people.start()
            readers.start()
            watch.start()
            self._coverage.start()
            self.say("flowing", None)
            self._perform()
            sender.wait(self.load.duration + 120)
            people.stop()
            readers.stop()
            self.say("stopped", None)
            left = self._drain()
        finally:
            people.stop()
            readers.stop()
            watch.stop()
            self._coverage.stop()
            sender.kill()
            sender.wait()
        self.say("counting", None)
        found, unread = self._read(ledger)
        self._keep("log-ins.jsonl", (asdict(one) for one in watch.tries if not one.worked))
        self._keep("found.jsonl", (asdict(one) for one in found))
        self._homes()
        acts = read(ledger)
        filters = theatre.filters
        found = as_delivered(found, acts, filters)
        eaten = filtered(acts, found, theatre.world(), filters, self._unsure())
        judgement = judged(perhaps_consumed(acts, filters), found, self._deaths, unread=unread, more=eaten.findings)
        return Ending(judgement, eaten, tuple(self._answered(watch)), left, people.changes, people.turned_away,
                      len(watch.tries), readers.notices, dead_ends(watch.tries))

    def _perform(self) -> None:
        """On a busy machine it takes seconds to ask who lives where, or until something is up again. All that follows
        is later by as much: what is away for less than it was to be is not given up, and nobody follows it.
        """
        late = 0.0
        for when, away, act in moments(self.acts):
            time.sleep(max(0.0, self._began + when + late - time.monotonic()))
            late = max(late, self._act(act, away) - self._began - when)

    def _act(self, act: Act, away: bool) -> float:
        """When it was so, by the monotonic clock: taken away from then on, or up again."""
        theatre = self.theatre
        if not away:
            done = self._away.pop(act)
            (theatre.edges if act.edge else theatre.servers)[done.name].give(act.way)
            if not act.edge:
                self._outages[act] = (*self._outages[act][:2], time.time())
            self.say("back", done)
            return time.monotonic()
        homes = self._homes(act.at)
        done = replace(act, name=act.name or Counter(homes.values()).most_common(1)[0][0])
        accounts = frozenset(account for account, home in homes.items() if home == done.name and not act.edge)
        # With an edge gone at this moment, nobody may be there to ask.
        covered = self._coverage.known() if act.edge or act.together else self._coverage.look()
        self._away[act] = done
        self.say(act.way.value, done)
        self._done.append((done, time.monotonic(), accounts))
        if not act.edge:
            now = time.time()
            self._deaths.append(Death(done.name, now, accounts, covered))
            self._outages[act] = accounts, now, float("inf")
            self._last_death = act.at
        begun = time.monotonic()
        (theatre.edges if act.edge else theatre.servers)[done.name].take(act.way)
        self._took[done] = time.monotonic() - begun
        if not act.edge:
            self._deaths[-1] = replace(self._deaths[-1], took=self._took[done])
        return begun + self._took[done]

    def _homes(self, at: float = float("inf")) -> dict[str, str]:
        """As they are now. Whose people stayed has lost nothing of theirs, however long it was away; of a server taken
        together with what is taken now (`at`) nobody knows yet.
        """
        homes = self.theatre.homes()
        if self._deaths and self._last_death < at:
            last = self._deaths[-1]
            left = frozenset(account for account in last.accounts if homes.get(account) != last.server)
            self._deaths[-1] = replace(last, accounts=left, stayed=last.stayed | (last.accounts - left))
        return homes

    def _unsure(self) -> dict[str, list[tuple[float, float]]]:
        """By account: from when to when something may have been done twice, as nobody could know whether it was."""
        spans: dict[str, list[tuple[float, float]]] = {}
        for accounts, begun, over in self._outages.values():
            for account in accounts:
                spans.setdefault(account, []).append((begun - UNSURE[0], over + UNSURE[1]))
        return spans

    def _answered(self, watch: Watch) -> list[Answered]:
        """For each act on a server, the people who lived there; for an edge's, everybody at the other edges."""
        everybody = sorted({one.account for one in watch.tries})
        answered = []
        for act, at, accounts in self._done:
            ends = [begun for _, begun, _ in self._done if begun > at + 1] + [time.monotonic()]
            absent = next((other.name for other, begun, _ in self._done
                           if other.edge and begun - 1 < at < begun + other.until - other.at + 5), "")
            whom = [account for account in everybody if act.edge or account in accounts]
            took = self._took[act]
            seconds = outage(watch.tries, whom, at + took, min(ends), absent)
            answered.append(Answered(act, len(everybody if act.edge else accounts), seconds, took))
        return answered

    def _sender(self, ledger: Path) -> subprocess.Popen[bytes]:
        load = self.load
        words = [word for person in self.theatre.people for word in ("--to", person)]
        doors = [f"{door.host}:{door.smtp}" for door in self.theatre.doors]
        with (self.folder / "sender.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "onedomain.ledger.load", *doors, "--ledger", str(ledger), "--persistent",
                 "--json", "--rate", str(load.rate), "--duration", str(load.duration), "--timeout", "30",
                 "--sessions", "8",
                 "--max-size", str(load.max_size), "--seed", str(load.seed), *words],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def _keep(self, name: str, rows: Iterable[dict[str, Any]]) -> None:
        """For whoever looks for the cause."""
        with (self.folder / name).open("w") as file:
            file.writelines(json.dumps(row, default=sorted) + "\n" for row in rows)

    def _drain(self) -> int | None:
        until = time.monotonic() + DRAIN_SECONDS
        empty = 0
        while True:
            left = self.theatre.waiting()
            empty = empty + 1 if left == 0 else 0
            if empty >= SETTLE_LOOKS or time.monotonic() > until:
                return left
            time.sleep(0.3)

    def _read(self, ledger: Path) -> tuple[list[Found], dict[str, str]]:
        sent = {act.token: act.sent for act in read(ledger) if act.sent}
        found: list[Found] = []
        unread: dict[str, str] = {}
        for mailbox in self.theatre.mailboxes():
            try:
                found += read_mailbox(mailbox, sent)
            except Exception as error:  # noqa: BLE001  whatever it is, this mailbox is not known to be right
                unread[mailbox.account] = f"{mailbox.server}: {error!r}"
        return found, unread


def _spread(homes: dict[str, str], count: int) -> list[str]:
    """`count` accounts, of every server in turn."""
    by_home: dict[str, list[str]] = {}
    for account, home in sorted(homes.items()):
        by_home.setdefault(home, []).append(account)
    found: list[str] = []
    while len(found) < count and any(by_home.values()):
        for accounts in by_home.values():
            if accounts and len(found) < count:
                found.append(accounts.pop())
    return found
