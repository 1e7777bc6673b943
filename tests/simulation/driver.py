"""Carries out a plan's actions on simulated servers, over a network that fails and a disk that keeps what was synced.

At every action the driver may be crashed: before it, after it with the answer lost, or later than everybody thinks
(an APPEND that the server carries out after its connection was given up). Between two actions the world goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from onedomain.decision.link.actions import (
    Action,
    Alert,
    Append,
    Burn,
    Confirm,
    Copied,
    CreateFolder,
    DeleteFolder,
    Expunge,
    ExpungeDeleted,
    Gone,
    ListFolders,
    Outcome,
    Plan,
    RaiseUidNext,
    Read,
    ReadIdentities,
    Refused,
    RenameFolder,
    Rows,
    Save,
    SetAside,
    SetFlags,
    Subscribe,
)
from onedomain.decision.link.identity import filler, identity_of
from onedomain.model.replica import LinkState, Numbering, Side

from .server import No, Server

T = TypeVar("T")


class Crash(Exception):
    """The plan is dropped here."""


@dataclass
class Disk:
    """What was synced. Holds one state; a write that was not answered may or may not be there."""

    state: LinkState = field(default_factory=LinkState)


@dataclass
class Driver:
    source: Server
    target: Server
    disk: Disk
    between: Callable[[], None] = lambda: None
    fault: Callable[[Action], str] = lambda action: ""  # "", "before", "after", "late"
    alerts: list[str] = field(default_factory=list)
    aside: list[bytes] = field(default_factory=list)
    confirmed: set[str] = field(default_factory=set)
    late: list[Callable[[], object]] = field(default_factory=list)
    steps: int = 0
    log: list[str] = field(default_factory=list)

    def run(self, plan: Plan[T]) -> T:
        """Raises Crash where a fault says so, or where a server says NO to what it can do another time."""
        answer: Any = None
        while True:
            try:
                action = plan.send(answer)
            except StopIteration as done:
                return done.value
            self.steps += 1
            self.log.append(repr(action)[:200])
            self.between()
            fault = self.fault(action)
            if fault == "before":
                raise Crash(action)
            if fault == "late" and isinstance(action, Append) and action.source_folder in self.source.boxes:
                self.late.append(self._under_way(action))
                raise Crash(action)
            try:
                answer = self.perform(action)
            except (No, KeyError) as refusal:
                raise Crash(action) from refusal
            if fault:
                raise Crash(action)

    def _under_way(self, action: Append) -> Callable[[], object]:
        """The bytes have left; where they lay is of no matter any more."""
        box = self.source.boxes[action.source_folder]
        messages = box.messages if action.uidvalidity in (0, box.uidvalidity) else {}
        sent = [(messages[copy.source_uid].raw, copy) for copy in action.copies if copy.source_uid in messages]
        given = self.target.traits.powers.numbering is Numbering.GIVEN
        return lambda: [
            self.target.append(action.folder, raw, copy.flags, copy.date, copy.uid if given else 0)
            for raw, copy in sent
        ]

    def settle(self) -> None:
        """What was under way arrives at last."""
        for each in self.late:
            try:
                each()
            except (No, KeyError):
                pass  # nobody waits for the answer
        self.late.clear()

    def perform(self, action: Action) -> Any:
        target = self.target
        match action:
            case ListFolders(side):
                return self._on(side).listing()
            case Read(side, folder, since, first):
                server = self._on(side)
                before = server.mark(folder)
                if side is Side.SOURCE:
                    self.between()  # between SELECT and FETCH
                after = server.mark(folder).modseq
                return Rows(before, server.rows(folder, since, first),
                            server.vanished(folder, since) if since else (), after)
            case ReadIdentities(side, folder, uids, uidvalidity):
                if uidvalidity not in (0, self._on(side).boxes[folder].uidvalidity):
                    raise No("another folder has that name by now")
                messages = self._on(side).boxes[folder].messages
                return {uid: identity_of(messages[uid].raw) for uid in uids if uid in messages}
            case CreateFolder(name, uidvalidity, special_use):
                target.create(name, uidvalidity, special_use)
                return target.mark(name)
            case RenameFolder(name, to):
                target.rename(name, to)
            case DeleteFolder(name):
                self.aside.extend(m.raw for m in target.boxes[name].messages.values())
                target.delete(name)
            case Subscribe(name, on):
                target.boxes[name].subscribed = on
            case Append():
                return self._append(action)
            case RaiseUidNext(folder, uidnext):
                target.raise_uidnext(folder, uidnext)
            case Burn(folder, first, count):
                named = [target.append(folder, filler(folder, first + i), frozenset(), 0) for i in range(count)]
                return tuple(named) if target.traits.powers.names_uids else ()
            case SetFlags(folder, uids, flags):
                return frozenset().union(*(target.store(folder, uid, flags) for uid in uids))
            case Expunge(folder, uids, keep_bodies):
                messages = target.boxes[folder].messages
                if keep_bodies:
                    self.aside.extend(messages[uid].raw for uid in uids if uid in messages)
                else:
                    burned = [messages[uid].raw for uid in uids if uid in messages]
                    assert all(identity_of(raw).filler for raw in burned), "burning touched a real message"
                assert target.traits.powers.names_uids
                target.expunge(folder, uids)
            case ExpungeDeleted(folder):
                target.expunge_deleted(folder)
            case SetAside(side, folder, uids, _):
                messages = self._on(side).boxes[folder].messages
                self.aside.extend(messages[uid].raw for uid in uids if uid in messages)
            case Confirm(deliveries):
                self.confirmed.update(deliveries)
            case Save(state):
                self.disk.state = state
            case Alert(folder, text):
                self.alerts.append(f"{folder}: {text}")
        return None

    def _on(self, side: Side) -> Server:
        return self.source if side is Side.SOURCE else self.target

    def _append(self, action: Append) -> tuple[Outcome, ...]:
        powers = self.target.traits.powers
        outcomes: list[Outcome] = []
        if action.uidvalidity not in (0, self.source.boxes[action.source_folder].uidvalidity):
            raise No("another folder has that name by now")
        for copy in action.copies:
            message = self.source.boxes[action.source_folder].messages.get(copy.source_uid)
            if message is None:
                outcomes.append(Gone())
            else:
                uid = copy.uid if powers.numbering is Numbering.GIVEN else 0
                try:
                    got = self.target.append(action.folder, message.raw, copy.flags, copy.date, uid)
                    outcomes.append(Copied(got if powers.names_uids else 0, identity_of(message.raw)))
                    continue
                except No as refusal:
                    if "NUL" not in str(refusal) and "identical" not in str(refusal):
                        raise
                    outcomes.append(Refused(str(refusal), identity_of(message.raw)))
            if powers.numbering is not Numbering.GIVEN:
                break
        return tuple(outcomes)
