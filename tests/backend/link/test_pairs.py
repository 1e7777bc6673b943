"""Whole plans between two real servers: first copy, every kind of change, promotion, return.

What came of it is seen by imaplib alone (mailbox.py).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from onedomain.backend.link.base import Letter, LinkServer
from onedomain.backend.link.registry import make_link_server
from onedomain.backend.mailserver import Tools
from onedomain.decision.link.bring_back import Brought, bring_back
from onedomain.decision.link.order import Order, Report
from onedomain.decision.link.promote import GAP, promote
from onedomain.decision.link.sweep import sweep
from onedomain.model.message import DELIVERY_ID_HEADER
from onedomain.model.replica import LinkState, Numbering, Promotion, Side
from onedomain.model.server import LoginWay, Server
from onedomain.net.tls import ClientContexts
from onedomain.replica.performer import Performer
from tests.backend.contract import Chance, Eyes, account, local
from tests.backend.link import mailbox
from tests.backend.link.mailbox import Mailbox, append, client, done, expunge, quote, store
from tests.backend.link.test_given import cyrus_server
from tests.backend.link.test_real import PREFIXED, dovecot_server
from tests.backend.node_lab import Node
from tests.backend.test_real import ACL

NAME = "hanako@example.com"
DATE = "21-Nov-2026 22:00:%02d +0900"


@dataclass
class Place:
    """A running server. `keeps`: UIDs and UIDVALIDITY are the source's."""

    lab: Any
    server: Server
    separator: str = "/"
    prefix: str = ""
    sets_uidvalidity: bool = True

    def path(self, *parts: str) -> str:
        return self.prefix + self.separator.join(parts)

    def look(self, name: str = NAME) -> Mailbox:
        return mailbox.look(self.lab, name, prefix=self.prefix)


@dataclass
class Kept:
    state: LinkState = field(default_factory=LinkState)
    aside: list[tuple[str, bytes]] = field(default_factory=list)
    alerts: list[str] = field(default_factory=list)
    confirmed: set[str] = field(default_factory=set)

    async def set_aside(self, side: Side, folder: str, letters: Sequence[Letter], why: str) -> None:
        self.aside += [(folder, each.raw) for each in letters]

    async def whole(self) -> None: ...
    async def confirm(self, deliveries: Collection[str]) -> None:
        self.confirmed.update(deliveries)

    async def save(self, state: LinkState) -> None:
        self.state = state

    async def alert(self, folder: str, text: str) -> None:
        self.alerts.append(f"{folder}: {text}")


class Pair:
    def __init__(self, primary: Place, replica: Place, name: str = NAME) -> None:
        self.primary, self.replica, self.name = primary, replica, name
        self.source, self.target = (make_link_server(place.server, tools()) for place in (primary, replica))
        self.kept = Kept()
        self.done: dict[str, int] = {}
        self.audit = False

    async def run(self, plan: Callable[..., Any], *, turned: bool = False) -> Any:
        """A plan over ends of its own, which it ends."""
        sides: list[LinkServer] = [self.source, self.target]
        if turned:
            sides.reverse()
        one, other = [await side.end(account(self.name)) for side in sides]
        performer = Performer(one, other, self.kept)
        broken = True
        try:
            result = await performer.run(plan(one.powers, other.powers))
            broken = False
        finally:
            await one.close(broken=broken)
            await other.close(broken=broken)
            self.done = dict(performer.done)
        return result

    async def sweep(self, *, turned: bool = False, audit: bool = False, commanded: bool = True) -> Report:
        """`commanded`: all that is deleted was deleted by somebody through our relays."""
        everything = frozenset(link.source_name for link in self.kept.state.folders)
        order = Order(0.0, everything if commanded else frozenset(), audit)
        report: Report = await self.run(lambda a, b: sweep(self.kept.state, a, b, order), turned=turned)
        return report

    async def quiet(self, *, turned: bool = False) -> None:
        """Whole, and then there is nothing left to do, also for who looks at everything."""
        for _ in range(6):
            report = await self.sweep(turned=turned)
            assert not report.stopped, report
            if report.whole:
                break
        assert report.whole, self.kept.alerts
        for audit in (False, True):
            report = await self.sweep(turned=turned, audit=audit)
            assert report.whole and not self.done, (audit, self.done, self.kept.alerts)


def tools() -> Tools:
    return Tools(ClientContexts(), Eyes(), Chance(), "edge.example")


@pytest.fixture
def places(
    start_dovecot: Callable[..., Any], start_cyrus: Callable[..., Any], lab_folder: Path
) -> Iterator[Callable[[str], Place]]:
    nodes: list[Node] = []

    def start_node() -> Node:
        folder = lab_folder / f"node{len(nodes)}"
        folder.mkdir()
        nodes.append(Node(folder))
        nodes[-1].start()
        return nodes[-1]

    yield lambda kind: make_place(kind, start_dovecot, start_cyrus, start_node)
    for node in nodes:
        node.kill()


_FOLDERS = "".join(f"  mailbox {name} {{\n    auto = no\n  }}\n" for name in ("Drafts", "Sent", "Trash", "Junk"))
NOT_BY_ITSELF = f"namespace inbox {{\n{_FOLDERS}}}\n"
"""Folders that a Dovecot makes by itself get the UIDVALIDITY of the second, as do those that a test makes then; a
promotion can't keep both apart (decision/link/validities).
"""


def make_place(
    kind: str, start_dovecot: Callable[..., Any], start_cyrus: Callable[..., Any], start_node: Callable[..., Any]
) -> Place:
    if kind == "node":
        lab: Any = start_node()
        return Place(lab, Server(
            kind, kind, local(lab.imap_port), local(lab.lmtp_port), login_way=LoginWay.AUTHZID,
            master_user=lab.proxy, master_password=lab.proxy_password,
            replication_user=lab.replication_user, replication_password=lab.replication_password,
        ))  # fmt: skip
    if kind == "cyrus":
        lab = start_cyrus(users={NAME: "secret"})
        return Place(lab, cyrus_server(lab))
    if kind == "plain cyrus":  # nobody's administrator: UIDs are burned
        lab = start_cyrus(users={NAME: "secret"})
        return Place(lab, cyrus_server(lab, administrator=False), sets_uidvalidity=False)
    if kind == "dots":
        lab = start_cyrus(users={NAME: "secret"}, dots=True)
        return Place(lab, cyrus_server(lab), ".", "INBOX.")
    if kind == "dovecot":
        lab = start_dovecot(plugins=ACL, extra=NOT_BY_ITSELF)
        return Place(lab, dovecot_server(lab))
    if kind == "maildir":
        lab = start_dovecot(plugins=ACL, format="maildir", extra=NOT_BY_ITSELF)
        return Place(lab, dovecot_server(lab, doveadm=False), sets_uidvalidity=False)
    if kind == "generic":
        lab = start_dovecot(plugins=ACL, format="maildir", extra=PREFIXED + NOT_BY_ITSELF)
        return Place(lab, dovecot_server(lab, kind="imap", doveadm=False), ".", "INBOX.", sets_uidvalidity=False)
    if kind == "uidplus":
        only = "protocol imap {\n  imap_capability = IMAP4rev1 NAMESPACE UIDPLUS\n}\n"
        lab = start_dovecot(plugins=ACL, format="maildir", extra=PREFIXED + only + NOT_BY_ITSELF)
        return Place(lab, dovecot_server(lab, kind="imap", doveadm=False), ".", "INBOX.", sets_uidvalidity=False)
    assert kind == "plain"
    lab = start_dovecot(plugins=ACL, extra="protocol imap {\n  imap_capability = IMAP4rev1\n}\n" + NOT_BY_ITSELF)
    return Place(lab, dovecot_server(lab, kind="imap", doveadm=False), sets_uidvalidity=False)


@pytest.fixture
async def pair(request: pytest.FixtureRequest, places: Callable[[str], Place]) -> AsyncIterator[Pair]:
    one, other = request.param
    pair = Pair(places(one), places(other))
    for side in (pair.source, pair.target):
        await side.provide(account(NAME))
    yield pair
    await pair.source.close()
    await pair.target.close()


def mail(number: int, size: int = 0, delivery: str = "") -> bytes:
    own = f"{DELIVERY_ID_HEADER}: {delivery}\r\n" if delivery else ""
    header = f"Date: Sat, 21 Nov 2026 22:00:00 +0900\r\nMessage-ID: <{number}@o.example>\r\n{own}"
    return f"{header}Subject: {number}\r\n\r\n".encode() + b"line %06d of a message\r\n" % number * (1 + size // 24)


def fill(place: Place) -> None:
    """A mailbox as people have them."""
    with client(place.lab, NAME) as session:
        for number in range(30):
            append(session, "INBOX", mail(number), "\\Seen" if number % 2 else "", DATE % number)
        expunge(session, "INBOX", "3:5,11,30")
        append(session, "INBOX", mail(100, 400_000), "\\Flagged Work $Label1", DATE % 40)
        header = "Date: Sat, 21 Nov 2026 22:00:00 +0900\r\nMessage-ID: <j@o.example>\r\n"
        append(session, "INBOX", header.encode() + "Subject: 請求\r\n\r\n本文\r\n".encode("cp932"), "", DATE % 41)
        for parts in (("Lists",), ("Lists", "Deep"), ("&ZeVnLIqe-",), ("Empty",), ("Old",)):
            done(session.create(quote(place.path(*parts))))
        for number in range(40, 52):
            append(session, place.path("Lists", "Deep"), mail(number), "\\Answered", DATE % (number - 20))
        for number in range(52, 55):
            append(session, place.path("&ZeVnLIqe-"), mail(number), "", DATE % 1)
            append(session, place.path("Old"), mail(number + 10), "", DATE % 1)
        append(session, place.path("Old"), mail(62), "", DATE % 1)  # a second copy, on purpose
        done(session.subscribe(quote(place.path("Lists", "Deep"))))


def change(place: Place) -> None:
    """Every kind of change."""
    with client(place.lab, NAME) as session:
        store(session, "INBOX", "1:2", "FLAGS", "\\Flagged NonJunk")
        store(session, "INBOX", "6", "FLAGS", "")
        expunge(session, "INBOX", "7:8")
        append(session, "INBOX", mail(200, delivery="0delivery200"), "", DATE % 2)
        done(session.select("INBOX"))
        done(session.uid("COPY", "9", quote(place.path("Empty"))))
        done(session.uid("COPY", "10", quote(place.path("Lists"))))
        expunge(session, "INBOX", "10")  # a MOVE, as those without it do
        done(session.create(quote(place.path("New"))))
        append(session, place.path("New"), mail(201), "\\Draft", DATE % 3)
        done(session.rename(quote(place.path("Lists")), quote(place.path("Renamed"))))
        done(session.delete(quote(place.path("Old"))))
        done(session.unsubscribe(quote(place.path("Lists", "Deep"))))
        done(session.subscribe(quote(place.path("Renamed", "Deep"))))
        done(session.subscribe(quote(place.path("New"))))


def check_same(pair: Pair, *, uids: bool, turned: bool = False) -> Mailbox:
    """Every message on both sides once, as it was; returns how it is."""
    here, there = pair.primary.look(pair.name), pair.replica.look(pair.name)
    if turned:
        here, there = there, here
    extra = {path for path, box in there.boxes.items() if not box.messages} - here.boxes.keys()
    assert there.boxes.keys() - extra == here.boxes.keys(), extra  # folders that its own configuration makes
    for path, box in here.boxes.items():
        other = there.boxes[path]
        assert other.contents == box.contents, path
        if uids:
            assert other.messages == box.messages, path
            assert other.uidnext >= box.uidnext, path
        if pair.replica.sets_uidvalidity and not turned:
            assert other.uidvalidity == box.uidvalidity, path
    existing = here.boxes.keys() & there.boxes.keys()
    assert here.subscribed & existing == there.subscribed & existing
    assert there.subscribed <= there.boxes.keys()
    return here


PAIRS = [
    ("dovecot", "dovecot"), ("dovecot", "generic"), ("generic", "dovecot"), ("dovecot", "node"), ("node", "dovecot"),
    ("dovecot", "cyrus"), ("cyrus", "dovecot"), ("node", "node"),
]  # fmt: skip
MORE = [
    ("maildir", "maildir"), ("plain", "dovecot"), ("dovecot", "plain"), ("node", "generic"), ("generic", "node"),
    ("cyrus", "cyrus"), ("node", "cyrus"), ("cyrus", "node"), ("dots", "dovecot"), ("node", "dots"),
]  # fmt: skip
LONG = os.environ.get("ONEDOMAIN_LONG") == "1"
params = [pytest.param(each, id="-".join(each)) for each in (PAIRS + MORE if LONG else PAIRS)]


@pytest.mark.real
@pytest.mark.parametrize("pair", params, indirect=True)
async def test_copied_changed_promoted_and_brought_back(pair: Pair) -> None:
    fill(pair.primary)
    await pair.quiet()
    check_same(pair, uids=True)
    change(pair.primary)
    await pair.quiet()
    before = check_same(pair, uids=True)
    assert "0delivery200" in pair.kept.confirmed
    assert not pair.kept.alerts

    # The old primary goes on for a moment, unseen, and dies.
    with client(pair.primary.lab, NAME) as session:
        append(session, "INBOX", mail(300), "", DATE % 4)
        append(session, pair.primary.path("New"), mail(301, delivery="0late301"), "", DATE % 5)
        expunge(session, "INBOX", "12")
    state = pair.kept.state
    promotion: Promotion = await pair.run(lambda _, powers: promote(state, powers, dict.fromkeys(names(state), 10)))
    assert not promotion.refused and promotion.epoch == state.epoch + 1
    await check_promotion(pair, promotion, before)

    # Its clients work on the new primary.
    with client(pair.replica.lab, NAME) as session:
        append(session, "INBOX", mail(400), "\\Seen", DATE % 6)
        store(session, "INBOX", "1", "FLAGS", "\\Answered")
        expunge(session, "INBOX", "2")
        done(session.create(quote(pair.replica.path("Since"))))
        append(session, pair.replica.path("Since"), mail(401), "", DATE % 7)
    brought: Brought = await pair.run(lambda _a, _b: bring_back(state, promotion, ()))
    assert brought.added == 2 and brought.aside == 0
    pair.kept.state = brought.state
    await pair.quiet(turned=True)
    after = check_same(pair, uids=False, turned=True)
    bodies = after.bodies()
    for number, delivery in ((300, ""), (301, "0late301"), (400, ""), (401, "")):
        assert bodies[digest(mail(number, delivery=delivery))] == 1, number
    assert bodies[digest(mail(1))] == 0
    assert bodies[digest(mail(11))] == 1  # expunged too late: it stays


async def check_promotion(pair: Pair, promotion: Promotion, before: Mailbox) -> None:
    end = await pair.target.end(account(NAME))
    listing = await end.list_folders()
    burning = end.powers.numbering is Numbering.BURNED
    await end.close()
    for shown in promotion.folders:
        assert not shown.renumbered, shown
        folder = listing.find(shown.target_name)
        assert folder is not None
        name = shown.target_name
        path = ("INBOX",) if name == "INBOX" else tuple(name.removeprefix(pair.replica.prefix).split(listing.separator))
        assert folder.mark.uidnext >= before.boxes[path].uidnext + (10 if burning else GAP)
        assert shown.uidvalidity == before.boxes[path].uidvalidity


def names(state: LinkState) -> list[str]:
    return [link.source_name for link in state.folders]


def digest(raw: bytes) -> str:
    from hashlib import sha256

    return sha256(mailbox.same(raw)).hexdigest()


def mail_folder(place: Place) -> Path:
    """Where a Dovecot of the lab keeps this account."""
    return Path(place.lab.folder) / "mail" / "example.com" / "hanako"


def put_back(place: Place, kept: Path | None) -> None:
    """Its mail as it was, or none; nobody notices, as the server is down."""
    place.lab.kill()
    shutil.rmtree(mail_folder(place))
    if kept is not None:
        subprocess.run(["cp", "-a", kept, mail_folder(place)], check=True)
    place.lab.start()


@pytest.mark.real
@pytest.mark.parametrize("pair", [pytest.param(("dovecot", "dovecot"), id="dovecot")], indirect=True)
@pytest.mark.parametrize("accident", ["wiped", "rolled back", "expired", "primary rolled back"])
async def test_what_befalls_one_side_deletes_nothing_on_the_other(pair: Pair, accident: str, tmp_path: Path) -> None:
    """Invariant 11."""
    fill(pair.primary)
    await pair.quiet()
    sufferer = pair.primary if accident.startswith("primary") else pair.replica
    kept = tmp_path / "kept"
    subprocess.run(["cp", "-a", mail_folder(sufferer), kept], check=True)
    with client(pair.primary.lab, NAME) as session:
        for number in range(500, 510):
            append(session, "INBOX", mail(number), "", DATE % 9)
        expunge(session, "INBOX", "1")
    await pair.quiet()
    before = pair.primary.look()
    if accident == "expired":
        pair.replica.lab.doveadm("expunge", "-u", NAME, "mailbox", "INBOX", "uid", "6:20")
    else:
        put_back(sufferer, None if accident == "wiped" else kept)
    report = await pair.sweep()
    assert bool(report.stopped) == (accident != "expired"), report
    for _ in range(4):
        report = await pair.sweep()
        if report.whole:
            break
    assert report.whole
    await pair.sweep(audit=True)
    here, there = pair.primary.look(), pair.replica.look()
    if accident == "primary rolled back":
        assert here.bodies()[digest(mail(500))] == 0
        assert not before.bodies() - there.bodies()  # the ten are on the replica only, and stay
        assert there.bodies()[digest(mail(0))] == 1 and pair.kept.alerts
        return
    assert here.boxes["INBOX",].messages == before.boxes["INBOX",].messages and here.bodies() == before.bodies()
    assert not here.bodies() - there.bodies()
    # What the primary has expunged since comes back with the old state, and stays.
    assert set(there.bodies() - here.bodies()) <= {digest(mail(0))}
    assert not pair.done
