"""Edges that ask each other: one that is off the network costs nobody else's answer."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path

from onedomain.app.peers import Peers
from onedomain.app.real import RealClock
from onedomain.control.link import Link, LinkError
from onedomain.control.peer import DIAL_SECONDS, identity
from onedomain.directory.repository import Edge, Repository
from onedomain.store.sql import Database
from tests.lab.ports import free_port


class Quiet:
    def note(self, event: str, **fields: object) -> None:
        pass


async def test_an_edge_that_is_silent_does_not_cost_the_answers_of_the_others(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/d.db"
    database = await Database.open(url)

    async def observe(link: Link, server: str) -> str:
        return f"{server} is silent"

    def peers(name: str) -> Peers:
        (tmp_path / name).mkdir()
        me = identity(tmp_path / name, name, time.time())
        return Peers(me, f"127.0.0.1:{free_port()}", None, lambda: Database.open(url), {"observe": observe},
                     clock=RealClock(), trace=Quiet())

    with socket.create_server(("127.0.0.1", 0)) as deaf:  # takes connections and never says a word
        (tmp_path / "c").mkdir()
        third = identity(tmp_path / "c", "c", time.time())
        row = Edge("c", f"127.0.0.1:{deaf.getsockname()[1]}", third.certificate, time.time())
        await Repository(database, RealClock()).put_edge(row)
        asking, answering = peers("a"), peers("b")
        running = [asyncio.create_task(each.run()) for each in (asking, answering)]
        try:
            async with asyncio.timeout(20):
                while not isinstance((await asking.ask("observe", within=0.3, server="s1")).get("b"), str):
                    await asyncio.sleep(0.05)  # they have not found each other yet
            async with asyncio.timeout(DIAL_SECONDS - 0.5):
                answers = await asking.ask("observe", within=1.0, server="s1")
            assert answers["b"] == "s1 is silent" and isinstance(answers["c"], LinkError)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await database.close()
