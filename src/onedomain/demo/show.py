"""The live table: edges, servers, load, queue, ledger.

Knows how to ask a running edge for its status and how to draw. Does not know what will happen next.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from onedomain.control.link import LinkError, ask
from onedomain.demo.readers import Notices
from onedomain.demo.texts import say

ANSWER_SECONDS = 1.0
"""Who asks about links does it often: the next answer will do as well."""

COLOURS = {"up": "green", "slow": "yellow", "refusing": "red", "silent": "red", "draining": "blue"}


def statuses(controls: Mapping[str, Path]) -> dict[str, dict[str, Any] | None]:
    """Each edge's answer to `status`, None for one that does not answer."""

    async def one(path: Path) -> dict[str, Any] | None:
        try:
            answer: dict[str, Any] = await ask(str(path), "status", timeout=2.0)
            return answer
        except (OSError, LinkError):
            return None

    async def every() -> list[dict[str, Any] | None]:
        return await asyncio.gather(*(one(path) for path in controls.values()))

    return dict(zip(controls, asyncio.run(every()), strict=True))


def unsettled(answer: dict[str, Any]) -> int:
    """Messages in the queue, accounts of which not all is on the new primary yet, promotions and returns that are open.

    1 more where it is not known.
    """
    queue, failover = answer["queue"], answer.get("failover") or {}
    opened = int(failover.get("pending", 0)) + sum(map(int, failover.get("unreturned", {}).values()))
    unknown = int(bool(answer.get("links", {}).get("error")))
    return int(queue["messages"]) + int(queue["net_moving"]) + opened + unknown


def ages(controls: Iterable[Path], accounts: Sequence[str]) -> dict[str, float]:
    """By account: what was answered more than so many seconds ago is on its replica, as the first edge that knows says.
    Without those that have no link at the moment, or one that has not been whole.
    """

    async def first() -> list[dict[str, Any]]:
        for path in controls:
            try:
                rows: list[dict[str, Any]] = await ask(
                    str(path), "link_list", timeout=ANSWER_SECONDS, limit=len(accounts), accounts=list(accounts))
                return rows
            except (OSError, LinkError):
                continue
        return []

    return {row["account"]: row["whole_ago"] for row in asyncio.run(first()) if row["whole_ago"] is not None}


class Tally:
    """What the senders' ledger says so far; reads only what has been added since."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""
        self.began = self.acked = self.refused = self.unknown = 0
        self.rate = 0.0
        self._last = (time.monotonic(), 0)

    def update(self) -> None:
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
                self._offset += len(data)
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                self._count(json.loads(line))
        now, (then, before) = time.monotonic(), self._last
        if now - then >= 1:
            self.rate = (self.acked - before) / (now - then)
            self._last = (now, self.acked)

    def _count(self, line: dict[str, Any]) -> None:
        state = line.get("state")
        if state is None:
            self.began += 1
        elif state == "acked":
            self.acked += 1
        elif state == "refused":
            self.refused += 1
        else:
            self.unknown += 1


def draw(answers: Mapping[str, dict[str, Any] | None], tally: Tally, notices: Notices, now: str) -> Group:
    """What is seen: three tables and the line that says what is going on."""
    edges = _table("edge", "sessions", "queue", "oldest")
    for name, answer in answers.items():
        if answer is None:
            edges.add_row(name, Text(say("down"), "red"), "", "")
        else:
            queue = answer["queue"]
            oldest = f"{queue['oldest']:.1f} s" if queue["messages"] else ""
            edges.add_row(name, str(sum(answer["sessions"].values())), str(queue["messages"]), oldest)
    servers = _table("server", "verdict", "ms", "in flight", "waiting")
    for row in _servers(answers):
        servers.add_row(*row)
    ledger = _table(say("acked"), say("pending"), say("refused"), say("rate"), say("looked"), say("away"),
                    say("slowest"))
    ledger.add_row(str(tally.acked), str(tally.unknown), str(tally.refused), f"{tally.rate:.0f}", str(notices.looks),
                   str(notices.turned_away), f"{notices.slowest:.1f} s")
    return Group(edges, "", servers, "", ledger, "", Text(now, "bold"))


def _servers(answers: Mapping[str, dict[str, Any] | None]) -> list[list[str | Text]]:
    """One row per server: the verdict of the first edge that answers, work and waiting of all edges."""
    live = [answer for answer in answers.values() if answer is not None]
    rows: list[list[str | Text]] = []
    for server in live[0]["servers"] if live else []:
        same = [one for answer in live for one in answer["servers"] if one["name"] == server["name"]]
        rows.append([
            server["name"], Text(server["verdict"], COLOURS.get(server["verdict"], "")),
            f"{server['seconds'] * 1000:.1f}", str(sum(one["in_flight"] for one in same)),
            str(sum(one["waiting"] for one in same)),
        ])
    return rows


def _table(*heads: str) -> Table:
    made = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        made.add_column(head, min_width=12)
    return made
