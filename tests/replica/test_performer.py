"""Actions against the questions that they become: groups, holes, refusals, bodies that are kept, failures."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from dataclasses import replace

import pytest

from onedomain.backend.link.base import Letter, May, More, always
from onedomain.backend.trouble import Trouble
from onedomain.decision.link.actions import (
    Action,
    Append,
    Copied,
    Copy,
    CreateFolder,
    DeleteFolder,
    Expunge,
    Gone,
    ListFolders,
    NotNow,
    Plan,
    Raise,
    RaiseUidNext,
    Refused,
    RenameFolder,
    SetAside,
    SetFlags,
    SetUse,
    Subscribe,
)
from onedomain.decision.link.identity import identity_of
from onedomain.decision.link.order import Order
from onedomain.decision.link.sweep import sweep
from onedomain.model.failure import Failed, again
from onedomain.model.health import Seen
from onedomain.model.replica import LinkState, Mark, Side
from onedomain.replica.load import Load
from onedomain.replica.performer import Groups, Performer
from onedomain.replica.sent import Sent

from ..simulation.ends import ServerEnd, in_turn, now
from ..simulation.server import Message, Server

NONE: frozenset[str] = frozenset()
WIDE = Groups()


class Kept:
    """A performer.Keeping that remembers. `full`: nothing can be set aside."""

    def __init__(self) -> None:
        self.bodies: list[tuple[Side, str, int, str]] = []
        self.states: list[LinkState] = []
        self.full = False

    async def set_aside(self, side: Side, folder: str, letters: Sequence[Letter], why: str) -> None:
        if self.full:
            raise Failed(again(452, "4.3.1", "no room"))
        self.bodies += [(side, folder, letter.uid, why) for letter in letters]

    async def confirm(self, deliveries: Collection[str]) -> None: ...
    async def whole(self) -> None: ...
    async def save(self, state: LinkState) -> None:
        self.states.append(state)

    async def alert(self, folder: str, text: str) -> None: ...


class Counted(ServerEnd):
    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.groups: list[int] = []
        self.short = 0
        self.streams = False

    async def append(
        self, folder: str, letters: Sequence[Letter], more: More | None = None, may: May = always
    ) -> tuple[Copied | Refused, ...]:
        answers = await super().append(folder, letters, more, may)
        return answers[: len(answers) - self.short]

    async def _put(self, question: str, folder: str, letters: Sequence[Letter]) -> tuple[Copied | Refused, ...]:
        self.groups.append(len(letters))
        return await super()._put(question, folder, letters)


def bench(
    kind: str, messages: Sequence[bytes], groups: Groups = WIDE, *, streams: bool = False
) -> tuple[Performer, Counted, Counted, Kept]:
    """`streams`: the target asks for what follows while it appends."""
    source, target, kept = Counted(Server("node", 1)), Counted(Server(kind, 1)), Kept()
    target.streams = streams
    for date, raw in enumerate(messages):
        source.server.append("INBOX", raw, NONE, date)
    return Performer(source, target, kept, groups, together=in_turn), source, target, kept


def append(*uids: int, uidvalidity: int = 0, flags: frozenset[str] = NONE) -> Append:
    return Append("INBOX", "INBOX", tuple(Copy(uid, flags, uid - 1, uid) for uid in uids), uidvalidity)


BODIES = [f"x: {number}\r\n\r\nbody".encode() for number in range(5)]
NUL = b"x: y\r\n\r\n\0"


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(
    ("groups", "sizes"),
    [
        (Groups(), [5]),
        (Groups(letters=2), [2, 2, 1]),
        (Groups(octets=len(BODIES[0]) * 3), [3, 2]),
        (Groups(octets=1), [1, 1, 1, 1, 1]),  # larger than a group: alone, never refused
    ],
)
def test_bodies_go_in_bounded_groups(groups: Groups, sizes: list[int], streams: bool) -> None:
    performer, _, target, _ = bench("dovecot", BODIES, groups, streams=streams)
    answer = now(performer.perform(append(1, 2, 3, 4, 5, flags=frozenset({"\\Seen"}))))
    assert answer == tuple(Copied(i + 1, identity_of(raw)) for i, raw in enumerate(BODIES))
    assert target.groups == sizes and +performer.done == {"copied": 5}
    assert all(m.flags == {"\\Seen"} for m in target.server.boxes["INBOX"].messages.values())


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("kind", ["dovecot", "node"])
def test_when_much_is_carried_it_is_answered_before_the_rest(kind: str, streams: bool) -> None:
    groups = Groups(letters=2, appended=2 * len(BODIES[0]) + 1)
    performer, _, target, _ = bench(kind, BODIES, groups, streams=streams)
    answer = now(performer.perform(append(1, 2, 3, 4, 5)))
    assert answer == tuple(Copied(i + 1, identity_of(raw)) for i, raw in enumerate(BODIES[:4]))
    assert target.groups == [2, 2]
    assert now(performer.perform(append(5))) == (Copied(5, identity_of(BODIES[4])),)


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("kind", ["dovecot", "node"])
def test_what_will_not_be_carried_is_not_read(kind: str, streams: bool) -> None:
    """The next Append would read it again: large messages one by one, each of them twice."""
    performer, source, _, _ = bench(kind, BODIES, Groups(octets=1, appended=1), streams=streams)
    read: list[int] = []
    plain = source._letter

    def told(uid: int, message: Message) -> Letter:
        read.append(uid)
        return plain(uid, message)

    source._letter = told  # type: ignore[method-assign]
    for uid in (1, 2, 3, 4, 5):
        assert len(now(performer.perform(append(*range(uid, 6))))) == 1
    assert read == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("kind", ["dovecot", "node"])
def test_a_pass_that_carries_much_saves_in_between(kind: str) -> None:
    performer, source, target, kept = bench(kind, BODIES, Groups(letters=2, appended=1))
    order = Order(0.0)
    report = now(performer.run(sweep(LinkState(), source.powers, target.powers, order)))
    assert report.whole and len(target.server.boxes["INBOX"].messages) == 5
    reached = [state.folders[0].source.uidnext for state in kept.states if state.folders]
    assert [each for each in reached if each in (3, 5)] == [3, 5]


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("letters", [1, 2, 50])
def test_a_message_that_is_gone(letters: int, streams: bool) -> None:
    for kind, kinds in (("node", "ccgcc"), ("dovecot", "ccg")):
        performer, source, target, _ = bench(kind, BODIES, Groups(letters), streams=streams)
        source.server.expunge("INBOX", (3,))
        answer = now(performer.perform(append(1, 2, 3, 4, 5)))
        assert "".join("g" if isinstance(each, Gone) else "c" for each in answer) == kinds
        assert sorted(target.server.boxes["INBOX"].messages) == ([1, 2, 4, 5] if kind == "node" else [1, 2])


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("letters", [1, 2, 50])
def test_a_refused_message_ends_it_where_uids_are_not_given(letters: int, streams: bool) -> None:
    for kind, kinds in (("cyrus", "crc"), ("burning", "cr")):
        performer, _, target, _ = bench(kind, [BODIES[0], NUL, BODIES[1]], Groups(letters), streams=streams)
        answer = now(performer.perform(append(1, 2, 3)))
        assert "".join("r" if isinstance(each, Refused) else "c" for each in answer) == kinds
        assert len(target.server.boxes["INBOX"].messages) == kinds.count("c")
        assert performer.done["refused"] == 1


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("kind", ["node", "dovecot"])
def test_what_was_sent_and_not_answered_for_is_not_gone(kind: str, streams: bool) -> None:
    performer, _, target, _ = bench(kind, BODIES, Groups(2), streams=streams)
    target.short = 1
    with pytest.raises(Failed, match="not every message"):
        now(performer.perform(append(1, 2, 3)))


def test_another_folder_under_the_name() -> None:
    performer, source, target, _ = bench("node", BODIES)
    validity = source.server.boxes["INBOX"].uidvalidity
    with pytest.raises(Failed):
        now(performer.perform(append(1, uidvalidity=validity + 1)))
    with pytest.raises(Failed, match="another folder"):
        now(performer.perform(Append("INBOX", "INBOX", (Copy(1, NONE, 77, 1),))))
    assert not target.server.boxes["INBOX"].messages


@pytest.mark.parametrize("action", [Expunge("INBOX", (1, 2)), DeleteFolder("INBOX")])
def test_nothing_is_deleted_before_its_body_is_kept(action: Action) -> None:
    performer, _, target, kept = bench("dovecot", [])
    for raw in BODIES[:2]:
        target.server.append("INBOX", raw, NONE, 0)
    kept.full = True
    assert now(performer.perform(action)) == ((1, 2) if isinstance(action, Expunge) else False), "they stay for now"
    assert len(target.server.boxes["INBOX"].messages) == 2
    kept.full = False
    now(performer.perform(action))
    assert [uid for _, _, uid, _ in kept.bodies] == [1, 2]
    assert not target.server.boxes.get("INBOX") or not target.server.boxes["INBOX"].messages


def test_fillers_are_not_kept_and_refused_ones_come_from_the_source() -> None:
    performer, _, target, kept = bench("dovecot", [NUL])
    target.server.append("INBOX", BODIES[0], NONE, 0)
    now(performer.perform(Expunge("INBOX", (1,), keep_bodies=False)))
    assert not kept.bodies and not performer.done["expunged"]
    now(performer.perform(SetAside(Side.SOURCE, "INBOX", (1,), "NUL")))
    assert kept.bodies == [(Side.SOURCE, "INBOX", 1, "NUL")]


def test_a_failure_drops_the_plan() -> None:
    performer, source, _, _ = bench("node", [])
    dropped = []

    def plan() -> Plan[str]:
        try:
            listing = yield ListFolders(Side.TARGET)
            assert listing.find("INBOX")
            yield ListFolders(Side.SOURCE)
        finally:
            dropped.append(True)
        return "done"

    assert now(performer.run(plan())) == "done"
    source.step = lambda question: fail(question)
    with pytest.raises(Failed):
        now(performer.run(plan()))
    assert len(dropped) == 2


def fail(question: str) -> None:
    raise Failed(again(451, "4.4.2", f"{question}: connection lost"))


@pytest.mark.parametrize(("seen", "whole"), [(Seen.OK, True), (Seen.REFUSED, False), (Seen.SILENT, False)])
def test_an_empty_folder_that_can_not_be_deleted_holds_nothing_up(seen: Seen, whole: bool) -> None:
    """NO [NOPERM] and the like: the server works. A connection that breaks still ends the pass."""
    performer, source, target, kept = bench("dovecot", BODIES)
    target.server.create("Public")

    async def refuse(name: str) -> None:
        raise Trouble(again(451, "4.3.0", "the mail server refuses", f"DELETE {name}"), seen)

    told: list[str] = []

    async def alert(folder: str, text: str) -> None:
        told.append(text)

    target.delete_folder = refuse  # type: ignore[method-assign]
    kept.alert = alert  # type: ignore[method-assign]
    plan = sweep(LinkState(), source.powers, target.powers, Order(0.0))
    if whole:
        assert now(performer.run(plan)).whole and kept.states[-1].strangers == ("Public",)
        assert told == ["Public is on the replica only and stays there: DELETE Public"]
        assert len(target.server.boxes["INBOX"].messages) == len(BODIES)
    else:
        with pytest.raises(Trouble):
            now(performer.run(plan))
    with pytest.raises(Trouble):
        now(performer.perform(DeleteFolder("Public")))


@pytest.mark.parametrize("written", [0, 1])
async def test_who_has_lost_the_lease_writes_no_more(written: int) -> None:
    """It was frozen in the middle of a plan: what it reads is of no use, what it writes would be a second copy."""
    _, source, target, kept = bench("node", BODIES)
    left = written
    lost = Performer(source, target, kept, Groups(letters=2, octets=1 << 20), may_write=lambda: left > 0,
                     together=in_turn)

    async def counted(folder: str, letters: Sequence[Letter], more: More, may: May) -> tuple[Copied | Refused, ...]:
        nonlocal left
        left -= 1
        return await Counted.append(target, folder, letters)

    target.append = counted  # type: ignore[method-assign]
    with pytest.raises(Failed, match="do not run here"):
        await lost.perform(append(1, 2, 3, 4, 5))
    assert len(target.server.boxes["INBOX"].messages) == 2 * written, "also between the parts of one"
    left = 0
    assert (await lost.perform(ListFolders(Side.TARGET))).find("INBOX") is not None
    for action in (SetFlags("INBOX", (1,), frozenset({"\\Seen"})), Expunge("INBOX", (1,)), CreateFolder("New", 0),
                   DeleteFolder("INBOX"), RaiseUidNext((Raise("INBOX", 9),)), Subscribe("INBOX", True),
                   SetUse("INBOX", "")):
        with pytest.raises(Failed, match="do not run here"):
            await lost.perform(action)
    assert list(target.server.boxes) == ["INBOX"] and target.server.boxes["INBOX"].uidnext == 1 + 2 * written


def test_a_folder_that_is_refused_now_and_one_that_is_refused_for_good() -> None:
    """And a connection that ends, which is no answer. Who does not say that it may wait is not answered NotNow."""
    performer, _, target, _ = bench("cyrus", ())
    target.server.locked = frozenset({"Locked"})
    assert now(performer.perform(CreateFolder("Locked", 0, may_wait=True))) == NotNow("[INUSE] not now")
    target.server.folders = 1
    for may_wait in (False, True):
        assert now(performer.perform(CreateFolder("New", 0, may_wait=may_wait))) is None
    with pytest.raises(Failed, match="LIMIT"):
        now(performer.perform(CreateFolder("New", 0, must=True)))
    with pytest.raises(Failed, match="not now"):
        now(performer.perform(CreateFolder("Locked", 0)))

    async def ends(*_: object) -> Mark:
        raise Trouble(again(451, "4.4.2", "the connection broke"), Seen.REFUSED)

    target.create_folder = ends  # type: ignore[method-assign]
    with pytest.raises(Failed, match="broke"):
        now(performer.perform(CreateFolder("New", 0, may_wait=True)))


async def test_a_lease_that_is_lost_while_the_source_is_waited_for() -> None:
    """What the target asks for in the middle of an append is asked about when it is there, not before."""
    _, source, target, kept = bench("node", BODIES, streams=True)
    plain, leads = source.letters, True

    async def slow(folder: str, uids: Sequence[int], uidvalidity: int = 0) -> AsyncIterator[Letter]:
        nonlocal leads
        async for letter in plain(folder, uids, uidvalidity):
            leads = letter.uid < 4
            yield letter

    source.letters = slow  # type: ignore[method-assign]
    lost = Performer(source, target, kept, Groups(letters=2), may_write=lambda: leads, together=in_turn)
    with pytest.raises(Failed, match="do not run here"):
        await lost.perform(append(1, 2, 3, 4, 5))
    assert len(target.server.boxes["INBOX"].messages) == 2


async def test_a_target_is_told_how_to_ask_for_the_lease_and_may_end_before() -> None:
    """It has taken more than it has made final. What it does not answer for is not gone."""
    _, source, target, kept = bench("node", BODIES)
    leads = True

    async def slow(
        folder: str, letters: Sequence[Letter], more: More, may: May
    ) -> tuple[Copied | Refused, ...]:
        nonlocal leads
        assert may()
        done = await Counted.append(target, folder, letters[:2])
        leads = False
        assert not may()
        return done

    target.append = slow  # type: ignore[method-assign, assignment]
    lost = Performer(source, target, kept, may_write=lambda: leads, together=in_turn)
    with pytest.raises(Failed, match="do not run here"):
        await lost.perform(append(1, 2, 3, 4, 5))
    assert lost.done["copied"] == 2


async def test_what_was_sent_is_not_known_of_folders_that_change_names() -> None:
    """What lies below changes its name, too, and another may have that name then."""
    source, target, sent = Server("node", 1), Server("node", 1), Sent()
    for server in (source, target):
        server.create("Work")
        server.create("Work/2026")
    source.append("Work/2026", BODIES[0], NONE, 0)
    performer = Performer(ServerEnd(source), ServerEnd(target), Kept(), together=in_turn, sent=sent)
    await performer.perform(replace(append(1), source_folder="Work/2026", folder="Work/2026"))
    assert sent.by_folder()
    assert await performer.perform(RenameFolder("Work", "Old"))
    assert not sent.by_folder()


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("letters", [1, 2, 50])
@pytest.mark.parametrize("kind", ["node", "dovecot"])
def test_what_is_too_large_is_refused_and_nothing_that_cannot_be_kept_is_deleted(
    kind: str, letters: int, streams: bool
) -> None:
    """Where UIDs are not given it ends with the first, as with any that is refused."""
    performer, source, target, kept = bench(kind, [b"a", b"b" * 99, b"c", b"d" * 99], Groups(letters), streams=streams)
    source.server.largest = target.server.largest = 50
    given = kind == "node"
    copies = tuple(Copy(uid, NONE, uid - 1, uid if given else 0) for uid in range(1, 5))
    answers = now(performer.perform(Append("INBOX", "INBOX", copies)))
    kinds = [type(answer).__name__ for answer in answers]
    assert kinds == (["Copied", "Refused", "Copied", "Refused"] if given else ["Copied", "Refused"])
    assert answers[1].identity.large and "99 octets" in answers[1].reason and not answers[1].for_now
    assert len(target.server.boxes["INBOX"].messages) == kinds.count("Copied") == performer.done["copied"]
    for raw in (b"e" * 99, b"f"):
        target.server.append("INBOX", raw, NONE, 9)
    uids = tuple(target.server.boxes["INBOX"].messages)
    now(performer.perform(Expunge("INBOX", uids)))
    assert [message.raw for message in target.server.boxes["INBOX"].messages.values()] == [b"e" * 99]
    assert [uid for _, _, uid, _ in kept.bodies] == [uid for uid in uids if uid != uids[-2]]
    target.server.create("Old")
    target.server.append("Old", b"g" * 99, NONE, 9)
    now(performer.perform(DeleteFolder("Old")))
    assert len(target.server.boxes["Old"].messages) == 1


def test_what_was_too_large_and_is_gone_is_forgotten() -> None:
    performer, source, target, kept = bench("node", BODIES)
    now(performer.run(sweep(LinkState(), source.powers, target.powers, Order(0.0))))
    (inbox,) = kept.states[-1].folders
    stale = replace(kept.states[-1], folders=(replace(inbox, large=(99,)),))
    assert now(performer.run(sweep(stale, source.powers, target.powers, Order(0.0, audit=True)))).whole
    assert kept.states[-1].folders[0].large == ()


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("kind", ["cyrus", "dovecot"])
def test_a_source_that_breaks_is_at_fault_and_nothing_passes_for_gone(kind: str, streams: bool) -> None:
    performer, source, target, _ = bench(kind, BODIES, Groups(2), streams=streams)

    def break_off() -> None:
        if len(target.server.boxes["INBOX"].messages) >= 2:
            raise Trouble(again(451, "4.4.2", "the connection to the mail server broke"), Seen.REFUSED)

    source.between = break_off
    with pytest.raises(Trouble):
        now(performer.perform(append(1, 2, 3, 4, 5)))
    assert performer.asked is Side.SOURCE and list(target.server.boxes["INBOX"].messages) == [1, 2]


def test_what_could_not_be_read_ahead_is_no_end() -> None:
    async def broken() -> AsyncGenerator[list[Letter], None]:
        yield [Letter(1, NONE, 0, BODIES[0])]
        raise Failed(again(451, "4.4.2", "the source broke"))

    load = Load(append(1, 2), broken(), given=True, octets=1000)
    assert len(now(load.take())) == 1
    for _ in range(2):
        with pytest.raises(Failed, match="broke"):
            now(load.read())
    with pytest.raises(Failed, match="broke"):
        now(load.take())


def test_a_group_that_is_full_waits_for_no_other_message() -> None:
    """Of large ones there would be one more in memory than are of any use."""
    performer, source, target, _ = bench("dovecot", BODIES, Groups(octets=1))
    there: list[int] = []
    source.between = lambda: there.append(len(target.server.boxes["INBOX"].messages))
    now(performer.perform(append(1, 2)))
    assert there[-1] == 1, "the second was read after the first was sent"
