"""What clients are shown over several changes of home: UIDs never name two messages, and caches stay good."""

from __future__ import annotations

import pytest

from onedomain.decision.link.actions import Append
from onedomain.decision.link.carry import BURN_LIMIT
from onedomain.decision.link.identity import identity_of
from onedomain.model.replica import FolderLink, Numbering
from onedomain.replica.sent import Sent

from .seeds import PAIRS, seeds
from .world import World

HOMES = [*PAIRS, ("burning", "burning"), ("imap", "plain"), ("burning", "dovecot"), ("cyrus", "imap")]
ROUNDS = 4


class Clients:
    """Everything that anybody was ever shown: (folder, UIDVALIDITY, UID) -> what the message said."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, int, int], str] = {}
        self.next: dict[tuple[str, int], int] = {}  # (folder, UIDVALIDITY) -> the highest UIDNEXT
        self.validities: dict[str, int] = {}  # of folders, as they are shown now

    def look(self, world: World) -> None:
        self.validities = {}
        for name, box in world.source.boxes.items():
            self.validities[name] = shown = world.shown.shown(box.uidvalidity)
            before = self.next.get((name, shown), 0)
            assert box.uidnext >= before, f"{world.label}: {name} {shown}: UIDNEXT {box.uidnext} after {before}"
            self.next[name, shown] = box.uidnext
            for uid, message in box.messages.items():
                says = identity_of(message.raw).digest
                known = self.seen.setdefault((name, shown, uid), says)
                assert known == says, f"{world.label}: {name} {shown}/{uid} names two messages"


def change_home(world: World, clients: Clients, *, dies: bool, accidents: float = 0.03) -> bool:
    """The old home returns as the replica. False: its replica was not fit."""
    if dies:
        end = world.steps + world.random.randrange(60)
        world.crash_at = lambda step, action, end=end: "before" if step >= end else ""  # type: ignore[misc]
        while world.sweep() is not None and world.steps < end:
            clients.look(world)
        world.crash_at = None
        if world.random.random() < 1 / 3:
            world.driver.sent = Sent()  # the link ran elsewhere
    else:
        world.quiet()
    clients.look(world)
    state = world.disk.state
    allowed = world.allowed
    if not dies and world.random.random() < 0.5:
        world.allowed = 0  # a move: nobody has written since the last pass, and there is no gap
    promotion = world.fail_over()
    world.allowed = allowed
    if promotion.refused:
        return False
    if not dies:
        for folder in promotion.folders:
            link = next((link for link in state.folders if link.target_name == folder.target_name), None)
            if link is not None and link.aligned and not too_wide(world, link):
                assert not folder.renumbered, f"{world.label}: {folder}"
                assert folder.uidvalidity == clients.validities[folder.name], f"{world.label}: {folder}"
    shown, world.shown = world.shown, type(world.shown)()
    world.source, world.target, world.shown = world.target, world.source, shown
    clients.look(world)
    for _ in range(world.random.randrange(8)):
        world.act(world.source)
        clients.look(world)
    world.source, world.target = world.target, world.source
    world.bring_back(state, promotion)
    world.busy, world.accidents = True, accidents
    for _ in range(3):
        world.sweep()
        clients.look(world)
    world.quiet()
    world.check_equal()
    world.check_ledger(world.source)
    return True


def too_wide(world: World, link: FolderLink) -> bool:
    """The gap that a promotion left is not burned."""
    burns = world.target.traits.powers.numbering is Numbering.BURNED
    return burns and link.source.uidnext + world.allowed - link.target.uidnext > BURN_LIMIT


@pytest.mark.parametrize(("source", "target"), HOMES)
def test_01_a_uid_never_names_two_messages_over_many_homes(source: str, target: str) -> None:
    """With everything that was ever shown, over kills, returns and moves back."""
    changes = 0
    for seed in seeds(2):
        world = World(seed, source, target, accidents=0.03)
        world.allowed = 120
        clients = Clients()
        for _ in range(world.random.randrange(3, 7)):
            world.sweep()
            clients.look(world)
        for _ in range(ROUNDS):
            if not change_home(world, clients, dies=world.random.random() < 0.5):
                break
            changes += 1
    assert changes


def test_a_move_and_the_way_back_end_as_they_began() -> None:
    """Without accidents: an APPEND that is carried out late uses up a UID, and one that is given can't be."""
    for seed in seeds(3):
        world = World(seed, "burning", "burning")
        world.allowed = 0
        for _ in range(4):
            world.sweep()
        clients = Clients()
        clients.look(world)
        world.quiet()
        for _ in range(2):
            assert change_home(world, clients, dies=False, accidents=0.0)
            assert clients.validities["INBOX"] == 1001
        inbox = world.source.boxes["INBOX"].uidvalidity
        assert world.shown.shown(inbox) == inbox, "nothing is rewritten at the server where it was at first"


def test_01_a_new_value_is_none_that_the_dead_primary_gave_unseen() -> None:
    """Deleted and made again just before it died, and shown; what the replica has under that name keeps no UIDs."""
    world = World(1, "node", "node", pace=0.0)
    world.source.create("Work")
    world.source.append("Work", b"one", frozenset(), 1)
    world.quiet()
    world.target.append("Work", b"of a stranger", frozenset(), 1)
    world.source.append("Work", b"two", frozenset(), 1)
    clients = Clients()
    assert world.sweep(audit=True) is not None
    assert not next(link for link in world.disk.state.folders if link.source_name == "Work").aligned
    world.source.delete("Work")
    world.source.create("Work")
    world.source.append("Work", b"nobody has seen this but its user", frozenset(), 1)
    clients.look(world)
    promotion = world.fail_over()
    assert next(folder for folder in promotion.folders if folder.name == "Work").renumbered
    world.source = world.target
    clients.look(world)


@pytest.mark.parametrize(("source", "target"), PAIRS)
@pytest.mark.parametrize("fate", ["known", "strange", "by another process"])
def test_what_was_under_way_changes_no_uidvalidity_if_it_is_known(source: str, target: str, fate: str) -> None:
    """The pass ends between the bytes and the marks: UIDs are kept where it is known what was sent under which."""
    world = World(0, source, target)
    world.busy = False
    world.source.append("INBOX", b"Message-ID: <1>\r\n\r\none", frozenset(), 1)
    world.quiet()
    world.source.append("INBOX", b"Message-ID: <2>\r\n\r\ntwo", frozenset(), 2)
    link = next(link for link in world.disk.state.folders if link.source_name == "INBOX")
    if fate == "strange":
        # What the link will send comes too late: somebody else has the UID that clients know as that message's.
        world.crash_at = lambda step, action: "before" if isinstance(action, Append) else ""
    else:
        world.crash_at = lambda step, action: "after" if isinstance(action, Append) else ""
    assert world.sweep() is None
    world.crash_at = None
    if fate == "strange":
        world.target.append("INBOX", b"Message-ID: <3>\r\n\r\nthree", frozenset(), 3)
    if fate == "by another process":
        world.driver.sent = Sent()
    promotion = world.fail_over()
    inbox = next(folder for folder in promotion.folders if folder.name == "INBOX")
    assert len(world.target.boxes["INBOX"].messages) == 2
    assert inbox.renumbered == (fate != "known" or not link.aligned)


@pytest.mark.parametrize("target", ["dovecot", "node", "burning"])
@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("kind", ["gone", "can have its own"])
def test_01_what_a_pass_meant_to_drop_keeps_no_uid_that_clients_know(kind: str, elsewhere: bool, target: str) -> None:
    """One of ours that came late lies under a UID that clients know as another's. It was to go behind what the pass
    copies, and that died before: it stays, as nobody else may have it, but not under that UID. Where it was a twin it
    goes, and the UIDs are kept.
    """
    world = World(0, "dovecot", target, pace=0.0)
    late = b"Message-ID: <late>\r\n\r\nlate"
    world.source.append("INBOX", b"Message-ID: <1>\r\n\r\none", frozenset(), 1)
    if elsewhere:
        world.source.append("INBOX", late, frozenset(), 1)
    world.quiet()
    assert world.target.append("INBOX", late, frozenset(), 1) == world.source.boxes["INBOX"].uidnext
    clients = Clients()
    uid = world.source.append("INBOX", b"Message-ID: <2>\r\n\r\ntwo", frozenset(), 2)
    clients.look(world)
    if kind == "can have its own":
        world.source.expunge("INBOX", (uid,))
        world.source.append("INBOX", late, frozenset(), 1)
        clients.look(world)
    world.crash_at = lambda step, action: "before" if isinstance(action, Append) else ""
    assert world.sweep() is None
    world.crash_at = None
    assert world.disk.state.folders[0].surplus == (uid,) and world.disk.state.folders[0].aligned
    promotion = world.fail_over()
    world.source = world.target
    clients.look(world)
    assert promotion.folders[0].renumbered == (not elsewhere)
    assert sum(message.raw.endswith(b"late") for message in world.source.boxes["INBOX"].messages.values()) == 1
