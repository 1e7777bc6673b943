"""Parts put into a folder of Cyrus in virtual time: whose sessions are asked for, and who is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from onedomain.backend.imap_session import Answer
from onedomain.backend.link.base import Letter, More
from onedomain.backend.link.filling import AT_ONCE, Filling
from onedomain.backend.link.syncapply import Mailbox, Record, SyncConnection
from onedomain.backend.pool import Pool, PoolLimits
from onedomain.decision.link.actions import Copied
from onedomain.model.failure import Failed, again
from onedomain.protocol.imap.response import Tagged
from tests.health.virtual import run

NONE: frozenset[str] = frozenset()
LOG_IN = 40.0


class Cyrus:
    """One folder, and a pool of four administrators. The first logs in at once, each further one in `log_in` seconds;
    an upload takes one.
    """

    def __init__(self, log_in: float = 0.0) -> None:
        self.log_in = log_in
        self.fails = False
        self.opened: list[Administrator] = []
        self.attempts = 0
        self.uids: list[int] = []
        self.used: set[Administrator] = set()
        self.pool: Pool[SyncConnection] = Pool("administrators", self._open, PoolLimits(size=4, idle=1000.0))

    async def _open(self) -> SyncConnection:
        self.attempts += 1
        if self.attempts > 1:
            await asyncio.sleep(self.log_in)
            if self.fails:
                raise Failed(again(451, "4.3.0", "no log-in"))
        self.opened.append(Administrator(self))
        return cast(SyncConnection, self.opened[-1])

    async def fill(self, first: Sequence[Letter], more: More | None = None) -> float:
        """All of it; in how many seconds."""
        clock = asyncio.get_running_loop().time
        begun, before = clock(), len(self.uids)
        done = await Filling(self.pool, "u1", first, more).run()
        assert [each.uid for each in done if isinstance(each, Copied)] == self.uids[before:]
        return clock() - begun


class Administrator:
    """As much of a SyncConnection as a filling needs."""

    def __init__(self, cyrus: Cyrus) -> None:
        self.cyrus = cyrus
        self.good, self.uses, self.closed = True, 0, False
        self.session = SimpleNamespace(doing="SYNCAPPLY")

    def quiet(self) -> bool:
        return not self.closed

    def close(self) -> None:
        self.closed = True

    async def leave(self) -> None:
        self.close()

    async def mailbox(self, uniqueid: str) -> Mailbox:
        return Mailbox({"MBOXNAME": "user.taro", "LAST_UID": len(self.cyrus.uids), "HIGHESTMODSEQ": 1})

    async def upload(self, partition: str, messages: Sequence[bytes]) -> list[str]:
        self.cyrus.used.add(self)
        await asyncio.sleep(1)
        return ["0" * 40 for _ in messages]

    async def apply(self, mailbox: Mailbox, records: Sequence[Record], since: int) -> Answer:
        self.cyrus.uids += [record.uid for record in records]
        return Answer(Tagged("a1", "OK", None, "done"))


def letters(count: int) -> list[Letter]:
    return [Letter(0, NONE, 0, b"Subject: %d\r\n\r\n" % number) for number in range(count)]


def follows(*groups: list[Letter]) -> More:
    """Each after a moment: nothing was read ahead."""
    left = list(groups)

    async def more() -> Sequence[Letter]:
        await asyncio.sleep(0.1)
        return left.pop(0) if left else ()

    return more


def on(cyrus: Cyrus, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        await work()
        await cyrus.pool.close()

    run(whole())
    assert all(each.closed for each in cyrus.opened)


def test_who_is_still_logging_in_is_not_waited_for() -> None:
    """Nor is the log-in for nothing: the next one finds the session."""
    cyrus = Cyrus(LOG_IN)

    async def work() -> None:
        assert await cyrus.fill(letters(2 * AT_ONCE)) == pytest.approx(2)
        assert cyrus.attempts == 2 and len(cyrus.opened) == 1
        await asyncio.sleep(LOG_IN)
        assert len(cyrus.opened) == 2 and cyrus.pool.idle == 2 and not cyrus.pool.full
        assert await cyrus.fill(letters(2 * AT_ONCE)) == pytest.approx(1)
        assert cyrus.attempts == 2 and len(cyrus.used) == 2

    on(cyrus, work)


def test_who_is_logging_in_when_all_is_closed_is_left() -> None:
    cyrus = Cyrus(LOG_IN)

    async def work() -> None:
        await cyrus.fill(letters(2 * AT_ONCE))
        before = asyncio.get_running_loop().time()
        await cyrus.pool.close()
        assert asyncio.get_running_loop().time() == before and len(cyrus.opened) == 1

    on(cyrus, work)


def test_who_can_not_log_in_is_done_without() -> None:
    cyrus = Cyrus(0.5)
    cyrus.fails = True

    async def work() -> None:
        assert await cyrus.fill(letters(3 * AT_ONCE)) == pytest.approx(3)
        assert cyrus.attempts == 3 and not cyrus.pool.full

    on(cyrus, work)


@pytest.mark.parametrize("count", [1, AT_ONCE])
def test_one_part_is_for_one_session(count: int) -> None:
    """Also where it is not known yet that nothing follows."""
    cyrus = Cyrus()
    on(cyrus, lambda: fill(cyrus, letters(count), follows()))
    assert cyrus.attempts == 1


@pytest.mark.parametrize(("parts", "groups", "sessions"), [(2, 0, 2), (3, 0, 3), (12, 0, 4), (1, 1, 2), (2, 1, 3)])
def test_more_are_for_as_many_sessions_as_they_keep_busy(parts: int, groups: int, sessions: int) -> None:
    cyrus = Cyrus()
    on(cyrus, lambda: fill(cyrus, letters(parts * AT_ONCE), follows(*[letters(1)] * groups)))
    assert len(cyrus.used) == cyrus.attempts == sessions


def test_without_anything_to_follow() -> None:
    cyrus = Cyrus()
    on(cyrus, lambda: fill(cyrus, letters(3 * AT_ONCE), None))
    assert len(cyrus.used) == cyrus.attempts == 3


def test_whether_it_may_is_asked_ahead_of_every_part() -> None:
    """What was uploaded is not in the folder yet; a process may have been frozen since."""
    cyrus = Cyrus()

    async def work() -> None:
        done = await Filling(cyrus.pool, "u1", letters(4 * AT_ONCE), None, lambda: len(cyrus.uids) <= AT_ONCE).run()
        assert len(done) == len(cyrus.uids) == 2 * AT_ONCE

    on(cyrus, work)


async def fill(cyrus: Cyrus, first: list[Letter], more: More | None) -> None:
    await cyrus.fill(first, more)
