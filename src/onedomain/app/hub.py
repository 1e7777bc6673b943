"""Where workers and the linker meet: the keeper hands events on to the linker that is active, on this edge or on
another, and brings back what it says.

Knows workers, the own linker, and one line to the edge whose linker is active. Keeps nothing: what does not arrive is
told again, as workers keep it until it is covered. Does not know what any of it means.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from onedomain.control.link import Handler, Link, LinkError, SilentLink
from onedomain.model.ports import Trace

ANSWER_SECONDS = 10.0
READY_SECONDS = 10.0
"""As long as a worker waits for it: an answer that nobody waits for any more would have to be kept in mind."""
REDIAL = (0.2, 5.0)
VERBS = ("link_pairs", "link_list", "link_show", "link_retry", "link_accept", "link_compare", "failover", "promote")


class Workers(Protocol):
    """app/crew.py, as it is seen here: the links to workers by slot, and to the linker."""

    @property
    def workers(self) -> Mapping[int, Link]: ...
    @property
    def linker(self) -> Link | None: ...


Dial = Callable[[str, Mapping[str, Handler]], Awaitable[tuple[Link, asyncio.Task[None]]]]
"""A lasting link to another edge, by its name. Raises LinkError, OSError."""


class Hub:
    def __init__(self, name: str, crew: Workers, dial: Dial, alert: Callable[[str, str, str], None],
                 trace: Trace) -> None:
        self._name = name
        self._crew = crew
        self._dial = dial
        self._alert = alert
        self._trace = trace
        self.leader = ""
        self._changed = asyncio.Event()
        self._up: Link | None = None           # to the edge whose linker is active
        self._edges: dict[str, Link] = {}      # of edges that use ours
        self._stopped: list[str] = []
        self._asking: set[asyncio.Task[None]] = set()

    # -- handlers, by who calls

    def own(self) -> dict[str, Handler]:
        """Workers and linker of this edge."""
        return {"touched": self._touched, "ready": self._ready, "trying": self._asked("trying"),
                "leader": self._take_leader,
                "covered": self._covered, "released": self._released, "links": self._links, "alerts": self._alerts}

    def peers(self) -> dict[str, Handler]:
        """Other edges, whose linkers are idle."""
        asked: dict[str, Handler] = {f"hub_{verb}": self._asked(verb) for verb in VERBS}
        return {"hub_hello": self._peer_hello, "hub_touched": self._peer_touched, "hub_net": self._peer_net,
                "hub_ready": self._peer_ready, "hub_trying": self._asked("trying"), "hub_lost": self._peer_lost,
                **asked}

    def operator(self) -> dict[str, Handler]:
        return {verb: self._asked(verb) for verb in VERBS if verb != "link_pairs"}

    def _from_leader(self) -> dict[str, Handler]:
        return {"hub_covered": self._covered, "hub_released": self._released, "hub_links": self._links,
                "hub_refresh": self._peer_refresh}

    # -- up: to the linker

    @property
    def _leads(self) -> bool:
        return self.leader == self._name

    def _tell_up(self, verb: str, **arguments: Any) -> None:
        if self._leads:
            if self._crew.linker is not None:
                self._crew.linker.tell(verb, **arguments)
        elif self._up is not None:
            self._up.tell(f"hub_{verb}", **arguments)

    async def ask(self, verb: str, *, timeout: float = ANSWER_SECONDS, **arguments: Any) -> Any:
        """Of the active linker, wherever it is. Raises LinkError."""
        link = self._crew.linker if self._leads else self._up
        if link is not None:
            try:
                return await link.call(verb if self._leads else f"hub_{verb}", timeout=timeout, **arguments)
            except SilentLink:
                raise LinkError(f"the linker of {self.leader} does not answer") from None
        raise LinkError(f"no linker is active{f', {self.leader} is to have it' if self.leader else ''}")

    def _asked(self, verb: str) -> Handler:
        async def handler(link: Link, **arguments: Any) -> Any:
            return await self.ask(verb, **arguments)

        return handler

    async def _touched(self, link: Link, events: list[Any]) -> None:
        slot = link.attached.get("slot")
        if slot is not None:
            self._tell_up("touched", edge=self._name, slot=slot, events=events)

    async def _ready(self, link: Link, account: str) -> Any:
        return await self.ask("ready", timeout=READY_SECONDS, account=account)

    async def _peer_touched(self, link: Link, edge: str, slot: int, events: list[Any]) -> None:
        self._tell_up("touched", edge=edge, slot=slot, events=events)

    async def _peer_net(self, link: Link, edge: str, slot: int, held: dict[str, Any]) -> None:
        self._tell_up("net", edge=edge, slot=slot, held=held)

    async def _peer_ready(self, link: Link, account: str) -> Any:
        return await self.ask("ready", timeout=READY_SECONDS, account=account)

    # -- down: to the workers

    def _tell_workers(self, verb: str, **arguments: Any) -> None:
        for link in self._crew.workers.values():
            link.tell(verb, **arguments)

    async def _covered(self, link: Link, items: list[list[Any]]) -> None:
        away: dict[str, list[Any]] = defaultdict(list)
        workers = self._crew.workers
        for edge, slot, account, ticket in items:
            if edge != self._name:
                away[edge].append([edge, slot, account, ticket])
            elif (worker := workers.get(slot)) is not None:
                worker.tell("covered", account=account, ticket=ticket)
        self._tell_edges("hub_covered", away)

    async def _released(self, link: Link, items: list[list[Any]]) -> None:
        """Without a place: to all workers of all edges."""
        away: dict[str, list[Any]] = defaultdict(list)
        workers = self._crew.workers
        for edge, slot, account, confirmed, consumed, epoch in items:
            found = [workers[slot]] if edge == self._name and slot in workers else []
            if not edge:
                found = list(workers.values())
                for name in self._edges if link is self._crew.linker else ():
                    away[name].append([edge, slot, account, confirmed, consumed, epoch])
            elif edge != self._name:
                away[edge].append([edge, slot, account, confirmed, consumed, epoch])
            for worker in found:
                worker.tell("released", account=account, confirmed=confirmed, consumed=consumed, epoch=epoch)
        self._tell_edges("hub_released", away)

    def _tell_edges(self, verb: str, away: dict[str, list[Any]]) -> None:
        for name, items in away.items():
            if (edge := self._edges.get(name)) is not None:
                edge.tell(verb, items=items)

    async def _links(self, link: Link, stopped: list[str]) -> None:
        self._stopped = stopped
        self._tell_workers("links", stopped=stopped)
        if link is self._crew.linker:
            for edge in self._edges.values():
                edge.tell("hub_links", stopped=stopped)

    async def _alerts(self, link: Link, items: list[list[str]]) -> None:
        for account, folder, text in items:
            self._alert(account, folder, text)

    # -- who is there

    @property
    def told(self) -> list[str]:
        """Edges that tell our linker what happens at them, with this one; nobody where it is not active."""
        return sorted((self._name, *self._edges)) if self._leads else []

    def left(self) -> None:
        """A worker of ours is no more. What it did and did not tell nobody tells."""
        self._tell_up("lost", edge=self._name)

    async def _peer_lost(self, link: Link, edge: str) -> None:
        self._tell_up("lost", edge=edge)

    def joined(self, slot: int) -> None:
        """A worker is new: it hears which links have stopped, and says what its net holds."""
        if (worker := self._crew.workers.get(slot)) is not None:
            worker.tell("links", stopped=self._stopped)
            self._ask_net(slot, worker)

    def _ask_net(self, slot: int, worker: Link) -> None:
        async def ask() -> None:
            try:
                held = await worker.call("net", timeout=ANSWER_SECONDS, account="")
            except LinkError:
                return  # it is gone; the next one is asked when it joins
            if held:
                self._tell_up("net", edge=self._name, slot=slot, held=held)

        task = asyncio.get_running_loop().create_task(ask())
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    def _refresh(self) -> None:
        """The linker knows nothing: all workers tell all that they have."""
        for slot, worker in self._crew.workers.items():
            worker.tell("retell")
            self._ask_net(slot, worker)

    async def _peer_refresh(self, link: Link) -> None:
        self._refresh()

    async def _take_leader(self, link: Link, edge: str) -> None:
        if link is not self._crew.linker:
            return
        if edge != self.leader:
            self._trace.note("linker", leader=edge)
            self.leader = edge
            self._changed.set()
        if self._leads:
            self._refresh()
            for peer in self._edges.values():
                peer.tell("hub_refresh")

    async def _peer_hello(self, link: Link, edge: str) -> None:
        """Raises LinkError where ours is not the active one: the caller asks its linker again who is."""
        if not self._leads:
            raise LinkError(f"the active linker is not at {self._name}")
        if edge in self._edges:
            self._tell_up("lost", edge=edge)  # the line before may have been dead for a while
        self._edges[edge] = link
        link.attached["edge"] = edge
        link.tell("hub_links", stopped=self._stopped)
        link.tell("hub_refresh")

    def peer_left(self, link: Link) -> None:
        edge = link.attached.get("edge")
        if edge is not None and self._edges.get(edge) is link:
            del self._edges[edge]
            self._tell_up("lost", edge=edge)

    async def run(self) -> None:
        """Until cancelled: a line to the edge whose linker is active, if that is another."""
        pause = REDIAL[0]
        while True:
            self._changed.clear()
            leader = self.leader
            if leader and leader != self._name:
                joined = await self._stay(leader)
                pause = REDIAL[0] if joined else min(2 * pause, REDIAL[1])
            try:
                async with asyncio.timeout(pause):
                    await self._changed.wait()
                    pause = REDIAL[0]
            except TimeoutError:
                pass  # dialled again

    async def _stay(self, leader: str) -> bool:
        """As long as the line holds and `leader` is the one; whether it ever did."""
        try:
            link, serving = await self._dial(leader, self._from_leader())
        except (OSError, LinkError, TimeoutError) as error:
            self._trace.note("no line to the linker", leader=leader, reason=str(error))
            return False
        watching = asyncio.create_task(self._changed.wait())
        try:
            # From the first answer on its news may come: the line has to be there before.
            self._up = link
            await link.call("hub_hello", timeout=ANSWER_SECONDS, edge=self._name)
            await asyncio.wait([serving, watching], return_when=asyncio.FIRST_COMPLETED)
            return True
        except LinkError as error:
            self._trace.note("no line to the linker", leader=leader, reason=str(error))
            return False
        finally:
            self._up = None
            watching.cancel()
            link.close()
            serving.cancel()
