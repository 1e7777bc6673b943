"""Has a plan's actions carried out by the performer on simulated servers, over a network that fails and a disk that
keeps what was synced.

At every action the driver may be crashed: before it, after it with the answer lost, or later than everybody thinks
(an APPEND that the server carries out after its connection was given up). Between two actions the world goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from onedomain.backend.link.base import Letter
from onedomain.decision.link.actions import Action, Append, Expunge, Plan, Save
from onedomain.decision.link.identity import identity_of
from onedomain.model.failure import Failed, again
from onedomain.model.replica import LinkState, Numbering, Side
from onedomain.replica.performer import Groups, Performer
from onedomain.replica.sent import Sent

from .ends import ServerEnd, in_turn, now
from .server import No, Server

T = TypeVar("T")

GROUPS = Groups(letters=7, octets=1000, appended=2500)


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
    fault: Callable[[Action], str] = lambda action: ""  # "", "before", "within", "after", "late"
    room: Callable[[], bool] = lambda: True  # on our own side, for what is deleted or refused
    alerts: list[str] = field(default_factory=list)
    aside: list[bytes] = field(default_factory=list)
    confirmed: set[str] = field(default_factory=set)
    late: list[Callable[[], object]] = field(default_factory=list)
    sent: Sent = field(default_factory=Sent)
    came_late: set[str] = field(default_factory=set)  # delivery ids and digests
    steps: int = 0
    log: list[str] = field(default_factory=list)
    within: int = 0
    questions: int = 0

    def run(self, plan: Plan[T]) -> T:
        """Raises Crash where a fault says so, or where a server says NO to what it can do another time."""
        answer: Any = None
        while True:
            try:
                action = plan.send(answer)
            except StopIteration as done:
                return done.value
            self.steps += 1
            self.log.append("Save" if isinstance(action, Save) else repr(action)[:200])  # a state may be large
            self.between()
            fault = self.fault(action)
            if fault == "before":
                raise Crash(action)
            self.within = 2 if fault == "within" else 0
            if fault == "late" and isinstance(action, Append) and action.source_folder in self.source.boxes:
                self.late.append(self._under_way(action))
                raise Crash(action)
            try:
                answer = self.perform(action)
            except Failed as refusal:
                raise Crash(action) from refusal
            if fault:
                raise Crash(action)

    def _under_way(self, action: Append) -> Callable[[], object]:
        """The bytes have left; where they lay is of no matter any more."""
        box = self.source.boxes[action.source_folder]
        messages = box.messages if action.uidvalidity in (0, box.uidvalidity) else {}
        sent = [(messages[copy.source_uid].raw, copy) for copy in action.copies if copy.source_uid in messages]
        given = self.target.traits.powers.numbering is Numbering.GIVEN
        self.sent.add(action.folder, ((copy.uid, identity_of(raw).digest) for raw, copy in sent if copy.uid))

        def arrive() -> None:
            for raw, copy in sent:
                self.target.append(action.folder, raw, copy.flags, copy.date, copy.uid if given else 0)
                self.came_late |= {identity_of(raw).delivery, identity_of(raw).digest}

        return arrive

    def settle(self) -> None:
        """What was under way arrives at last."""
        for each in self.late:
            try:
                each()
            except (No, KeyError):
                pass  # nobody waits for the answer
        self.late.clear()

    def perform(self, action: Action) -> Any:
        """By the performer, with small groups; a fault may also come between two of its questions ("within")."""
        source, target = ServerEnd(self.source, self.between), ServerEnd(self.target, step=self._question)
        self.questions = 0
        if isinstance(action, Expunge) and not action.keep_bodies:
            messages = self.target.boxes[action.folder].messages
            burned = [messages[uid].raw for uid in action.uids if uid in messages]
            assert all(identity_of(raw).filler for raw in burned), "burning touched a real message"
        return now(Performer(source, target, self, GROUPS, together=in_turn, sent=self.sent).perform(action))

    def _question(self, question: str) -> None:
        self.questions += 1
        if self.within and self.questions == self.within:
            raise Failed(again(451, "4.3.0", "cut off within an action"))

    # what a plan asks of our own side

    async def set_aside(self, side: Side, folder: str, letters: Sequence[Letter], why: str) -> None:
        if not self.room():
            raise Failed(again(452, "4.3.1", "no room for it"))
        self.aside.extend(letter.raw for letter in letters)

    async def confirm(self, deliveries: Collection[str]) -> None:
        self.confirmed.update(deliveries)

    async def whole(self) -> None:
        """Whoever drives a plan looks at its report."""

    async def save(self, state: LinkState) -> None:
        self.disk.state = state

    async def alert(self, folder: str, text: str) -> None:
        self.alerts.append(f"{folder}: {text}")
