"""The invariants of docs/replication.md on real servers, by their numbers, in pairs of Dovecot, Cyrus and nodes.

Drivers and plans are ours, as a linker runs them; what came of it is seen by imaplib alone. 8 and 12 are about edges:
test_edges.py. An account for each test, on servers that all of them share.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from onedomain.decision.link.actions import Action, Burn, Expunge, ExpungeDeleted
from onedomain.decision.link.bring_back import Brought, bring_back
from onedomain.decision.link.identity import FILLER_HEADER
from onedomain.decision.link.promote import promote
from onedomain.model.failure import Failed, again
from onedomain.model.message import DELIVERY_ID_HEADER
from onedomain.model.replica import LinkState, Promotion
from onedomain.replica.performer import Performer
from tests.backend.link.mailbox import Mailbox, append, append_many, client, done, expunge, quote, store
from tests.backend.link.test_pairs import DATE, Pair, Place, check_same, digest, mail
from tests.backend.link.test_pairs import names as folders

from .clients import Cache, Shown, modseqs

pytestmark = pytest.mark.real

LONG = os.environ.get("ONEDOMAIN_LONG") == "1"
PAIRS = [("dovecot", "cyrus"), ("node", "dovecot"), ("node", "node"),
         *[("dovecot", "dovecot"), ("cyrus", "dovecot")] * LONG]  # fmt: skip
BURNING = [("node", "generic"), *[("dovecot", "maildir"), ("cyrus", "plain"), ("dovecot", "plain cyrus")] * LONG]


def each(pairs: list[tuple[str, str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("pair", [pytest.param(one, id="-".join(one)) for one in pairs], indirect=True)


UTF7 = "&ZeVnLIqe-"


def begin(pair: Pair, place: Place | None = None) -> None:
    """A small mailbox with holes, folders below folders, and a name in modified UTF-7."""
    place = place or pair.primary
    with client(place.lab, pair.name) as session:
        for number in range(8):
            append(session, "INBOX", mail(number), "\\Seen" if number % 2 else "", DATE % number)
        expunge(session, "INBOX", "3,8")
        for parts in (("Lists",), ("Lists", "Deep"), (UTF7,)):
            done(session.create(quote(place.path(*parts))))
            done(session.subscribe(quote(place.path(*parts))))
        for number in range(10, 13):
            append(session, place.path("Lists", "Deep"), mail(number), "\\Answered", DATE % number)
            append(session, place.path(UTF7), mail(number + 10), "Work", DATE % number)


def tail(pair: Pair, place: Place, first: int, *, expunged: str = "2") -> None:
    """What a primary acknowledges and no link sees any more: messages, flags, an expunge."""
    with client(place.lab, pair.name) as session:
        append(session, "INBOX", mail(first, delivery=f"0tail{first}x"), "", DATE % 20)
        append(session, place.path(UTF7), mail(first + 1), "\\Flagged", DATE % 21)
        store(session, "INBOX", "1", "+FLAGS", "\\Flagged")
        if expunged:
            expunge(session, "INBOX", expunged)


def used(pair: Pair, place: Place, first: int) -> None:
    """People at their new primary."""
    with client(place.lab, pair.name) as session:
        append(session, "INBOX", mail(first), "", DATE % 30)
        append(session, place.path("Lists"), mail(first + 1), "", DATE % 31)
        store(session, "INBOX", "4", "+FLAGS", "\\Answered")


async def fail_over(pair: Pair, *, turned: bool = False, anew: tuple[str, ...] = ()) -> tuple[LinkState, Promotion]:
    """`anew`: folders whose UIDs could not be kept; clients are told so and begin anew."""
    state = pair.kept.state
    promotion: Promotion = await pair.run(
        lambda _, powers: promote(state, powers, dict.fromkeys(folders(state), 10)), turned=turned
    )
    assert not promotion.refused
    assert {shown.name for shown in promotion.folders if shown.renumbered} == set(anew)
    return state, promotion


async def come_back(pair: Pair, state: LinkState, promotion: Promotion, *, turned: bool = False) -> Brought:
    brought: Brought = await pair.run(lambda _a, _b: bring_back(state, promotion, ()), turned=turned)
    pair.kept.state = brought.state
    return brought


@each(PAIRS)
async def test_01_a_uid_never_names_two_messages(pair: Pair) -> None:
    """Over a failover and another one back, each with a tail that only the dead primary had shown."""
    shown = Shown()
    begin(pair)
    await pair.quiet()
    places = [pair.primary, pair.replica]
    for turned in (False, True):
        one, other = places[turned], places[not turned]
        tail(pair, one, 100 + 10 * turned)
        for place in (one, other):
            shown.look(place.look(pair.name), place.lab.kind, primary=place is one)
        # What was expunged too late comes to the old primary again, under another UID.
        state, promotion = await fail_over(pair, turned=turned, anew=("INBOX",) if turned else ())
        if turned:
            shown.forget(("INBOX",))
        used(pair, other, 200 + 10 * turned)
        shown.look(other.look(pair.name), "the new primary")
        await come_back(pair, state, promotion, turned=turned)
        await pair.quiet(turned=not turned)
        for place in places:
            shown.look(place.look(pair.name), "after the return", primary=place is other)
    assert len({key[2] for key in shown.named if key[0] == ("INBOX",)}) > 8


@each(PAIRS)
async def test_02_every_acknowledged_message_is_there_once_on_each_side(pair: Pair) -> None:
    """Appended, delivered by LMTP, copied on purpose, moved; and again after a failover with a tail."""
    begin(pair)
    await pair.sweep()
    with pair.primary.lab.lmtp() as lmtp:
        for number in range(40, 43):
            raw = f"{DELIVERY_ID_HEADER}: 0d{number}x\r\nSubject: {number}\r\n\r\nby LMTP\r\n"
            lmtp.sendmail("a@outside.example", [pair.name], raw)
    with client(pair.primary.lab, pair.name) as session:
        done(session.select("INBOX"))
        done(session.uid("COPY", "1", quote(pair.primary.path("Lists"))))
        done(session.uid("COPY", "1", quote(pair.primary.path("Lists"))))
        done(session.uid("MOVE", "4", quote(pair.primary.path(UTF7))))
    await pair.quiet()
    assert pair.kept.confirmed >= {"0d40x", "0d41x", "0d42x"}
    once = check_same(pair, uids=True).bodies()
    assert once[digest(mail(0))] == 3 and once[digest(mail(3))] == 1
    assert sum(once.values()) == 6 + 6 + 3 + 2
    tail(pair, pair.primary, 100)
    state, promotion = await fail_over(pair)
    with client(pair.replica.lab, pair.name) as session:  # by an edge's safety net
        append(session, "INBOX", mail(100, delivery="0tail100x"))
    used(pair, pair.replica, 200)
    brought = await come_back(pair, state, promotion)
    assert (brought.added, brought.aside) == (1, 0)
    await pair.quiet(turned=True)
    after = check_same(pair, uids=False, turned=True).bodies()
    new = Counter(digest(raw) for raw in (mail(100, delivery="0tail100x"), mail(101), mail(200), mail(201)))
    assert after == once + new


@each(PAIRS)
async def test_03_uidnext_and_highestmodseq_never_decrease(pair: Pair) -> None:
    begin(pair)
    await pair.quiet()
    tail(pair, pair.primary, 100)
    shown = Shown()
    before = shown.look(pair.primary.look(pair.name), "the old primary")
    paths = [("INBOX",), ("Lists",), ("Lists", "Deep"), (UTF7,)]
    with client(pair.primary.lab, pair.name) as session:
        old = modseqs(session, [place_name(pair.primary, path) for path in paths])
    await fail_over(pair)
    after = shown.look(pair.replica.look(pair.name), "the new primary")
    for path in paths:
        assert after.boxes[path].uidvalidity == before.boxes[path].uidvalidity, "or clients begin anew"
        assert after.boxes[path].uidnext > before.boxes[path].uidnext
    with client(pair.replica.lab, pair.name) as session:
        new = modseqs(session, [place_name(pair.replica, path) for path in paths])
    assert all(now >= then for now, then in zip(new.values(), old.values(), strict=True)), (old, new)


def place_name(place: Place, path: tuple[str, ...]) -> str:
    return "INBOX" if path == ("INBOX",) else place.path(*path)


@each(PAIRS)
async def test_04_a_cache_is_right_and_no_confirmed_body_is_fetched_again(pair: Pair) -> None:
    begin(pair)
    await pair.quiet()
    confirmed = pair.replica.look(pair.name)
    tail(pair, pair.primary, 100, expunged="")
    caches = cached(pair)
    state, promotion = await fail_over(pair)
    used(pair, pair.replica, 200)
    check_caches(pair, pair.replica, caches, confirmed)
    await come_back(pair, state, promotion)
    await pair.quiet(turned=True)
    check_caches(pair, pair.replica, caches, confirmed)
    state, promotion = await fail_over(pair, turned=True)  # and back
    check_caches(pair, pair.primary, caches, pair.replica.look(pair.name))


def cached(pair: Pair) -> dict[tuple[str, ...], Cache]:
    caches = {}
    with client(pair.primary.lab, pair.name) as session:
        for path in (("INBOX",), ("Lists",), ("Lists", "Deep"), (UTF7,)):
            caches[path] = Cache(place_name(pair.primary, path))
            caches[path].fill(session)
    return caches


def check_caches(pair: Pair, place: Place, caches: dict[tuple[str, ...], Cache], confirmed: Mailbox) -> None:
    """Between nodes with QRESYNC; what is not told by then, edges hide, and clients compare lists."""
    now = place.look(pair.name)
    quick = pair.primary.lab.kind == pair.replica.lab.kind == "node"
    for path, cache in caches.items():
        with client(place.lab, pair.name) as session:
            cache.name = place_name(place, path)
            carried = confirmed.boxes[path].messages
            had = {carried[uid].digest for uid in cache.flags.keys() & carried.keys()}
            wanted = cache.resynchronise(session) if quick else cache.list_again(session)
            fresh = {uid: message.flags for uid, message in now.boxes[path].messages.items()}
            assert cache.flags == fresh, path
        twice = [uid for uid in wanted if now.boxes[path].messages[uid].digest in had]
        assert not twice, f"bodies of {path} fetched again: {twice}"


@each(PAIRS)
async def test_05_no_ghosts_of_a_lost_tail(pair: Pair) -> None:
    """UIDs that only the dead primary had shown are gone, and never name anything again."""
    begin(pair)
    await pair.quiet()
    carried = pair.replica.look(pair.name)
    tail(pair, pair.primary, 100)
    last = pair.primary.look(pair.name)
    ghosts = {
        path: box.messages.keys() - carried.boxes[path].messages.keys()
        for path, box in last.boxes.items() if path in carried.boxes
    }  # fmt: skip
    assert len(ghosts["INBOX",]) == len(ghosts[UTF7,]) == 1
    caches = cached(pair)
    await fail_over(pair)
    for _ in range(2):
        used(pair, pair.replica, 200)
        now = pair.replica.look(pair.name)
        check_caches(pair, pair.replica, caches, carried)
        for path, uids in ghosts.items():
            assert not uids & now.boxes[path].messages.keys(), path
            new = now.boxes[path].messages.keys() - carried.boxes[path].messages.keys()
            assert all(uid > max(uids, default=0) for uid in new), path


class Watched(Performer):
    """Looks at the target, by imaplib, before anything is burned; and puts mail of somebody else among the fillers."""

    pair: Pair
    burned: Counter[str]

    def fillers(self, folder: str, which: str) -> int:
        """How many of what is about to be burned are; anything else must be in our own store by now."""
        with client(self.pair.replica.lab, self.pair.name) as session:
            done(session.select(quote(folder), readonly=True))
            uids = ",".join(each.decode() for each in done(session.uid("SEARCH", which))[0].split())
            found = done(session.uid("FETCH", uids, "(BODY.PEEK[])")) if uids else []
        bodies = [part[1] for part in found if isinstance(part, tuple)]
        real = [body for body in bodies if FILLER_HEADER.encode() not in body]
        assert bodies and all(body in [raw for _, raw in self.pair.kept.aside] for body in real), real
        return len(bodies) - len(real)

    async def perform(self, action: Action) -> Any:
        place = self.pair.replica
        if isinstance(action, Expunge) and not action.keep_bodies:
            self.burned["fillers"] += self.fillers(action.folder, "UID " + ",".join(map(str, action.uids)))
        if isinstance(action, ExpungeDeleted):  # without UIDPLUS: whatever is marked
            self.burned["fillers"] += self.fillers(action.folder, "DELETED")
        answer = await super().perform(action)
        if isinstance(action, Burn) and not self.burned["strangers"]:
            self.burned["strangers"] += 1
            with client(place.lab, self.pair.name) as session:
                append(session, action.folder, mail(900), "\\Deleted", DATE % 50)
        return answer


@each(BURNING)
async def test_06_burning_touches_only_its_own_uids(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where UIDs can't be given. Somebody's message comes into the middle of it, marked \\Deleted."""
    monkeypatch.setattr("tests.backend.link.test_pairs.Performer", Watched)
    Watched.pair, Watched.burned = pair, Counter()
    begin(pair)
    for _ in range(4):
        if (await pair.sweep()).whole:
            break
    await pair.quiet()
    await fail_over(pair, anew=("INBOX",))  # as somebody's message took a UID
    assert Watched.burned["strangers"] == 1 and Watched.burned["fillers"] >= 10, Watched.burned
    here, there = pair.primary.look(pair.name).bodies(), pair.replica.look(pair.name).bodies()
    assert not here - there, "something of the mailbox was burned"
    spared = [raw for _, raw in pair.kept.aside if raw == mail(900)]
    assert there[digest(mail(900))] + len(spared) == 1, "somebody's message was burned"


class Cut(Performer):
    """Dropped at one step: before its action, or after it, with the answer lost."""

    at: int
    after: bool
    steps: int

    async def perform(self, action: Action) -> Any:
        Cut.steps += 1
        if Cut.steps == self.at and not self.after:
            raise Failed(again(451, "4.3.2", "cut", "before"))
        answer = await super().perform(action)
        if Cut.steps == self.at:
            raise Failed(again(451, "4.3.2", "cut", f"after {type(action).__name__}"))
        return answer


@each(PAIRS)
async def test_07_killed_at_any_step_it_converges(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """One pass after the other is cut off one step later, while the mailbox changes."""
    monkeypatch.setattr("tests.backend.link.test_pairs.Performer", Cut)
    begin(pair)
    Cut.at = Cut.steps = 0
    await pair.sweep()
    at, cut = 1, 0
    while True:
        with client(pair.primary.lab, pair.name) as session:
            append(session, "INBOX", mail(300 + at), "", DATE % 40)
            done(session.select("INBOX"))
            uid = done(session.uid("SEARCH", "SUBJECT", str(300 + at)))[0].split()[0].decode()
            if at % 3 == 0:
                done(session.uid("MOVE", uid, quote(pair.primary.path("Lists"))))
            elif at % 3 == 1:
                done(session.uid("STORE", uid, "FLAGS", "(\\Flagged)"))
        Cut.at, Cut.after, Cut.steps = at, bool(at % 2), 0
        try:
            await pair.sweep()
            break
        except Failed:
            cut += 1
        at += 1 if LONG else 1 + at % 2 * 2
    assert cut >= 5, cut
    Cut.at = 0
    await pair.quiet()
    found = check_same(pair, uids=False).bodies()
    assert set(found.values()) == {1} and len(found) == 12 + cut + 1, found


@each(PAIRS)
async def test_09_a_mass_deletion_stops_deletions(pair: Pair) -> None:
    """Sixty of eighty gone without a command of ours: nothing is deleted, copying goes on; then a person says yes."""
    begin(pair)
    with client(pair.primary.lab, pair.name) as session:
        append_many(session, pair.primary.path("Lists"), [mail(number) for number in range(400, 480)])
    await pair.quiet()
    with client(pair.primary.lab, pair.name) as session:
        expunge(session, pair.primary.path("Lists"), "1:60")
        append(session, pair.primary.path("Lists"), mail(500), "", DATE % 2)
        expunge(session, "INBOX", "1")
    for audit in (False, True):
        await pair.sweep(commanded=False, audit=audit)
        there = pair.replica.look(pair.name)
        assert len(there.boxes["Lists",].messages) == 81, "copied, and nothing deleted"
        assert digest(mail(0)) not in there.bodies(), "other folders go on"
    assert any("gone at once" in alert for alert in pair.kept.alerts)
    await pair.sweep(commanded=True, audit=True)  # as a linker does for what is braked
    assert len(pair.replica.look(pair.name).boxes["Lists",].messages) == 21
    assert sum(raw in {mail(number) for number in range(400, 480)} for _, raw in pair.kept.aside) == 60


@each(PAIRS)
async def test_10_list_lsub_and_special_use_are_the_same(pair: Pair) -> None:
    begin(pair)
    place = pair.primary
    with client(place.lab, pair.name) as session:
        done(session.unsubscribe(quote(place.path("Lists"))))
        done(session.rename(quote(place.path(UTF7)), quote(place.path("Lists", "a b &AOQ-"))))
        done(session.unsubscribe(quote(place.path(UTF7))))
        done(session.create(quote(place.path("Sent"))))
        done(session.create(quote(place.path("Gone"))))
        if place.lab.kind == "cyrus":
            done(session.xatom("SETMETADATA", "Sent", '(/private/specialuse "\\\\Sent")'))
    await pair.quiet()
    with client(place.lab, pair.name) as session:
        done(session.delete(quote(place.path("Gone"))))
    await pair.quiet()
    before = place.look(pair.name)
    uses = special_uses(place, pair.name)
    _, promotion = await fail_over(pair)
    after = pair.replica.look(pair.name)
    assert after.boxes.keys() == before.boxes.keys()
    assert after.subscribed == before.subscribed
    assert ("Lists", "a b &AOQ-") in after.boxes and (UTF7,) not in after.boxes and ("Gone",) not in after.boxes
    told = {folder.name: folder.special_use for folder in promotion.folders if folder.special_use}
    assert {name: use for name, use in uses.items() if name in told} == told
    new = special_uses(pair.replica, pair.name)
    assert {name: new.get(name) for name in uses} == uses


def special_uses(place: Place, user: str) -> dict[str, str]:
    found = {}
    with client(place.lab, user) as session:
        for line in done(session._simple_command("LIST", '""', '"*"', "RETURN", "(SPECIAL-USE)")) and (  # type: ignore[attr-defined]
            session.untagged_responses.get("LIST", [])
        ):
            flags = line[line.index(b"(") + 1 : line.index(b")")].decode().split()
            use = [flag for flag in flags if flag in ("\\Sent", "\\Drafts", "\\Trash", "\\Junk", "\\Archive")]
            if use:
                found[line.rsplit(b" ", 1)[1].strip(b'"').decode()] = use[0]
    return found


def disk(place: Place) -> list[Path]:
    """Where a server of the lab keeps its mail."""
    folder = Path(place.lab.folder)
    names = {"dovecot": ["mail"], "cyrus": ["config", "mail"], "node": ["data"]}
    return [folder / name for name in names[place.lab.kind]]


def copy_of(place: Place, to: Path) -> None:
    place.lab.kill()
    for folder in disk(place):
        subprocess.run(["cp", "-a", folder, to / folder.name], check=True)
    place.lab.start()


def put_back(place: Place, kept: Path) -> None:
    place.lab.kill()
    for folder in disk(place):
        shutil.rmtree(folder)
        subprocess.run(["cp", "-a", kept / folder.name, folder], check=True)
    place.lab.start()


def wipe(place: Place, name: str) -> None:
    with client(place.lab, name) as session:
        for path in ("Lists" + place.separator + "Deep", "Lists", UTF7):
            done(session.delete(quote(place.prefix + path)))
        expunge(session, "INBOX", "1:*")


@pytest.mark.parametrize("accident", ["wiped", "rolled back", "expired"])
@each(PAIRS)
async def test_11_what_befalls_a_replica_deletes_nothing_on_the_primary(
    pair: Pair, accident: str, tmp_path: Path
) -> None:
    begin(pair)
    await pair.quiet()
    if accident == "rolled back":
        copy_of(pair.replica, tmp_path)
    with client(pair.primary.lab, pair.name) as session:
        for number in range(600, 606):
            append(session, "INBOX", mail(number), "", DATE % 9)
    await pair.quiet()
    before = pair.primary.look(pair.name)
    match accident:
        case "wiped":
            wipe(pair.replica, pair.name)
        case "rolled back":
            put_back(pair.replica, tmp_path)
        case "expired":
            with client(pair.replica.lab, pair.name) as session:
                expunge(session, "INBOX", "1:6")
    stopped = ""
    for _ in range(6):
        report = await pair.sweep(audit=True, commanded=False)
        stopped = stopped or report.stopped
        if report.whole:
            break
    assert report.whole and bool(stopped) == (accident != "expired"), (stopped, pair.kept.alerts)
    here, there = pair.primary.look(pair.name), pair.replica.look(pair.name)
    assert {path: box.messages for path, box in here.boxes.items()} == {
        path: box.messages for path, box in before.boxes.items()}
    assert here.bodies() == there.bodies()
