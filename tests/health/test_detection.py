"""How soon a real server's death is seen: killed, stopped, cut off; and how soon it is trusted again."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from onedomain.backend.mailserver import Tools
from onedomain.backend.registry import make_backend
from onedomain.health.board import Board
from onedomain.health.prober import Prober
from onedomain.model.health import Verdict
from onedomain.model.server import Endpoint, LoginWay, Server
from onedomain.net.tls import ClientContexts
from tests.backend.contract import Chance
from tests.lab.netns import Network

pytestmark = pytest.mark.real

WORKS = (Verdict.UP, Verdict.SLOW)


class RealClock:
    def monotonic(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time()


def configured(lab: Any) -> Server:
    return Server(
        "mail1", "dovecot", Endpoint(lab.host, lab.imap_port), Endpoint(lab.host, lab.lmtp_port),
        login_way=LoginWay.MASTER, master_user=lab.master_user, master_password=lab.master_password,
        probe_accounts=("probe@example.com",),
    )  # fmt: skip


@contextlib.asynccontextmanager
async def watched(server: Server) -> AsyncIterator[Board]:
    board = Board([server], RealClock())
    backend = make_backend(server, Tools(ClientContexts(), board, Chance(), "edge.example"))
    prober = Prober(board, {server.name: backend}.__getitem__, random.random)
    prober.configure([server])
    task = asyncio.create_task(prober.run())
    await until(lambda: board.load("mail1", "imap").seconds > 0 and board.load("mail1", "delivery").seconds > 0, 10)
    await asyncio.sleep(1 + random.random())  # anywhere in the rhythm
    yield board
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await backend.close()


async def until(condition: Callable[[], bool], limit: float) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < limit
        await asyncio.sleep(0.005)
    return time.monotonic() - began


def is_down(board: Board, verdict: Verdict) -> Callable[[], bool]:
    return lambda: board.verdict("mail1", "imap") is board.verdict("mail1", "delivery") is verdict


async def test_a_kill_is_seen_within_a_second(dovecot: Any) -> None:
    async with watched(configured(dovecot)) as board:
        assert board.verdict("mail1") in WORKS
        began = time.monotonic()
        await asyncio.to_thread(dovecot.kill)
        await until(is_down(board, Verdict.REFUSING), 5)
        seconds = time.monotonic() - began
        print(f"\nkill -9 seen after {seconds:.3f} s")
        assert seconds <= 1.0
        await asyncio.to_thread(dovecot.start)
        seconds = await until(lambda: board.verdict("mail1") in WORKS, 10)
        print(f"return seen after {seconds:.3f} s")
        assert seconds <= 3.0


async def test_a_stop_is_seen_within_five_seconds(dovecot: Any) -> None:
    async with watched(configured(dovecot)) as board:
        await asyncio.to_thread(dovecot.pause)
        try:
            seconds = await until(is_down(board, Verdict.SILENT), 10)
        finally:
            await asyncio.to_thread(dovecot.resume)
        print(f"\nSIGSTOP seen after {seconds:.3f} s")
        assert seconds <= 5.0
        seconds = await until(lambda: board.verdict("mail1") in WORKS, 10)
        print(f"SIGCONT seen after {seconds:.3f} s")


@pytest.fixture
def network() -> Iterator[Network]:
    network = Network("far")
    yield network
    network.close()


async def test_dropped_packets_are_seen_within_eight_seconds(
    network: Network, start_dovecot: Callable[..., Any]
) -> None:
    far = network["far"]
    lab = await asyncio.to_thread(start_dovecot, host=far.address, namespace=far.namespace)
    async with watched(configured(lab)) as board:
        network.cut("far")
        seconds = await until(is_down(board, Verdict.SILENT), 12)
        print(f"\ndropped packets seen after {seconds:.3f} s")
        assert seconds <= 8.0
        network.mend("far")
        seconds = await until(lambda: board.verdict("mail1") in WORKS, 15)
        print(f"mended line seen after {seconds:.3f} s")
    await asyncio.to_thread(lab.kill)
