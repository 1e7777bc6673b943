"""Our link between two servers as a process of its own: what the linker does for one account, without its events.

    python -m bench.link '{"source": {…}, "target": {…}}'

then lines of an account's name, a tab, and the folder that was told of, or nothing; each is answered by a line of JSON.

A line is one order: passes until one says that everything is there. Figures of the whole linker, with events and lag
bounds, are its own tests'; this is the work that mbsync and dsync do.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections.abc import Collection, Sequence
from typing import Any

import uvloop

from onedomain.backend.link.base import Letter
from onedomain.backend.link.registry import KINDS, make_link_server
from onedomain.backend.mailserver import Tools
from onedomain.decision.link.order import Order
from onedomain.decision.link.sweep import sweep
from onedomain.model.account import Account, Home
from onedomain.model.health import Sighting
from onedomain.model.replica import LinkState, Side
from onedomain.model.server import Endpoint, LoginWay, Server
from onedomain.net.tls import ClientContexts
from onedomain.replica.performer import Performer

MOST_PASSES = 20


class Chance:
    def token(self, size: int) -> bytes:
        return os.urandom(size)

    def random(self) -> float:
        return random.random()


class Eyes:
    def saw(self, sighting: Sighting) -> None:
        """Nobody keeps a board here."""


class Kept:
    """What a plan asks of its own side; a state is written out as JSON would be, so that it costs what it costs."""

    def __init__(self) -> None:
        self.state = LinkState()
        self.alerts: list[str] = []

    async def set_aside(self, side: Side, folder: str, letters: Sequence[Letter], why: str) -> None:
        self.alerts.append(f"{folder}: set aside: {why}")

    async def confirm(self, deliveries: Collection[str]) -> None:
        """No safety net is there."""

    async def whole(self) -> None:
        """Nobody waits."""

    async def save(self, state: LinkState) -> None:
        self.state = state

    async def alert(self, folder: str, text: str) -> None:
        self.alerts.append(f"{folder}: {text}")


def server(table: dict[str, Any]) -> Server:
    ports = {name: Endpoint("127.0.0.1", table[name]) for name in ("imap", "lmtp", "doveadm") if table.get(name)}
    kind = table["kind"] if table["kind"] in KINDS else "imap"
    return Server(
        table["name"], kind, ports["imap"], ports["lmtp"], login_way=LoginWay(table["way"]),
        master_user=table["user"], master_password=table["password"], doveadm=ports.get("doveadm"),
        doveadm_key=table.get("key", ""), replication_user=table.get("replication_user", ""),
        replication_password=table.get("replication_password", ""),
    )  # fmt: skip


async def serve(tables: dict[str, Any]) -> None:
    tools = Tools(ClientContexts(), Eyes(), Chance(), "edge.example")
    source, target = (make_link_server(server(tables[side]), tools) for side in ("source", "target"))
    kept: dict[str, Kept] = {}
    print(json.dumps({"ready": True}), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        name, _, told = line.strip("\n").partition("\t")
        account = Account(name, "all", Home(tables["source"]["name"]))
        if name not in kept:
            kept[name] = Kept()
            await target.provide(account)
        one, other = await source.end(account), await target.end(account)
        performer = Performer(one, other, kept[name])
        for _ in range(MOST_PASSES):
            report = await performer.run(sweep(kept[name].state, one.powers, other.powers, Order(0.0, guess=told)))
            if report.whole or report.stopped:
                break
        await one.close(broken=False)
        await other.close(broken=False)
        print(json.dumps({"whole": report.whole, "stopped": report.stopped, "done": performer.done,
                          "alerts": kept[name].alerts}), flush=True)  # fmt: skip
    await source.close()
    await target.close()


if __name__ == "__main__":
    uvloop.run(serve(json.loads(sys.argv[1])))
