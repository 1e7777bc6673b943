"""An account on two servers, its user, its mail, the edge's safety net, and everything that goes wrong; from a seed.

The ledger here is kept by those who act, not by the plan under test.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from onedomain.decision.link.actions import Action
from onedomain.decision.link.bring_back import Brought, bring_back
from onedomain.decision.link.folders import target_name
from onedomain.decision.link.identity import identity_of
from onedomain.decision.link.order import Order, Report
from onedomain.decision.link.promote import promote
from onedomain.decision.link.release import release
from onedomain.decision.link.sweep import sweep
from onedomain.decision.link.validities import canonical
from onedomain.model.message import DELIVERY_ID_HEADER
from onedomain.model.replica import LinkState, Promotion
from onedomain.model.validities import Validities

from .driver import Crash, Disk, Driver
from .server import No, Server

FLAGS = ("\\Seen", "\\Flagged", "\\Deleted", "\\Answered", "$Label1", "Work")
NAMES = ("Sent", "Drafts", "Lists", "Archive", "A.b", "A_b")


@dataclass
class Ledger:
    """`delivered`: acknowledged ids; `consumed`: discarded or redirected by a filter; `removed`: ids that the user has
    expunged, anywhere, ever; `copied`: ids of which the user made a second copy.
    """

    delivered: set[str] = field(default_factory=set)
    consumed: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)
    copied: set[str] = field(default_factory=set)
    answered: Counter[str] = field(default_factory=Counter)  # vacation replies and redirects, per id


class World:
    """`wild`: folders are renamed, deleted, made again and subscribed more often than people do it; `inbox`: INBOX is
    renamed, too.
    """

    def __init__(
        self, seed: int, source: str, target: str, *, accidents: float = 0.0, crowded: float = 0.0, pace: float = 0.25,
        wild: bool = False, inbox: bool = False,
    ) -> None:
        self.random = random.Random(seed)
        self.label = f"seed {seed}, {source} -> {target}"
        self.source = Server(source, 1000)
        self.target = Server(target, 5000)
        self.disk = Disk()
        self.ledger = Ledger()
        self.net: dict[str, int] = {}
        self.bodies: dict[str, bytes] = {}
        self.known: set[str] = set()
        self.accidents = accidents
        self.crowded = crowded
        self.pace = pace
        self.wild = wild
        self.inbox = inbox
        self.covered: dict[str, Counter[frozenset[str]]] = {}  # digest -> flags, when the last whole pass began
        self.changed: set[str] = set()  # digests of what was done anything to since then
        self._lately: set[str] = set()  # or since the pass that runs began
        self.now = 0.0
        self.number = 0
        self.commanded: set[str] = set()
        self.renamed: set[str] = set()
        self.busy = True
        self.promoted = False
        self.steps = 0
        self.crash_at: Callable[[int, Action], str] | None = None
        self.alerts: list[str] = []
        self.aside: list[bytes] = []
        self.shown = Validities()  # at the source
        self.allowed = 500  # UIDs that the source may have given since the last pass
        self.driver = self._driver()

    # the link

    def _driver(self) -> Driver:
        return Driver(
            self.source, self.target, self.disk, self._between, self._fault, self._room, self.alerts, self.aside)

    def _fault(self, action: Action) -> str:
        self.steps += 1
        if self.crash_at is not None:
            return self.crash_at(self.steps, action)
        if self.random.random() < self.accidents:
            return self.random.choice(("before", "within", "after", "after", "late"))
        return ""

    def _between(self) -> None:
        if self.busy and self.random.random() < self.pace:
            self.act(self.source)

    def _room(self) -> bool:
        return not self.crowded or self.random.random() >= self.crowded

    def sweep(self, *, audit: bool = False) -> Report | None:
        """One pass; None if it was cut off."""
        self.now += 1
        begun = set(self.net)
        before, self._lately = contents(self.source), set()
        guess = self.random.choice(("", "INBOX", *self.source.boxes))
        asked = set(self.renamed)
        order = Order(self.now, self.commanded, audit, frozenset(self.net), shown=self.shown, guess=guess,
                      renamed=self.renamed)
        self.driver.confirmed.clear()
        powers = self.source.traits.powers, self.target.traits.powers
        try:
            report = self.driver.run(sweep(self.disk.state, *powers, order))
        except Crash:
            report = None
        if report is not None and report.whole:
            self.covered, self.changed = before, self._lately
            self.renamed -= asked
        released = release(self.net, self.driver.confirmed, begun, whole=report is not None and report.whole)
        for each in self.net.keys() - released.waiting.keys():
            assert self._safe(each), f"{self.label}: {each} was released and is nowhere"
        self.net = dict(released.waiting)
        if self.random.random() < 0.5:
            self.driver.settle()
        return report

    def _safe(self, delivery: str) -> bool:
        if delivery in self.ledger.consumed or delivery in self.ledger.removed:
            return True
        return self.target.find(delivery) or any(identity_of(raw).delivery == delivery for raw in self.aside)

    def quiet(self, limit: int = 30) -> None:
        """No more mail, no more accidents; passes until nothing is left to do."""
        self.busy, self.accidents, self.crowded, self.crash_at = False, 0.0, 0.0, None
        self.driver.settle()
        calm = 0
        for _ in range(limit):
            report = self.sweep(audit=True)
            assert report is not None, f"{self.label}: a pass does not end: {self.driver.log[-3:]}"
            calm = calm + 1 if report.whole else 0
            if calm == 3:
                return
        raise AssertionError(f"{self.label}: never whole: {self.alerts[-3:]}")

    # the world

    def act(self, server: Server) -> None:
        """One thing that a user or the mail does."""
        if self.wild and self.random.random() < 0.25:
            self.rearrange(server)
            return
        dice = self.random.random()
        if dice < 0.35:
            self.deliver(server)
            return
        names = sorted(server.boxes)
        name = self.random.choice(names)
        box = server.boxes[name]
        uids = sorted(box.messages)
        if dice < 0.5:
            self.number += 1
            server_take(server, name, f"Message-ID: <own{self.number}>\r\n\r\ndraft {self.number}".encode(), self.now)
        elif dice < 0.65 and uids:
            flags = frozenset(self.random.sample(FLAGS, self.random.randrange(4)))
            uid = self.random.choice(uids)
            self.touch(server, name, (uid,))
            server.store(name, uid, flags)
        elif dice < 0.75 and uids:
            self.expunge(server, name, (self.random.choice(uids),))
        elif dice < 0.88 and uids:
            self.copy(server, name, self.random.choice(uids), self.random.choice(names), move=dice < 0.84)
        elif dice < 0.93:
            new = server.path(*self.random.sample(NAMES, self.random.choice((1, 1, 2))))
            if new not in server.boxes:
                server.create(new, special_use="\\Sent" if new.endswith("Sent") else "")
        elif dice < 0.96 and name != "INBOX":
            new = server.path(self.random.choice(NAMES))
            if not new.startswith(name):
                try:
                    server.rename(name, new)
                except No:
                    return  # taken
                if self.random.random() < 0.5:  # put away, and begun anew
                    server.create(name)
        elif dice < 0.975 and name != "INBOX":
            self.delete(server, name)
        elif name != "INBOX":
            server.subscribe(name, name not in server.subscriptions)

    def rearrange(self, server: Server) -> None:
        names = sorted(server.boxes)
        name, what = self.random.choice(names), self.random.random()
        new = server.path(*self.random.sample(NAMES, self.random.choice((1, 1, 2))))
        if what < 0.4 and not new.startswith(name) and (name != "INBOX" or self.inbox):
            try:
                server.rename(name, new)
            except No:
                return
            if name == "INBOX":
                self.commanded.add(name)
                self.renamed.add(name)
                return
            if self.random.random() < 0.5:
                server.subscribe(name, False)
                server.subscribe(new, True)
        elif what < 0.6 and name != "INBOX":
            self.delete(server, name)
            if self.random.random() < 0.5:
                server.create(name)
        elif what < 0.8:
            if new not in server.boxes:
                server.create(new)
        else:
            server.subscribe(name, name not in server.subscriptions)

    def delete(self, server: Server, name: str) -> None:
        messages = server.boxes[name].messages
        self.ledger.removed.update(identity_of(m.raw).delivery for m in messages.values())
        self.touch(server, name, tuple(messages))
        self.commanded.add(name)
        server.delete(name)

    def touch(self, server: Server, name: str, uids: tuple[int, ...]) -> None:
        digests = {identity_of(server.boxes[name].messages[uid].raw).digest for uid in uids}
        self.changed |= digests
        self._lately |= digests

    def expunge(self, server: Server, name: str, uids: tuple[int, ...]) -> None:
        messages = server.boxes[name].messages
        self.ledger.removed.update(identity_of(messages[uid].raw).delivery for uid in uids)
        self.touch(server, name, uids)
        self.commanded.add(name)
        server.expunge(name, uids)

    def copy(self, server: Server, name: str, uid: int, to: str, *, move: bool) -> None:
        message = server.boxes[name].messages[uid]
        self.touch(server, name, (uid,))
        try:
            server.append(to, message.raw, message.flags, message.date)
        except No:
            return
        if move:
            self.commanded.add(name)
            server.expunge(name, (uid,))
        else:
            self.ledger.copied.add(identity_of(message.raw).delivery)

    def deliver(self, server: Server, *, eight_bit: bool | None = None) -> None:
        self.number += 1
        each = f"d{self.number}"
        dice = self.random.random()
        odd = b"Subject: \x90\xbf\x8b\x81\r\n" if dice < 0.1 or eight_bit else b""
        nul = b"\0" if 0.1 < dice < 0.13 else b""
        raw = (f"Message-ID: <m{self.number}>\r\n{DELIVERY_ID_HEADER}: {each}\r\n".encode() + odd
               + f"\r\nbody {self.number}".encode() + nul)
        self.bodies[each] = raw
        self.net[each] = 0
        self.known.add(each)
        filed = self.random.random()
        names = sorted(server.boxes)
        try:
            if filed < 0.08:
                self.ledger.consumed.add(each)  # discard or redirect
                self.ledger.answered[each] += filed < 0.04
            else:
                server.deliver("INBOX" if filed < 0.7 else self.random.choice(names), raw, int(self.now))
                self.ledger.answered[each] += filed > 0.95
        except No:
            del self.net[each]
            self.known.discard(each)
            return
        self.ledger.delivered.add(each)

    # a server dies, the other follows

    def fail_over(self) -> Promotion:
        """The source is gone at this moment. The plan may be cut off, too, and is begun again. `shown` is the target's
        afterwards.
        """
        self.busy, self.promoted = False, True
        self.driver.settle()  # the link's connections were timed out before
        allowed = dict.fromkeys(self.source.boxes, self.allowed)
        for attempt in range(20):
            if attempt == 19:
                self.accidents = 0.0
            try:
                promotion = self.driver.run(
                    promote(self.disk.state, self.target.traits.powers, allowed, self.shown, now=self.source.newest,
                            sent=self.driver.sent.by_folder()))
                break
            except Crash:
                self.driver.late.clear()
        self.shown = canonical(promotion, self.shown, 0.0)
        if promotion.refused:
            return promotion
        for each in sorted(self.net):  # by APPEND: LMTP would answer and redirect again
            if not self.target.find(each):
                try:
                    self.target.append("INBOX", self.bodies[each], frozenset(), int(self.now))
                except No:
                    self.aside.append(self.bodies[each])
        return promotion

    def bring_back(self, state: LinkState, promotion: Promotion) -> Brought:
        """The old primary is there again; it becomes the replica."""
        for attempt in range(20):
            if attempt == 19:
                self.accidents = 0.0
            try:
                brought = self.driver.run(bring_back(state, promotion, self.known))
                break
            except Crash:
                self.driver.settle()
        self.source, self.target = self.target, self.source
        self.disk.state = brought.state
        self.net = {}
        came_late = self.driver.came_late
        self.driver = self._driver()
        self.driver.came_late = came_late
        return brought

    # checks

    def check_equal(self, *, dates: bool = True) -> None:
        """Every folder, message, flag and date of the source is on the target, once."""
        links = [link for link in self.disk.state.folders if not link.gone]
        assert {link.source_name for link in links} == set(self.source.boxes), self.label
        here, there = self.source.listing(), self.target.listing()
        names = {link.source_name: target_name(link.source_name, here, there, ()) for link in links}
        shared = Counter(names.values())
        for link in links:
            name = names[link.source_name]
            assert link.target_name == name or link.renamed or shared[name] > 1, f"{self.label}: {link.target_name}"
        for link in links:
            source, target = self.source.boxes[link.source_name], self.target.boxes[link.target_name]
            refused = set(link.refused)
            want = Counter(
                (identity_of(m.raw).digest, m.flags - link.untaken, dates and m.date)
                for uid, m in source.messages.items() if uid not in refused
            )
            got = Counter(
                (identity_of(m.raw).digest, m.flags - link.untaken, dates and m.date)
                for uid, m in target.messages.items() if uid not in link.kept
            )
            assert want == got, f"{self.label}: {link.source_name}: {want - got} missing, {got - want} too many"
            subscribed = [link.source_name in self.source.subscriptions, link.target_name in self.target.subscriptions]
            assert subscribed[0] == subscribed[1], self.label
            assert not any(identity_of(m.raw).filler for m in target.messages.values()), self.label
            if link.aligned and not link.refused:
                assert set(source.messages) == set(target.messages), f"{self.label}: {link.source_name}"

    def check_covered(self, server: Server) -> None:
        """What a whole pass had carried, and nobody has touched since, is as it was then."""
        aside = {identity_of(raw).digest for raw in self.aside}
        keywords = self.source.traits.keywords and self.target.traits.keywords
        untaken = frozenset() if keywords else frozenset(FLAGS[-2:])
        now = contents(server)
        for digest, flags in self.covered.items():
            if digest in self.changed or digest in aside or digest in self.driver.came_late:
                continue
            want, got = (Counter(f - untaken for f in each.elements()) for each in (flags, now.get(digest, Counter())))
            assert want == got, f"{self.label}: {digest[:8]} had {want}, has {got}"

    def check_ledger(self, server: Server) -> None:
        """Every acknowledged delivery is there exactly once, unless its user or a filter did otherwise."""
        found = Counter(identity_of(m.raw).delivery for _, _, m in server.everything())
        aside = {identity_of(raw).delivery for raw in self.aside}
        for each in self.ledger.delivered:
            if each not in self.ledger.copied:
                # Carried out after a whole pass, when the message had been moved and carried again, with no pass since:
                # a twin that nobody can tell from a copy made by its user.
                twins = each in self.driver.came_late and self.promoted
                assert found[each] <= 1 + twins, f"{self.label}: {each} is there {found[each]} times"
            excused = self.ledger.removed | self.ledger.consumed | aside
            assert found[each] or each in excused, f"{self.label}: {each} is lost"
        assert all(count <= 1 for count in self.ledger.answered.values())


def contents(server: Server) -> dict[str, Counter[frozenset[str]]]:
    found: dict[str, Counter[frozenset[str]]] = defaultdict(Counter)
    for _, _, message in server.everything():
        found[identity_of(message.raw).digest][message.flags] += 1
    return found


def server_take(server: Server, name: str, raw: bytes, now: float) -> None:
    try:
        server.append(name, raw, frozenset(), int(now))
    except No:
        pass  # the client is told NO
