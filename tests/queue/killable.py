"""A small edge to be killed: spool and dispatcher on a real disk, a far server that is a file, its words on stdout.

    python -m tests.queue.killable DIRECTORY SLOT MESSAGES

Takes over the other slot's spool first. Dies where ONEDOMAIN_CRASH_AT says, else ends when its queue is empty.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time

from onedomain.backend.base import Attempt, Found, Lookup
from onedomain.decision.retry import Patience, Pauses
from onedomain.model.account import Account
from onedomain.model.failure import give_up
from onedomain.model.message import Delivery, Envelope, Outcome, State, Target
from onedomain.model.server import Endpoint, Server
from onedomain.queue import crash, dispatch, doubt, tidy
from onedomain.queue.dispatch import Dispatcher
from onedomain.queue.limits import SpoolLimits
from onedomain.queue.spool import Spool
from onedomain.store.disk import RealDisk
from tests.queue.fakes import ListTrace
from tests.queue.simulation import SimBoard, SimView

NOWHERE = Endpoint("127.0.0.1", 1)


class RealClock:
    def monotonic(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time()


class RealNonce:
    def token(self, size: int) -> bytes:
        return os.urandom(size)

    def random(self) -> float:
        return 0.5


class FileBackend:
    """One line `mailbox id` for each message it has. Refuses "refused@example.com" for good."""

    can_find = True
    in_flight = 0

    def __init__(self, path: str, name: str) -> None:
        self.server = Server(name, "imap", NOWHERE, NOWHERE, max_deliveries=4)
        self._path = path

    async def deliver(self, delivery: Delivery, attempt: Attempt) -> dict[int, Outcome]:
        outcomes: dict[int, Outcome] = {}
        refusal = Outcome(State.FAILED, "s0", "550 no", give_up(550, "5.1.1", "no"))
        taken = [(index, mailbox) for index, mailbox in delivery.recipients if not mailbox.startswith("refused")]
        outcomes = {index: refusal for index, _ in delivery.recipients}
        if taken:
            size = 0
            while part := await delivery.body.read(size, 1 << 16):
                size += len(part)
            assert size == delivery.body.size
            await attempt()
            with open(self._path, "ab", buffering=0) as file:
                for index, mailbox in taken:
                    file.write(f"{mailbox} {delivery.id}\n".encode())
                    outcomes[index] = Outcome(State.DONE, "s0", "250 ok")
            await asyncio.sleep(0.001)
        return outcomes

    async def find(self, account: Account, delivery_id: str, *, since: float | None = None) -> Lookup:
        with open(self._path, "ab+") as file:
            file.seek(0)
            there = f"{account.address} {delivery_id}\n".encode() in file.read()
        return Lookup(Found.YES if there else Found.NO)


async def main(directory: str, slot: int, messages: int) -> None:
    doubt.CONFIRM_AFTER = dispatch.CONFIRM_AFTER = 0.05  # type: ignore[misc]
    tidy.COPY_EVERY = 0.0  # type: ignore[misc]
    points = crash.crash_points(os.environ)
    clock, nonce, trace = RealClock(), RealNonce(), ListTrace()
    spool = await Spool.open(
        f"{directory}/{slot}", disk=RealDisk(), clock=clock, nonce=nonce, trace=trace, crash_points=points,
        limits=SpoolLimits(inline=3000, chunk=1000, fresh=0, room=0, segment=20_000),
    )
    await spool.adopt(f"{directory}/{1 - slot}")
    backends = {name: FileBackend(f"{directory}/far", name) for name in ("s0", "smarthost")}
    view = SimView({"user@example.com": "s0", "refused@example.com": "s0", "late@example.com": "down"})
    board = SimBoard()
    board.down.add("down")
    dispatcher = Dispatcher(
        spool, view, board, backends.__getitem__, edge="edge.example.com", clock=clock, nonce=nonce, trace=trace,
        patience=Patience(doubt=Pauses(0.05, 0.1), recipient=Pauses(0.05, 0.1)), crash_points=points,
    )
    dispatcher.start()
    for number in range(messages):
        name = "refused" if number % 7 == 3 else "late" if number % 10 == 6 else "user"
        draft = spool.draft()
        await draft.write(b"Subject: x\r\n\r\n" + os.urandom(200 if number % 5 else 4000))
        address = f"{name}@example.com"
        await draft.commit(Envelope("sender@example.net", (Target(address, address, address),)))
        os.write(1, f"{name} {draft.id}\n".encode())
        points.reach(crash.AFTER_250)
        if number % 10 == 9:
            await asyncio.sleep(0.06)
    if not messages:
        view.homes["late@example.com"] = "s0"
        dispatcher.reroute()
        async with asyncio.timeout(30):
            while spool.entries:
                await asyncio.sleep(0.02)
    else:
        await asyncio.sleep(0.3)
    await dispatcher.stop()
    await spool.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
