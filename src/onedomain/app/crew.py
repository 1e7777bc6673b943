"""The workers and the linker as the keeper sees them: who is there, what they are told, what they answer.

Knows links. Does not know what a delta or a snapshot means to a worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from onedomain.app.inherited import LINKER_SLOT
from onedomain.control.link import Link, LinkError
from onedomain.directory.book import Book
from onedomain.directory.delta import Delta, parts
from onedomain.health.board import Board
from onedomain.model.ports import Trace

ANSWER_SECONDS = 5.0
FENCE_SECONDS = 60.0  # far longer than a hung worker lives: until then it is told of no other lease


class _Member:
    """`backlog` holds deltas that came while the whole directory was being sent; None once the worker is up to date.

    `late`: it joined in the middle of a whole directory, whose pieces are nothing to it without the first ones.
    """

    def __init__(self, link: Link, slot: int, pid: int, late: bool) -> None:
        self.link = link
        self.slot = slot
        self.pid = pid
        self.backlog: list[Delta] | None = None
        self.late = late


class Crew:
    def __init__(self, book: Book, board: Board, trace: Trace) -> None:
        self._book = book
        self._board = board
        self._trace = trace
        self._members: dict[int, _Member] = {}
        self._sending: set[asyncio.Task[None]] = set()
        self._in_whole = False  # pieces of a whole directory are being published, and it is not complete

    @property
    def workers(self) -> Mapping[int, Link]:
        """By slot."""
        return {slot: member.link for slot, member in self._members.items() if slot != LINKER_SLOT}

    @property
    def linker(self) -> Link | None:
        member = self._members.get(LINKER_SLOT)
        return member.link if member is not None else None

    @property
    def linker_pid(self) -> int:
        """0: it is not there."""
        member = self._members.get(LINKER_SLOT)
        return member.pid if member is not None else 0

    async def hello(self, link: Link, slot: int, pid: int) -> None:
        """A worker is there: it gets board and directory, and all changes from now on."""
        member = self._members[slot] = _Member(link, slot, pid, self._in_whole)
        link.attached |= {"slot": slot, "pid": pid}
        link.tell("board", snapshot=self._board.snapshot(str(slot)))
        self._bring_up_to_date(member)
        self._trace.note("linker joined" if slot == LINKER_SLOT else "worker joined", slot=slot, pid=pid)

    def left(self, link: Link) -> int | None:
        """Its slot, if the process is gone; None: it was nobody's, or the same one has come again by another line."""
        slot: int | None = link.attached.get("slot")
        if slot is None:
            return None
        member = self._members.get(slot)
        if member is not None and member.link is not link:
            return slot if member.pid != link.attached["pid"] else None
        if member is not None:
            del self._members[slot]
            self._board.forget_worker(str(slot))
        return slot

    async def report(self, link: Link, report: dict[str, Any]) -> None:
        """News of a worker: what its traffic saw of the servers."""
        if "slot" in link.attached:
            self._board.take_report(str(link.attached["slot"]), report)

    def _bring_up_to_date(self, member: _Member) -> None:
        if member.backlog is not None:
            member.backlog.extend(parts(self._book.whole()))  # behind what is being sent
            return
        member.backlog = []
        task = asyncio.create_task(self._send_directory(member))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send_directory(self, member: _Member) -> None:
        for delta in parts(self._book.whole()):
            _tell(member, delta)
            await asyncio.sleep(0)
        backlog, member.backlog = member.backlog or [], None
        for delta in backlog:
            _tell(member, delta)

    def publish(self, delta: Delta) -> None:
        """The book has it by now."""
        ended, self._in_whole = self._in_whole and not delta.more, delta.whole and delta.more
        for member in self._members.values():
            if not member.late:
                if member.backlog is None:
                    _tell(member, delta)
                else:
                    member.backlog.append(delta)
            elif ended:
                member.late = False
                self._bring_up_to_date(member)

    def _workers(self) -> list[_Member]:
        return [member for slot, member in self._members.items() if slot != LINKER_SLOT]

    def tell_board(self) -> None:
        for slot, member in self._members.items():
            member.link.tell("board", snapshot=self._board.snapshot(str(slot)))

    def fences(self) -> dict[int, Callable[[float], Awaitable[int]]]:
        """How to tell each worker of a lease (app/fencing)."""
        return {slot: partial(_tell_fence, link) for slot, link in self.workers.items()}

    async def figures(self, within: float) -> dict[int, dict[str, Any]]:
        """By slot, of the workers that answer within so many seconds."""
        members = self._workers()
        answers = await asyncio.gather(*(m.link.call("figures", timeout=within) for m in members),
                                       return_exceptions=True)
        return {m.slot: answer for m, answer in zip(members, answers, strict=True) if isinstance(answer, dict)}

    async def ask(self, verb: str, *, timeout: float = ANSWER_SECONDS, **arguments: Any) -> list[Any]:
        """Every worker's answer. Raises LinkError if one does not give any: half a queue must not look like a whole."""
        members = self._workers()
        if not members:
            raise LinkError("no worker is up")
        return list(await asyncio.gather(
            *(m.link.call(verb, timeout=timeout, **arguments) for m in members)))


async def _tell_fence(link: Link, asked: float) -> int:
    return int(await link.call("fence", timeout=FENCE_SECONDS, asked=asked))


def _tell(member: _Member, delta: Delta) -> None:
    member.link.tell("directory", delta=delta.encode().decode())
