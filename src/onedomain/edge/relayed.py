"""One logged-in IMAP session on its way between client and home: looked at, held, let go, ended.

Knows what is done about what the scanner finds. Does not know IMAP's grammar (protocol/imap), how bytes are pumped
(net), what a lease is (fence) nor what becomes of a change that was told.

Client to server is looked at for what it changes, and never altered, but for COMPRESS, which would end the looking.
What follows a literal that the client has to ask for goes on when the home has said whether it wants it, so that both
take the same bytes for commands. Server to client is followed from literal to literal, and altered only after a change
of home that clients would notice otherwise. A change is told when its answer comes, not before it is made. Where the
account has a replica, which may change while the session lasts, the client may write only while this edge is sure of
the home (scheme 8 of the replication plan), and the OK of an APPEND waits until the replica has the message, up to a
limit (scheme 4). If it is let go without that, that is told, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Protocol

from onedomain.backend.base import Session
from onedomain.decision.link.growth import STORED, said_of
from onedomain.edge.relays import Seat
from onedomain.model.account import Account
from onedomain.model.validities import validities
from onedomain.net.pump import Over, Relay, RelayResult
from onedomain.net.stream import Stream
from onedomain.protocol.imap.answers import Answers, Awaited
from onedomain.protocol.imap.rewriter import Rewriter, TooLong
from onedomain.protocol.imap.scanner import REFUSED, Scanner, Touch, refused_compress
from onedomain.protocol.imap.veil import HIDDEN, PREFIXES, REWRITTEN, asks, refused

if TYPE_CHECKING:
    from onedomain.edge.imap import MailboxParts

HELD = frozenset(("APPEND", "MULTIAPPEND", "REPLACE"))
"""What brings new bytes that only the client has. Anything else can be done again, or is there still."""

HELD_SECONDS = 2.0
GONE = b"* BYE [UNAVAILABLE] Your mail server went away, please log in again.\r\n"
AGAIN = b"* BYE Please connect again.\r\n"


class Fence(Protocol):
    @property
    def may_close(self) -> bool:
        """False: it never says no."""
        ...

    def may_forward(self, account: Account) -> bool:
        """Whether what a session says that began for `account` as it was then may go on to its home now."""
        ...


class NoFence:
    """Where nothing is promoted by itself."""

    may_close = False

    def may_forward(self, account: Account) -> bool:
        return True


class Relayed:
    """The relay, and what the client changes."""

    __slots__ = ("_answers", "_holding", "_parts", "_relay", "_scanner", "_seat")

    def __init__(self, seat: Seat, client: Stream, session: Session, parts: MailboxParts, idle: float) -> None:
        self._seat = seat
        self._parts = parts
        self._scanner = Scanner()
        self._answers: Answers[list[Touch]] = Answers()
        self._holding: asyncio.Task[None] | None = None
        self._relay = Relay(
            client, session.stream, upstream=self._upstream, downstream=self._downstream,
            gate=self._gate if parts.fence.may_close else None, parting=self._parting, idle=idle,
        )  # fmt: skip
        seat.cut = self._cut

    async def run(self) -> RelayResult:
        try:
            return await self._relay.run()
        finally:
            self._end()

    def start(self, over: Over) -> None:
        """The same without a task: `over` is told when it has ended, and closes the client."""
        self._relay.start(partial(self._tell_end, over))

    def _tell_end(self, over: Over, result: RelayResult) -> None:
        self._end()
        over(result)

    def _end(self) -> None:
        self._seat.cut = None
        if self._holding is not None:
            self._holding.cancel()
        # Done or not: nobody was told. The linker looks.
        self._answered(self._answers.take_open())

    def welcome(self, answer: bytes) -> None:
        """What the client is told before anything of the home's."""
        self._relay.send_down(answer)

    def cut(self, reason: str) -> None:
        self._cut(reason)

    @property
    def done(self) -> bool:
        """Both have taken their leave: the client by LOGOUT, the home by BYE."""
        return self._scanner.leaving and self._answers.bye

    def _gate(self) -> bool:
        if self._parts.fence.may_forward(self._seat.account):
            return True
        self._cut("Your mailbox may have moved to another server, please log in again.")
        return False

    def _cut(self, reason: str) -> None:
        self._relay.cut(f"* BYE [UNAVAILABLE] {reason}\r\n".encode("ascii", "replace"), reason)

    def _parting(self) -> bytes:
        """The home is gone. In the middle of a response nothing can be said."""
        answers = self._answers
        return b"" if self._scanner.leaving or answers.bye or not answers.between else GONE

    def _upstream(self, data: bytes) -> bytes | None:
        scanner = self._scanner
        touches = scanner.scan(data)
        if scanner.asked:
            return self._asked(touches, data)
        return self._touched(touches, data) if touches else None

    def _asked(self, touches: Iterable[Touch], data: bytes) -> bytes | None:
        """The client waits for the home's "+". What it sends before that waits here: it may be the literal, or not."""
        scanner = self._scanner
        if not all(self._answers.ask(tag) for tag in scanner.asked):
            self._relay.cut(AGAIN, "a tag too long, or too many commands that wait")
            return b""
        scanner.asked.clear()
        altered, rest = None, b""
        if scanner.waiting:
            rest = scanner.take_unread()
            self._relay.hold_up(rest)
            data = data[:len(data) - len(rest)]
        if touches:
            altered = self._touched(touches, data)
        return data if rest and altered is None else altered

    def _touched(self, touches: Iterable[Touch], data: bytes) -> bytes | None:
        altered = None
        told = []
        for touch in touches:
            if touch.command == "UNAUTHENTICATE":
                # RFC 8437: another log-in on this connection would be at the home, past our waits.
                self._relay.cut(AGAIN, "UNAUTHENTICATE")
                return b""
            if touch.command == "COMPRESS":
                altered = refused_compress(data)
                if altered is None:
                    self._relay.cut(AGAIN, "more behind COMPRESS")
                    return b""
                continue
            told.append(touch)
        self._tell(told)
        return altered

    def _tell(self, touches: Iterable[Touch]) -> None:
        """When they have been answered: a pass of the link that began before could see nothing of them yet."""
        for tag, group in groupby(touches, lambda touch: touch.tag):
            command = list(group)
            held = any(touch.command in HELD for touch in command)
            if not self._answers.expect(tag, command, hold=held):
                self._told(command)
                if held:
                    self._told_stored()

    def _told(self, touches: Iterable[Touch]) -> int:
        """The highest ticket; 0 where no replica has to be told."""
        changed, address = self._parts.changes.changed, self._seat.account.address
        return max((changed(address, said_of(touch.command, touch.most), touch.folder) for touch in touches), default=0)

    def _told_stored(self) -> None:
        """The client hears OK, or may, and the replica need not have it."""
        self._parts.changes.changed(self._seat.account.address, STORED)

    def _downstream(self, data: bytes) -> bytes | None:
        answers = self._answers
        passed = answers.hear(data)
        if answers.calm:
            return None
        self._heard()
        if left := answers.literal:
            self._skip(left)
        if answers.held is not None:
            passed = (data if passed is None else passed) + self._hold()
        return passed

    def _skip(self, count: int) -> None:
        """The literal that has begun need not be heard to its end."""
        self._answers.skip()
        self._relay.skip_down(count)

    def _heard(self) -> None:
        """After every step of the answers."""
        wanted = self._answers.take_wanted()
        if wanted is not None and self._scanner.waiting:
            self._scanner.decided(wanted)
            self._relay.release_up()
        self._answered(self._answers.take_done())

    def _answered(self, done: Iterable[Awaited[list[Touch]]]) -> None:
        for awaited in done:
            self._told(awaited.what)

    def _hold(self) -> bytes:
        """Where an OK is held: what of it need not be."""
        released = b""
        while (held := self._answers.held) is not None:
            ticket = self._told(held.what)
            if ticket:
                self._relay.hold_down(True)
                self._holding = asyncio.get_running_loop().create_task(self._wait(ticket, held.what[0]))
                break
            released += self._answers.release()
            self._heard()
        return released

    async def _wait(self, ticket: int, touch: Touch) -> None:
        parts, now = self._parts, asyncio.get_running_loop().time
        began, reason = now(), "the replica has not confirmed it"
        try:
            covered = await parts.changes.covered(self._seat.account.address, ticket, parts.held_seconds)
        except Exception as error:  # noqa: BLE001  the client's answer must not hang on whoever watches the link
            covered, reason = False, repr(error)
        parts.count.add("appends_held_total", result="covered" if covered else "released")
        if not covered:
            parts.trace.note(
                "append not covered", account=self._seat.account.address, folder=touch.folder, reason=reason,
                seconds=round(now() - began, 3),
            )  # fmt: skip
            self._told_stored()
        self._holding = None
        released = self._answers.release()
        self._heard()
        released += self._hold()
        self._relay.send_down(self._shown(released))
        if self._holding is None:
            self._relay.hold_down(False)

    def _shown(self, data: bytes) -> bytes:
        return data


class RewrittenRelayed(Relayed):
    """After a promotion to a server whose MODSEQs, or UIDVALIDITYs, are others: what goes by MODSEQs is hidden and
    refused, UIDVALIDITYs are shown as they were.
    """

    __slots__ = ("_rewriter",)

    def __init__(self, seat: Seat, client: Stream, session: Session, parts: MailboxParts, idle: float) -> None:
        shown = validities(seat.account.home.shown).shown
        self._rewriter = Rewriter(hidden_from(seat.account), shown, PREFIXES)
        super().__init__(seat, client, session, parts, idle)
        self._scanner.refuses = asks

    def _upstream(self, data: bytes) -> bytes | None:
        # Nearly every chunk is whole commands. What comes in pieces, or with literals, the scanner sees at its end.
        whole = self._scanner.idle and data.endswith(b"\n") and b"}\r\n" not in data and b"}\n" not in data
        sent = refused(data) if whole else data
        altered = super()._upstream(sent)
        return sent if altered is None and sent != data else altered

    def _touched(self, touches: Iterable[Touch], data: bytes) -> bytes | None:
        if any(touch.command == REFUSED for touch in touches):
            self._relay.cut(AGAIN, "asked for what is hidden")
            return b""
        return super()._touched(touches, data)

    def _downstream(self, data: bytes) -> bytes | None:
        passed = super()._downstream(data)
        shown = self._shown(data if passed is None else passed)
        return None if shown is data else shown

    def _skip(self, count: int) -> None:
        """Not before the rewriter has heard of it: see `_shown`."""

    def _shown(self, data: bytes) -> bytes:
        rewriter = self._rewriter
        try:
            shown = rewriter.hear(data)
        except TooLong as error:
            self._relay.cut(AGAIN, str(error))
            return b""
        left = rewriter.literal
        if left and left == self._answers.literal:
            rewriter.skip()
            super()._skip(left)
        return shown


def hidden_from(account: Account) -> frozenset[str]:
    """Capabilities of its home, in capitals, that its clients can't use."""
    return REWRITTEN if account.home.shown else HIDDEN if account.home.no_modseq else frozenset()


def relayed(seat: Seat, client: Stream, session: Session, parts: MailboxParts, idle: float) -> Relayed:
    """The relay that the account needs."""
    kind = RewrittenRelayed if hidden_from(seat.account) else Relayed
    return kind(seat, client, session, parts, idle)
