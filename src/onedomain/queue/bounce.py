"""Tells the sender what failed for good (RFC 3464), once; the postmaster, where nobody else is left to be told.

The bounce is committed to the spool under an id that follows from the message and the targets it reports on, and its
record carries their outcomes: a crash at any moment leaves either no bounce and a failure to be found again, or both.

Knows who is told and who isn't. Does not know when somebody should be.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import replace

from onedomain.decision.recipient import Accept, domain_of, resolve
from onedomain.decision.retry import HOUR
from onedomain.model.account import DirectoryView
from onedomain.model.address import AddressError, parse_address
from onedomain.model.failure import Failed
from onedomain.model.message import Envelope, Outcome, State, Target
from onedomain.model.ports import Clock, Nonce, Trace
from onedomain.protocol.message.dsn import Action, Dsn, Reported, build_dsn
from onedomain.protocol.message.stamp import build_delivery_id
from onedomain.queue import crash
from onedomain.queue.entry import Entry
from onedomain.queue.ids import derived_id
from onedomain.queue.spool import Spool

MAX_HEADER = 64 << 10
MAX_RETURNED = 1 << 20  # of a message that is to come back whole
READ_SIZE = 256 << 10
HOURLY = 20
"""Reports to the postmaster: whoever sends mail without a sender must not be able to fill their mailbox."""


class Bouncer:
    """`edge` is our name in reports; the postmaster of `domain` hears of what has no sender, "" if nobody shall."""

    def __init__(
        self,
        spool: Spool,
        view: DirectoryView,
        *,
        edge: str,
        domain: str,
        clock: Clock,
        nonce: Nonce,
        trace: Trace,
        crash_points: crash.CrashPoints,
    ) -> None:
        self._spool = spool
        self._view = view
        self._edge = edge
        self._domain = domain
        self._to_postmaster: deque[float] = deque(maxlen=HOURLY)
        self._clock = clock
        self._nonce = nonce
        self._trace = trace
        self._crash = crash_points

    async def failed(self, entry: Entry, outcomes: Mapping[int, Outcome]) -> None:
        """Commits the report on targets that are given up; their outcomes may be noted when this returns.

        Raises Failed if it can't be committed: then they must not be.
        """
        envelope = entry.envelope
        if not envelope.sender:
            self._trace.note("double bounce", queue_id=entry.id, bounce_of=entry.head.bounce_of)
            await self._tell_postmaster(entry, outcomes)
            return
        told = [index for index in sorted(outcomes) if envelope.targets[index].notify.upper() != "NEVER"]
        if told:
            verdicts = tuple(sorted(outcomes.items()))
            await self._tell(entry, Action.FAILED, {index: outcomes[index] for index in told}, verdicts)
            self._crash.reach(crash.AFTER_BOUNCE)

    async def _tell_postmaster(self, entry: Entry, outcomes: Mapping[int, Outcome]) -> None:
        """What has no sender must not vanish unseen. What the postmaster does not get ends here."""
        now = self._clock.time()
        if not self._domain or (len(self._to_postmaster) == HOURLY and now - self._to_postmaster[0] < HOUR):
            return
        postmaster = f"postmaster@{self._domain}"
        targets = self._resolved(entry, postmaster)
        theirs = {target.address for target in targets}
        told = {index: outcome for index, outcome in outcomes.items()
                if entry.envelope.targets[index].address not in theirs}
        if told and targets:
            self._to_postmaster.append(now)
            await self._tell(entry, Action.FAILED, told, tuple(sorted(outcomes.items())), to=postmaster)

    async def arrived(self, entry: Entry, outcomes: Mapping[int, Outcome]) -> None:
        """Tells the sender who asked for it (NOTIFY=SUCCESS) what has arrived: in a mailbox of ours, or at a server
        that passes it on and is not known to report (RFC 3461 section 6.2.6, 6.2.7). Raises Failed.
        """
        envelope = entry.envelope
        for action, local in ((Action.DELIVERED, True), (Action.RELAYED, False)):
            told = {index: outcome for index, outcome in outcomes.items()
                    if envelope.targets[index].is_local is local}
            if told:
                await self._tell(entry, action, told, tuple(sorted(told.items())))

    async def delayed(self, entry: Entry, until: float) -> None:
        """Tells the sender that targets are still waiting, and until when they will be tried. Raises Failed."""
        ours = self._is_ours(entry.envelope)
        waiting = {
            index: entry.of(index).outcome or Outcome(State.AGAIN)
            for index in entry.indexes(State.AGAIN, State.IN_DOUBT)
            if _wants_delay(entry.envelope.targets[index], ours)
        }
        if waiting:
            await self._tell(entry, Action.DELAYED, waiting, (), until=until)

    def _is_ours(self, envelope: Envelope) -> bool:
        if envelope.login:
            return True
        try:
            return domain_of(self._view, parse_address(envelope.sender)) is not None
        except AddressError:
            return False

    async def _tell(
        self,
        entry: Entry,
        action: Action,
        outcomes: Mapping[int, Outcome],
        verdicts: tuple[tuple[int, Outcome], ...],
        *,
        to: str = "",
        until: float = 0.0,
    ) -> None:
        envelope = entry.envelope
        to = to or envelope.sender
        targets = self._resolved(entry, to) if to else ()
        if not targets:
            return
        purpose = f"{action.value} {','.join(map(str, sorted(outcomes)))}"
        id = derived_id(entry.id, purpose)
        if id in self._spool.entries:
            return
        returned, full = await self._returned(entry, envelope, action)
        report = self._report(
            entry, to, action, outcomes, id, until, full=full, eight_bit=not returned.isascii())
        draft = self._spool.draft_named(id)
        try:
            await draft.write(build_delivery_id(id) + report.head)
            await draft.write(returned)
            await draft.write(report.tail)
            bounce = Envelope("", targets, smtputf8=report.smtputf8, eight_bit=not returned.isascii())
            await draft.commit(bounce, message_id=f"<{id}@{self._edge}>", bounce_of=entry.id, verdicts=verdicts)
        finally:
            draft.abort()
        self._trace.note(
            "bounce", queue_id=entry.id, bounce_id=id, recipient=to, action=action.value,
            about=[envelope.targets[index].original or envelope.targets[index].address for index in sorted(outcomes)],
        )

    def _resolved(self, entry: Entry, to: str) -> tuple[Target, ...]:
        """Where a report goes; nowhere for an address that nobody has."""
        reason = ""
        try:
            answer = resolve(self._view, parse_address(to), allow_outside=True)
            if isinstance(answer, Accept):
                # A report on a report interests nobody (RFC 3461 section 6.1 asks for NOTIFY=NEVER).
                return tuple(replace(target, notify="NEVER") for target in answer.targets)
            reason = str(answer.failure)
        except AddressError as error:
            reason = str(error)
        self._trace.note("bounce impossible", queue_id=entry.id, sender=to, reason=reason)
        return ()

    async def _returned(self, entry: Entry, envelope: Envelope, action: Action) -> tuple[bytes, bool]:
        """What comes back of the message -> bytes, whether that is all of it."""
        body = self._spool.body(entry)
        full = envelope.ret.upper() == "FULL" and action is Action.FAILED and entry.size <= MAX_RETURNED
        wanted = entry.size if full else min(entry.size, MAX_HEADER)
        data = bytearray()
        try:
            while len(data) < wanted and (part := await body.read(len(data), min(READ_SIZE, wanted - len(data)))):
                data += part
        except Failed as error:
            return f"[{error.failure.text}]\r\n".encode(), False
        if full:
            return bytes(data), True
        return bytes(data).partition(b"\r\n\r\n")[0] + b"\r\n", False

    def _report(
        self,
        entry: Entry,
        to: str,
        action: Action,
        outcomes: Mapping[int, Outcome],
        id: str,
        until: float,
        *,
        full: bool,
        eight_bit: bool,
    ) -> Dsn:
        now, envelope = self._clock.time(), entry.envelope
        reported = []
        for index, outcome in sorted(outcomes.items()):
            target = envelope.targets[index]
            reported.append(Reported(
                recipient=target.address,
                action=action,
                failure=outcome.failure,
                original=target.original,
                server=outcome.server,
                reply=outcome.reply,
                at=now if outcome.server else 0.0,
                retry_until=until,
            ))
        return build_dsn(
            reported, to=to, edge=self._edge, id=id, boundary=self._nonce.token(16).hex(), now=now,
            arrived=entry.received, queue_id=entry.id, envid=envelope.envid, full=full, eight_bit=eight_bit,
        )


def _wants_delay(target: Target, ours: bool) -> bool:
    """RFC 3461 section 4.1: with no NOTIFY at all a delay may be told; with one it must name DELAY. Unasked only our
    own people are told: a stranger's name may be forged, and while a server is down all its spam is late.
    """
    return "DELAY" in target.notify.upper() if target.notify else ours
