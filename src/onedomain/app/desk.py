"""The operator's verbs at the keeper: status, trace, queue, reload, for this edge and over all edges.

Knows how to gather answers from workers and peers. Does not know how a terminal shows them.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from onedomain import __version__
from onedomain.app.crew import Crew
from onedomain.app.hub import Hub
from onedomain.app.peers import Peers
from onedomain.control.link import Handler, Link, LinkError
from onedomain.directory.book import Book
from onedomain.directory.feed import Feed
from onedomain.health.board import Board
from onedomain.model.ports import Clock
from onedomain.trace.search import search

ACTIONS = ("retry", "hold", "release", "delete")
MAX_EVENTS = 2000
STATUS_SECONDS = 2.0
"""Who asks how things are is told in time, also of what does not answer."""
LIST_SECONDS, ACT_SECONDS = 25.0, 600.0
"""With a million messages waiting; the command line waits 30 seconds, and for an action longer than we do."""

ASIDE = ("aside_page", "aside_read", "aside_restore", "aside_forget")
ASIDE_SECONDS = 600.0
"""Gigabytes may have to be read, or thousands of messages put back."""


class Desk:
    def __init__(self, name: str, log: Path, *, crew: Crew, book: Book, board: Board, feed: Feed, clock: Clock,
                 workers: int, reload: Callable[[], Awaitable[list[str]]]) -> None:
        self._name = name
        self._log = log
        self._crew = crew
        self._book = book
        self._board = board
        self._feed = feed
        self._clock = clock
        self._workers = workers
        self._reload = reload
        self._started = clock.monotonic()
        self.peers: Peers | None = None
        self.hub: Hub | None = None
        self.untold: Callable[[], list[dict[str, str]]] = list

    def operator(self) -> dict[str, Handler]:
        """What the command line may ask over the control socket."""
        return {"status": self._status, "trace": self._trace, "queue_list": self._queue_list,
                "queue_show": self._queue_show, "queue_act": self._queue_act, "reload": self._read_again,
                "aside_list": self._aside_list, **{verb: self._of_own_linker(verb) for verb in ASIDE}}

    def peer(self) -> dict[str, Handler]:
        """What another edge may ask: it may look, and change nothing."""
        return {"status": self._own_status_for_peer, "trace": self._own_trace_for_peer,
                "aside_list": self._of_own_linker("aside_list")}

    # -- status

    async def _status(self, link: Link) -> dict[str, Any]:
        own, others, links = await asyncio.gather(self._own_status(), self._ask_peers("status"), self._links())
        own["links"] = links
        own["failover"] = links.pop("failover", {})
        own["differences"] = [asdict(each) for each in self.peers.differences] if self.peers is not None else []
        own["peers"] = [answer if isinstance(answer, dict) else {"edge": name, "error": str(answer)}
                        for name, answer in others.items()]
        return own

    async def _links(self) -> dict[str, Any]:
        """Of all links of the domain, from wherever they run."""
        if not any(account.home.replicas for account in self._book.accounts()):
            return {"pairs": []}
        try:
            assert self.hub is not None
            pairs, failover = await asyncio.gather(self.hub.ask("link_pairs", timeout=STATUS_SECONDS),
                                                   self.hub.ask("failover", timeout=STATUS_SECONDS))
            return {"pairs": pairs, "failover": failover, "at": self.hub.leader}
        except LinkError as error:
            return {"pairs": [], "error": str(error)}

    async def _own_status_for_peer(self, link: Link) -> dict[str, Any]:
        return await self._own_status()

    async def _own_status(self) -> dict[str, Any]:
        figures = await self._crew.figures(STATUS_SECONDS)
        sessions: Counter[str] = Counter()
        waiting: Counter[str] = Counter()
        queue: dict[str, Any] = {"messages": 0, "bytes": 0, "oldest": 0.0, "in_doubt": 0, "trouble": [],
                                 "net": 0, "net_bytes": 0, "net_aside": 0, "net_oldest": 0.0, "net_moving": 0}
        rescued: Counter[tuple[str, str]] = Counter()
        for one in figures.values():
            rescued.update({(before, server): count for before, server, count in one["rescued"]})
            sessions.update(one["sessions"])
            waiting.update(one["queue"]["waiting"])
            for key in ("messages", "bytes", "in_doubt", "net", "net_bytes", "net_aside", "net_moving"):
                queue[key] += one["queue"][key]
            for key in ("oldest", "net_oldest"):
                queue[key] = max(queue[key], one["queue"][key])
            if one["queue"]["trouble"]:
                queue["trouble"].append(one["queue"]["trouble"])
        return {
            "edge": self._name,
            "version": __version__,
            "uptime": self._clock.monotonic() - self._started,
            "workers": [{"slot": slot, "pid": one["pid"], "sessions": sum(one["sessions"].values()),
                         "queue": one["queue"]["messages"]} for slot, one in sorted(figures.items())],
            "silent": [slot for slot in range(self._workers) if slot not in figures],
            "processes": {"keeper": os.getpid(), "linker": self._crew.linker_pid},
            "sessions": dict(sessions),
            "queue": queue,
            "rescued": [{"from": before, "to": server, "messages": count}
                        for (before, server), count in sorted(rescued.items())],
            "directory": {"accounts": len(self._book), "seq": self._book.seq, "age": self._feed.age,
                          "source": self._feed.source, "trouble": self._feed.trouble},
            "servers": self._servers(waiting),
            "alerts_untold": self.untold(),
        }

    def _servers(self, waiting: Counter[str]) -> list[dict[str, Any]]:
        accounts = Counter(account.home.primary for account in self._book.accounts())
        shown = self._board.snapshot()["servers"]
        found = []
        for server in self._book.servers():
            entry = shown.get(server.name)
            if entry is None:
                continue
            # The face that gave the server its verdict says why.
            worst = max(entry["faces"].values(), key=lambda f: (f["verdict"] == entry["verdict"], f["seconds"]))
            found.append({
                "name": server.name, "kind": server.kind, "class": server.class_.value, "verdict": entry["verdict"],
                "since": worst["age"], "reason": worst["reason"], "in_flight": entry["in_flight"],
                "seconds": max(face["seconds"] for face in entry["faces"].values()), "faces": entry["faces"],
                "waiting": waiting[server.name], "accounts": accounts[server.name], "probe_messages": entry["message"],
            })
        return found

    # -- trace

    async def _trace(self, link: Link, needle: str) -> dict[str, Any]:
        own, others = await asyncio.gather(self._own_trace(needle), self._ask_peers("trace", needle=needle))
        events, cut, unreachable = own["events"], own["cut"], {}
        for name, answer in others.items():
            if isinstance(answer, dict):
                events += answer["events"]
                cut = cut or answer["cut"]
            else:
                unreachable[name] = str(answer)
        events.sort(key=lambda event: event.get("time", 0))
        return {"edges": [self._name, *others], "unreachable": unreachable, "events": events[:MAX_EVENTS],
                "cut": cut or len(events) > MAX_EVENTS}

    async def _own_trace_for_peer(self, link: Link, needle: str) -> dict[str, Any]:
        return await self._own_trace(needle)

    async def _own_trace(self, needle: str) -> dict[str, Any]:
        answer = await asyncio.to_thread(search, self._log, needle, limit=MAX_EVENTS)
        return {"events": answer.events, "cut": answer.cut}

    async def _ask_peers(self, verb: str, **arguments: Any) -> dict[str, Any]:
        return await self.peers.ask(verb, **arguments) if self.peers is not None else {}

    # -- what linkers have set aside, each in the state of its own edge

    async def _aside_list(self, link: Link, account: str = "") -> list[dict[str, Any]]:
        others = asyncio.create_task(self._ask_peers("aside_list", account=account))
        rows = [{"edge": self._name, **row} for row in await self._own_linker("aside_list", account=account)]
        for name, answer in (await others).items():
            rows += [{"edge": name, **row} for row in answer] if isinstance(answer, list) else [
                {"edge": name, "error": str(answer)}]
        return rows

    async def _own_linker(self, verb: str, **arguments: Any) -> Any:
        if (linker := self._crew.linker) is None:
            raise LinkError("this edge's linker is not there; it is started again by itself")
        return await linker.call(verb, timeout=ASIDE_SECONDS, **arguments)

    def _of_own_linker(self, verb: str) -> Handler:
        async def handler(link: Link, **arguments: Any) -> Any:
            return await self._own_linker(verb, **arguments)

        return handler

    # -- queue

    async def _queue_list(self, link: Link, limit: int = 100, address: str = "",
                          net: bool = False) -> list[dict[str, Any]]:
        answers = await self._crew.ask("queue_list", timeout=LIST_SECONDS, limit=limit, address=address, net=net)
        entries = [entry for answer in answers for entry in answer]
        return sorted(entries, key=lambda entry: -float(entry["age"]))[:limit]

    async def _queue_show(self, link: Link, queue_id: str) -> dict[str, Any] | None:
        return next((answer for answer in await self._crew.ask("queue_show", queue_id=queue_id) if answer), None)

    async def _queue_act(self, link: Link, action: str, ids: list[str] | None) -> list[str]:
        if action not in ACTIONS:
            raise LinkError(f"unknown action {action!r}; known: {', '.join(ACTIONS)}")
        return [id for answer in await self._crew.ask("queue_act", timeout=ACT_SECONDS, action=action, ids=ids)
                for id in answer]

    async def _read_again(self, link: Link) -> dict[str, Any]:
        return {"restart_needed": await self._reload()}
