"""Before an old copy is let go of: what is compared again, what is a loss, and how much of it is kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from onedomain.model.failure import Failed, again
from onedomain.model.move import Count, Entry, Move, Report
from onedomain.model.replica import FolderLink, LinkState, Run
from onedomain.replica.comparison import Line, Verdict, compare
from onedomain.replica.dropping import AFTER_FAILURE, AGAIN, AT_ONCE, KEPT, Dropping
from tests.health.virtual import VirtualClock, run
from tests.simulation.ends import ServerEnd
from tests.simulation.server import Server

ANN = Move("ann@example.com", "old", "new", keep=False, at=7.0)
SAME = Line("INBOX", 1, 1, Verdict.SAME)
FLAG = Line("INBOX", 2, 2, Verdict.FLAGS, "\\Seen here,  there")
AWAY = Failed(again(451, "4.3.0", "away", "the server is away"))

Answer = Sequence[Line] | Failed | None


class World:
    """Answers one look after the other; None: it never ends."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[float, str, Mapping[str, Collection[int]] | None]] = []
        self.kept: list[tuple[Move, Report]] = []
        self.notes: list[dict[str, Any]] = []
        self.running = 0
        self.dropping = Dropping(self.compare, self.keep, lambda: 1000.0, self)

    async def compare(
        self, account: str, only: Mapping[str, Collection[int]] | None
    ) -> AsyncGenerator[Line, None]:
        self.asked.append((VirtualClock().monotonic(), account, only))
        self.running += 1
        try:
            answer = self.answers.pop(0)
            if answer is None:
                await asyncio.Event().wait()
                raise AssertionError
            if isinstance(answer, Failed):
                raise answer
            for line in answer:
                yield line
        finally:
            self.running -= 1

    async def keep(self, move: Move, report: Report) -> None:
        self.kept.append((move, report))

    def note(self, event: str, **fields: Any) -> None:
        self.notes.append({"event": event, **fields})


def played(world: World, seconds: float = 100.0, then: Callable[[], None] = lambda: None) -> str:
    async def play() -> str:
        told = world.dropping.compare(ANN)
        await asyncio.sleep(seconds)
        then()
        await world.dropping.stop()
        return told

    return run(play())


def test_what_is_the_same_is_looked_at_once() -> None:
    world = World([SAME, Line("Sent", 1, 0, Verdict.MISSING), Line("Sent", 2, 0, Verdict.REFUSED, "large")])
    assert played(world) == "compared message by message"
    [(move, report)] = world.kept
    assert move == ANN and len(world.asked) == 1
    counts = (Count("same", 1), Count("missing", 1), Count("refused", 1))
    entries = (Entry("Sent", 1, 0, "missing"), Entry("Sent", 2, 0, "refused", "large"))
    assert report == Report(1000.0, 2, counts, 0, entries), "missing at the old server is no loss"
    assert [(note["event"], note["differ"], note["same"]) for note in world.notes] == [("move compared", 0, 1)]


def test_what_is_on_its_way_is_looked_at_again() -> None:
    """Only the messages that differed, and what was counted of them before is forgotten."""
    sent = Line("Sent", 5, 5, Verdict.SAME)
    world = World([SAME, FLAG, sent], [FLAG], [Line("INBOX", 2, 2, Verdict.SAME)])
    played(world)
    [(_, report)] = world.kept
    assert (report.counts, report.differ, report.entries) == ((Count("same", 3),), 0, ())
    assert [only for _, _, only in world.asked] == [None, {"INBOX": {2}}, {"INBOX": {2}}]
    assert [round(at - world.asked[0][0]) for at, _, _ in world.asked] == [0, 1, 3]


def test_what_stays_different_is_a_loss() -> None:
    every = [FLAG, Line("INBOX", 0, 3, Verdict.ONLY_THERE), Line("INBOX", 4, 4, Verdict.BYTES),
             Line("INBOX", 5, 5, Verdict.DATE)]
    world = World(*[every] * len(AGAIN))
    played(world)
    [(_, report)] = world.kept
    assert report.differ == 4 and len(report.entries) == 4 and not report.cut and not world.answers


def test_a_report_is_bounded() -> None:
    many = [Line("INBOX", 0, uid, Verdict.ONLY_THERE) for uid in range(1, KEPT + 500)]
    world = World(*[many] * len(AGAIN))
    played(world)
    [(_, report)] = world.kept
    assert (report.differ, len(report.entries), report.cut) == (KEPT + 499, KEPT, True)


def test_a_failure_is_told_and_tried_again_later() -> None:
    world = World(AWAY, [SAME])

    async def play() -> None:
        world.dropping.compare(ANN)
        await asyncio.sleep(1)
        assert world.dropping.compare(ANN) == "not compared: the server is away"
        await asyncio.sleep(AFTER_FAILURE - 2)
        assert len(world.asked) == 1
        await asyncio.sleep(2)
        world.dropping.compare(ANN)
        await asyncio.sleep(1)
        assert len(world.kept) == 1 and world.dropping.compare(ANN) == "compared message by message"
        await world.dropping.stop()

    run(play())


def test_few_at_once_and_all_are_cut_off_at_the_end() -> None:
    world = World(None, None, None)

    async def play() -> None:
        moves = [Move(f"{number}@example.com", "old", "new", keep=False) for number in range(AT_ONCE + 1)]
        for _ in range(3):
            told = [world.dropping.compare(move) for move in moves]
            await asyncio.sleep(1)
        assert told[-1] == "waiting for its turn to be compared" and world.running == AT_ONCE == len(world.asked)
        began = VirtualClock().monotonic()
        await world.dropping.stop()
        assert VirtualClock().monotonic() - began < 1 and not world.running, "their log-ins are given back"

    run(play())


class Busy(World):
    """Two servers with what they hold. At each look one message more is read at the home before the old server has it
    as read, too; and while bytes are read mail comes, which has other UIDs at the old server.
    """

    def __init__(self) -> None:
        super().__init__()
        self.home, self.old = Server("node", 1000), Server("node", 5000)
        for server in (self.home, self.old):
            server.create("Lists")
            for uid in range(1, 201):
                server.append("INBOX", f"Message-ID: <{uid}>\r\n\r\nx".encode(), frozenset(), 7, uid)
        self.state = LinkState(1, (FolderLink("INBOX", "INBOX"), FolderLink("Lists", "Lists")))
        self.seen, self.bytes_of = 0, 0

    async def compare(
        self, account: str, only: Mapping[str, Collection[int]] | None
    ) -> AsyncGenerator[Line, None]:
        self.asked.append((VirtualClock().monotonic(), account, only))
        ends = ServerEnd(self.home, step=self.at_home), ServerEnd(self.old, step=self.at_the_old)
        async for line in compare(*ends, lambda: self.state, octets=True, only=only):
            self.bytes_of += line.target_uid > 0
            yield line

    def at_home(self, question: str) -> None:
        if question == "read":
            self.seen += 1
            self.home.store("INBOX", self.seen, frozenset({"\\Seen"}))

    def at_the_old(self, question: str) -> None:
        if question == "read":
            for uid in range(1, self.seen + 1):
                self.old.store("INBOX", uid, frozenset({"\\Seen"}))
        elif question == "identities":
            uid = self.home.boxes["Lists"].uidnext
            self.home.append("Lists", b"new", frozenset(), 7, uid)
            self.old.append("Lists", b"new", frozenset(), 7, uid + 5000)
            inbox, lists = self.state.folders
            self.state = LinkState(1, (inbox, replace(lists, runs=(*lists.runs, Run(uid, uid + 5000)))))


def test_people_who_go_on_working_do_not_keep_the_old_copy() -> None:
    """There is something that differs at each look, and never twice the same."""
    world = Busy()
    played(world)
    [(_, report)] = world.kept
    assert (report.differ, [each.verdict for each in report.entries]) == (0, [])
    assert len(world.asked) == 2 and world.bytes_of < 210, "of what was the same nothing is read again"
