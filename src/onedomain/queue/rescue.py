"""Puts what the safety net holds onto a new primary: every message that the dead one had acknowledged, once.

Each is looked for there first, in all folders and among the ids that the server has seen, and appended to INBOX only if
it is nowhere. By APPEND, not LMTP: filters ran when it was delivered, and must not answer or redirect it again.

An append whose answer was lost, or that a predecessor of this process may have begun, counts as not done only when the
server has said so twice, some seconds apart: it may file what it was given after it has answered the first question.

Knows the order of question, append and record. Does not know why a home changed, nor what language its server speaks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from onedomain.backend.link.base import Letter, LinkEnd
from onedomain.decision.link.actions import Refused
from onedomain.decision.net import is_linked
from onedomain.decision.retry import Pauses
from onedomain.model.account import Account, DirectoryView
from onedomain.model.failure import Failed
from onedomain.model.health import BoardView
from onedomain.model.message import Body
from onedomain.model.ports import Changes, Clock, Count, Nonce, Trace
from onedomain.queue import crash
from onedomain.queue.doubt import CONFIRM_AFTER
from onedomain.queue.net import Catch, Net
from onedomain.queue.rescued import Rescued
from onedomain.queue.spool import Spool

INBOX = "INBOX"
AT_ONCE = 8              # accounts of one worker
FIND_AT_ONCE = 25        # few: between the answer and an append somebody else may put it there (an old primary returns)
READ_SIZE = 256 << 10
PAUSES = Pauses(1.0, 60.0)
DONE = 0.0
LOOK_AGAIN = 3.0         # the server is not usable, or the home has changed once more
REFUSED_AGAIN = 3600.0   # a server that took it for bad may be taught otherwise


class Ends(Protocol):
    """Ways to the servers of accounts, as links use them."""

    async def end(self, account: Account) -> LinkEnd:
        """At the account's primary. Raises Failed."""
        ...


class Rescue:
    """`fence` says whether this edge may write to an account's server."""

    def __init__(
        self,
        spool: Spool,
        net: Net,
        view: DirectoryView,
        board: BoardView,
        ends: Ends,
        *,
        clock: Clock,
        nonce: Nonce,
        trace: Trace,
        changes: Changes,
        count: Count,
        crash_points: crash.CrashPoints,
        fence: Callable[[Account], bool] = lambda account: True,
    ) -> None:
        self._spool = spool
        self._net = net
        self._view = view
        self._board = board
        self._ends = ends
        self._clock = clock
        self._nonce = nonce
        self._trace = trace
        self._changes = changes
        self._count = count
        self._crash = crash_points
        self._fence = fence
        self.rescued = Rescued(clock)
        self._waiting: dict[str, None] = {}      # accounts, in the order they came
        self._working: dict[str, asyncio.Task[None]] = {}
        self._failures: dict[str, int] = {}
        self._denied: dict[tuple[str, str], float] = {}  # (account, id): when the server first said it has it not
        self._in_doubt: set[tuple[str, str]] = set()
        self._refused: dict[tuple[str, str], float] = {}
        self._stopping = False

    def wanted(self, account: str) -> None:
        """Something of the account has to be on a new primary."""
        if not self._stopping:
            self._waiting[account] = None
            self._begin()

    async def stop(self) -> None:
        """What is under way is cut off: it will be looked for again."""
        self._stopping = True
        tasks = list(self._working.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self) -> None:
        for account in list(self._waiting):
            if len(self._working) >= AT_ONCE:
                return
            if account not in self._working:
                del self._waiting[account]
                task = self._working[account] = asyncio.get_running_loop().create_task(self._work(account))
                task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._trace.note("rescue defect", reason=repr(error))
            asyncio.get_running_loop().call_exception_handler(
                {"message": "rescue task failed", "exception": error, "task": task})

    async def _work(self, account: str) -> None:
        wait = PAUSES.longest  # unless it ends as it should
        try:
            wait = await self._put(account)
            self._failures.pop(account, None)
            if not wait:
                self._net.to_rescue(account)  # which then knows that nothing is left
        except Failed as error:
            failures = self._failures[account] = self._failures.get(account, 0) + 1
            wait = PAUSES.after(failures, self._nonce.random())
            self._trace.note("rescue put off", account=account, reason=error.failure.reason or str(error.failure))
        finally:
            del self._working[account]
            if not self._stopping:
                if wait:
                    asyncio.get_running_loop().call_later(wait, self.wanted, account)
                self._begin()

    async def _put(self, address: str) -> float:
        """-> seconds after which there is more to do; DONE: nothing. Raises Failed."""
        account = self._view.account(address)
        catches = [catch for catch in self._net.to_rescue(address) if not self._is_refused(address, catch)]
        if account is None or not catches:
            return DONE
        if not self._may_go(account) or not self._board.verdict(account.home.primary).usable:
            return LOOK_AGAIN
        end = await self._ends.end(account)
        broken = True
        try:
            wait = DONE
            for start in range(0, len(catches), FIND_AT_ONCE):
                wait = max(wait, await self._put_some(account, end, catches[start : start + FIND_AT_ONCE]))
                if not self._may_go(account):
                    wait = LOOK_AGAIN
                    break
            broken = False
            return wait
        finally:
            await end.close(broken=broken)

    async def _put_some(self, account: Account, end: LinkEnd, catches: Sequence[Catch]) -> float:
        found = await end.find([catch.entry.id for catch in catches])
        wait = DONE
        for catch in catches:
            if not self._may_go(account):
                return LOOK_AGAIN
            if catch.entry.id in found:
                self._settle(account, catch, "found by its delivery id")
            elif left := self._unconfirmed(account.address, catch):
                wait = max(wait, left)
            else:
                await self._append(account, end, catch)
        return wait

    def _may_go(self, account: Account) -> bool:
        """Whether the account is still where it was when we began, and is ours to write to."""
        now = self._view.account(account.address)
        return (now is not None and now.home.primary == account.home.primary and now.home.epoch == account.home.epoch
                and not now.home.pending and self._fence(now))

    def _unconfirmed(self, account: str, catch: Catch) -> float:
        """Seconds until a "no" may be believed."""
        key = account, catch.entry.id
        if catch.fresh and key not in self._in_doubt:
            return 0.0
        now = self._clock.monotonic()
        return max(0.0, CONFIRM_AFTER - (now - self._denied.setdefault(key, now)))

    async def _append(self, account: Account, end: LinkEnd, catch: Catch) -> None:
        entry, address = catch.entry, account.address
        if self._spool.find(entry.id) is None or not entry.of(catch.index).netted:
            return
        try:
            raw = await _read(self._spool.body(entry))
        except Failed as error:
            self._set_by(address, catch, error.failure.reason)  # damaged in our spool: the log has said so
            return
        if not self._may_go(account):
            return
        self._denied.pop((address, entry.id), None)
        self._in_doubt.add((address, entry.id))
        # RFC 5321 section 4.4: who makes final delivery says where the message came from
        head = f"Return-Path: <{entry.envelope.sender}>\r\n".encode(errors="surrogateescape")
        answers = await end.append(INBOX, [Letter(0, frozenset(), int(entry.received), head + raw)])
        self._in_doubt.discard((address, entry.id))
        if answers and isinstance(answers[0], Refused):
            self._set_by(address, catch, answers[0].reason)
            return
        self._crash.reach(crash.AFTER_RESCUE)
        self._settle(account, catch, "put there by the safety net")
        self._count.add("net_rescued_total", source=catch.server, target=account.home.primary)
        self.rescued.add(catch.server, account.home.primary)

    def _settle(self, account: Account, catch: Catch, reply: str) -> None:
        address, id = account.address, catch.entry.id
        self._denied.pop((address, id), None)
        self._in_doubt.discard((address, id))
        epoch = account.home.epoch if is_linked(self._view, account) else 0
        self._trace.note("rescued", queue_id=id, account=address, server=account.home.primary, before=catch.server,
                         reply=reply)
        self._net.rescued(address, catch, account.home.primary, reply, epoch)
        self._changes.changed(address, "DELIVER", "", (id,))

    def _set_by(self, account: str, catch: Catch, reason: str) -> None:
        """It can't be put there; it stays in the net, and somebody is told."""
        self._refused[account, catch.entry.id] = self._clock.monotonic()
        self._count.add("net_refused_total")
        self._trace.note("net refused", queue_id=catch.entry.id, account=account, reason=reason)

    def _is_refused(self, account: str, catch: Catch) -> bool:
        key = account, catch.entry.id
        if self._clock.monotonic() - self._refused.get(key, float("-inf")) < REFUSED_AGAIN:
            return True
        self._refused.pop(key, None)
        return False


async def _read(body: Body) -> bytes:
    parts = []
    size = 0
    while part := await body.read(size, READ_SIZE):
        parts.append(part)
        size += len(part)
    return b"".join(parts)
