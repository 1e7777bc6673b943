"""Rows of `make bench-sync`: an account's first copy, a look when nothing has changed, and one new message on its way.

Cost is that of the tool and of both servers together: who lets a server do the work does not get it for nothing.
"""

from __future__ import annotations

import imaplib
import smtplib
import threading
import time
from collections.abc import Callable
from functools import partial

from tests.lab.cyrus import Cyrus
from tests.lab.dovecot import Dovecot

from bench.dialogue import message
from bench.figure import Figure, percentile
from bench.row import Row, Target, scaled
from bench.stage import US, Contender, Stage
from bench.sync_tools import TOOLS, Lab, Pair, Tool
from bench.watcher import PATIENCE, Watcher

MESSAGES, SIZE = 1000, 10 << 10
FOLDERS, EACH = 100, 10
CHECKS = 20  # the kernel counts a process's time in steps of up to 10 ms
LAGS = 10
NAMES = {"dovecot": ("mbsync", "dsync", US), "cyrus": ("mbsync", US)}
"""dsync 2.3 can't write to Cyrus over IMAP: it gives up at folders with a special use."""
ACL = "  acl_user = %u\n"
"""Without it Dovecot shows a master user nothing of a user's folders where the acl plugin is on."""


class SyncContender(Contender):
    """With the tool, and accounts of its own for every measurement."""

    pair: Pair
    tool: Tool

    __slots__ = ("pair", "tool")

    def fresh(self, stage: Stage) -> str:
        stage.turn += 1
        user = f"b{stage.turn}@example.com"
        for lab in (self.pair.source, self.pair.target):
            lab.prepare(user)
        return user

    def run(self, user: str, told: str = "") -> tuple[float, float]:
        """(seconds, CPU seconds of the tool and both servers)."""
        seconds, spent, _ = self.run_apart(user, told)
        return seconds, spent

    def run_apart(self, user: str, told: str = "") -> tuple[float, float, float]:
        """The same, and the tool's own CPU seconds of it."""
        before, began = self.cpu(), time.perf_counter()
        own = self.tool.once(user, told)
        return time.perf_counter() - began, self.cpu() - before + own, own


def _start(target: str, stage: Stage, name: str) -> Contender:
    def make() -> Contender:
        source = Dovecot(stage.new_folder("d"), plugins=ACL)
        other: Lab
        other = Dovecot(stage.new_folder("d"), plugins=ACL) if target == "dovecot" else Cyrus(stage.new_folder("c"))
        made = SyncContender(name, source, {}, (other,))
        object.__setattr__(made, "pair", Pair(source, other, stage.new_folder("s")))
        return made

    contender = stage.get(f"sync {target} {name}", make)
    assert isinstance(contender, SyncContender)
    if not hasattr(contender, "tool"):
        tool = TOOLS[name](contender.pair)
        stage.callback(tool.close)
        object.__setattr__(contender, "tool", tool)
    return contender


def _fill(session: imaplib.IMAP4, folder: str, count: int, size: int) -> None:
    body = message(size)[:-3]
    for number in range(count):
        unique = b"X-Number: %d\r\n" % number + body
        status, answer = session.append(folder, "(\\Seen)" if number % 2 else None, None, unique)  # type: ignore[arg-type]
        if status != "OK":
            raise RuntimeError(f"APPEND: {answer}")


def _count(lab: Lab, user: str, folders: list[str]) -> int:
    session = lab.imap(user)
    try:
        return sum(int(session.select(folder, readonly=True)[1][0] or b"0") for folder in folders)
    finally:
        session.logout()


def _first_copy(stage: Stage, contender: Contender, scale: float) -> Figure:
    assert isinstance(contender, SyncContender)
    user, count = contender.fresh(stage), scaled(MESSAGES, scale, 20)
    session = contender.pair.source.imap(user)
    _fill(session, "INBOX", count, SIZE)
    session.logout()
    seconds, spent = contender.run(user)
    if (there := _count(contender.pair.target, user, ["INBOX"])) != count:
        raise RuntimeError(f"{there} of {count} messages have arrived")
    return Figure(cost=spent / count * 1000, rate=count / seconds, note=f"{seconds:.2f} s")


def _no_change(stage: Stage, contender: Contender, scale: float) -> Figure:
    assert isinstance(contender, SyncContender)
    user, count = contender.fresh(stage), scaled(FOLDERS, scale, 5)
    session = contender.pair.source.imap(user)
    folders = [f"Folder{number}" for number in range(count)]
    for folder in folders:
        session.create(folder)
        session.subscribe(folder)
        _fill(session, folder, EACH, 1000)
    session.logout()
    contender.run(user)
    contender.run(user)  # some need a second look before they believe that nothing has changed
    if (there := _count(contender.pair.target, user, folders)) != count * EACH:
        raise RuntimeError(f"{there} of {count * EACH} messages have arrived")
    taken = [contender.run_apart(user) for _ in range(CHECKS)]
    own = sum(each for _, _, each in taken) / len(taken) * 1000
    return Figure(
        cost=sum(spent for _, spent, _ in taken) / len(taken) * 1000,
        p50=percentile([seconds for seconds, _, _ in taken], 0.5) * 1000,
        p99=max(seconds for seconds, _, _ in taken) * 1000,
        note=f"{own:.1f} ms of it the tool's own",
    )


def _lag(stage: Stage, contender: Contender, scale: float) -> Figure:
    """The tool is told as soon as the server has said 250: nothing is read off meters in between. So the delivery's own
    cost is in the figure, the same for everybody.
    """
    assert isinstance(contender, SyncContender)
    user, trials = contender.fresh(stage), scaled(LAGS, scale, 3)
    contender.run(user)
    watcher, body = Watcher(contender.pair.target.imap(user)), message(SIZE)[:-3]
    lags: list[float] = []
    own, before = 0.0, contender.cpu()
    try:
        for number in range(1, trials + 1):
            seen: list[float] = []
            watching = threading.Thread(target=partial(_note, seen, partial(watcher.until, number)))
            _deliver(contender.pair.source, user, b"X-Number: %d\r\n" % number + body)
            began = time.perf_counter()
            watching.start()
            own += contender.tool.once(user, "INBOX")
            watching.join(PATIENCE)
            if not seen:
                raise RuntimeError(f"message {number} has not arrived")
            lags.append(seen[0] - began)
    finally:
        watcher.close()
    spent = contender.cpu() - before + own
    return Figure(cost=spent / trials * 1000, p50=percentile(lags, 0.5) * 1000, p99=max(lags) * 1000)


def _note(seen: list[float], wait: Callable[[], float]) -> None:
    seen.append(wait())


def _deliver(lab: Dovecot, user: str, raw: bytes) -> None:
    with smtplib.LMTP(lab.host, lab.lmtp_port, local_hostname="bench.example.com", timeout=30) as session:
        session.sendmail("a@example.net", [user], raw)


def _rows(target: str) -> list[Row]:
    title = f"Dovecot to {target.capitalize()}"
    faster, lag = (5.0, 10.0) if target == "dovecot" else (10.0, 25.0)
    return [
        Row(f"copy-{target}", f"First copy of 1,000 messages of 10 KB, {title}", "CPU-s per 1,000 messages",
            NAMES[target],
            partial(_start, target), _first_copy, targets=(Target(("mbsync",), faster, "rate"),), rounds=3),
        Row(f"check-{target}", f"A look at 100 folders in which nothing has changed, {title}", "ms CPU", NAMES[target],
            partial(_start, target), _no_change, rounds=2),
        Row(f"lag-{target}", f"From the 250 of a delivery until the copy can be read, {title}", "ms CPU per message",
            NAMES[target], partial(_start, target), _lag, targets=(Target((), lag, "p50"),), rounds=2,
            leave=Stage.drop_all),
    ]  # fmt: skip


ROWS = [*_rows("dovecot"), *_rows("cyrus")]
