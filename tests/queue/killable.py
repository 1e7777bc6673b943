"""A small edge to be killed: spool and dispatcher on a real disk, a far server that is a file, its words on stdout.

    python -m tests.queue.killable DIRECTORY SLOT MESSAGES

Takes over the other slot's spool first. Dies where ONEDOMAIN_CRASH_AT says, else ends when its queue is empty. "net"
has a replica that never gets anything; "moved" has one that becomes its primary in the middle of the first life.
"""

from __future__ import annotations

import asyncio
import email
import os
import sys
import time
from collections.abc import Collection, Sequence

from onedomain.backend.base import Attempt, Found, Lookup
from onedomain.backend.link.base import Letter
from onedomain.decision.link.actions import Copied
from onedomain.decision.retry import Patience, Pauses
from onedomain.model.account import Account, Home
from onedomain.model.failure import give_up
from onedomain.model.message import DELIVERY_ID_HEADER, Delivery, Envelope, Outcome, State, Target
from onedomain.model.replica import Identity
from onedomain.model.server import Endpoint, Server
from onedomain.protocol.message.stamp import build_delivery_id
from onedomain.queue import crash, doubt, rescue, tidy
from onedomain.queue import net as net_module
from onedomain.queue.dispatch import Dispatcher
from onedomain.queue.limits import SpoolLimits
from onedomain.queue.net import Net, NetLimits
from onedomain.queue.quiet import NoChanges, NoCount
from onedomain.queue.rescue import Rescue
from onedomain.queue.spool import Spool
from onedomain.store.disk import RealDisk
from tests.queue.fakes import ListTrace
from tests.queue.simulation import SimBoard, SimView

NOWHERE = Endpoint("127.0.0.1", 1)
MOVED = "moved@example.com"
SECOND = Home("s1", (), 2)


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
        self._path = path if name == "s0" else f"{path}-{name}"

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
                    outcomes[index] = Outcome(State.DONE, self.server.name, "250 ok")
            await asyncio.sleep(0.001)
        return outcomes

    async def find(self, account: Account, delivery_id: str, *, since: float | None = None) -> Lookup:
        return Lookup(Found.YES if self.has(account, delivery_id) else Found.NO)

    def has(self, account: Account, delivery_id: str) -> bool:
        with open(self._path, "ab+") as file:
            file.seek(0)
            return f"{account.address} {delivery_id}\n".encode() in file.read()

    def add(self, account: Account, delivery_id: str) -> None:
        with open(self._path, "ab", buffering=0) as file:
            file.write(f"{account.address} {delivery_id}\n".encode())


class FileEnd:
    """A link's end of one account there."""

    def __init__(self, backend: FileBackend, account: Account) -> None:
        self._backend = backend
        self._account = account

    async def find(self, deliveries: Collection[str]) -> frozenset[str]:
        return frozenset(one for one in deliveries if self._backend.has(self._account, one))

    async def append(self, folder: str, letters: Sequence[Letter]) -> tuple[Copied, ...]:
        for letter in letters:
            head = email.message_from_bytes(letter.raw)
            self._backend.add(self._account, head[DELIVERY_ID_HEADER])
        return tuple(Copied(0, Identity("")) for _ in letters)

    async def close(self, *, broken: bool = False) -> None:
        pass


class FileEnds:
    def __init__(self, backends: dict[str, FileBackend]) -> None:
        self._backends = backends

    async def end(self, account: Account) -> FileEnd:
        return FileEnd(self._backends[account.home.primary], account)


async def main(directory: str, slot: int, messages: int) -> None:
    doubt.CONFIRM_AFTER = rescue.CONFIRM_AFTER = 0.05  # type: ignore[misc]
    net_module.LOOK_EVERY = net_module.PAUSE = 0.05  # type: ignore[misc]
    tidy.COPY_EVERY = 0.0  # type: ignore[misc]
    points = crash.crash_points(os.environ)
    clock, nonce, trace = RealClock(), RealNonce(), ListTrace()
    spool = await Spool.open(
        f"{directory}/{slot}", disk=RealDisk(), clock=clock, nonce=nonce, trace=trace, crash_points=points,
        limits=SpoolLimits(inline=3000, chunk=1000, fresh=0, room=0, segment=20_000),
    )
    await spool.adopt(f"{directory}/{1 - slot}")
    backends = {name: FileBackend(f"{directory}/far", name) for name in ("s0", "s1")}
    backends["smarthost"] = backends["s0"]
    has_moved = os.path.exists(f"{directory}/moved")
    view = SimView({
        "user@example.com": "s0", "refused@example.com": "s0", "late@example.com": "down",
        "net@example.com": Home("s0", ("s1",)), MOVED: SECOND if has_moved else Home("s0", ("s1",))})
    board = SimBoard()
    board.down.add("down")
    dispatcher = Dispatcher(
        spool, view, board, backends.__getitem__, edge="edge.example.com", clock=clock, nonce=nonce, trace=trace,
        patience=Patience(doubt=Pauses(0.05, 0.1), recipient=Pauses(0.05, 0.1)), crash_points=points,
    )
    net = Net(spool, view, clock=clock, trace=trace, count=NoCount(), limits=NetLimits(aside_after=0.1))
    saving = Rescue(
        spool, net, view, board, FileEnds(backends), clock=clock, nonce=nonce, trace=trace, changes=NoChanges(),
        count=NoCount(), crash_points=points)  # type: ignore[arg-type]
    net.rescue = saving.wanted
    net.start()
    dispatcher.start()
    for number in range(messages):
        name = {3: "refused", 6: "late", 4: "net", 8: "moved"}.get(number % 10, "user")
        if number == 39 and not has_moved:
            await asyncio.sleep(0.3)
            open(f"{directory}/moved", "w").close()
            view.homes[MOVED] = SECOND
            net.account_changed(MOVED)
        draft = spool.draft()
        await draft.write(build_delivery_id(draft.id))
        await draft.write(b"Subject: x\r\n\r\n" + os.urandom(200 if number % 5 else 4000))
        address = f"{name}@example.com"
        await draft.commit(Envelope("sender@example.net", (Target(address, address, address),)))
        os.write(1, f"{name} {draft.id}\n".encode())
        points.reach(crash.AFTER_250)
        if number % 10 == 9:
            await asyncio.sleep(0.06)
    if not messages:
        view.homes |= {"late@example.com": "s0", MOVED: SECOND}
        net.account_changed(MOVED)
        dispatcher.reroute()
        async with asyncio.timeout(30):
            while spool.entries or net.to_rescue(MOVED):
                await asyncio.sleep(0.02)
        for entry in spool.netted.values():
            os.write(1, f"held {entry.id}\n".encode())
    else:
        await asyncio.sleep(0.3)
    await dispatcher.stop()
    net.stop()
    await saving.stop()
    await spool.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
