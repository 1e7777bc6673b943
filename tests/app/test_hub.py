"""Workers and the one active linker of the domain, over two edges: who hears what, whoever comes, goes or moves.

Links are real ones over socket pairs; what stands at their far ends only remembers what it is told.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from onedomain.app import hub as module
from onedomain.app.hub import Hub
from onedomain.control.link import Handler, Link, LinkError
from tests.queue.fakes import ListTrace

ANN, BOB = "ann@example.com", "bob@example.com"


async def until(happened: Callable[[], Any], what: str) -> None:
    async with asyncio.timeout(30):
        while not happened():
            await asyncio.sleep(0.002)
    assert happened(), what


class Far:
    """A worker or a linker, as its keeper sees it. `net`: what its safety net holds; `answers`: by verb."""

    def __init__(self, net: dict[str, Any] | None = None) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.net = net or {}
        self.answers: dict[str, Any] = {}
        self.link: Any = None

    def handlers(self) -> Mapping[str, Handler]:
        far = self

        class Any_(dict[str, Handler]):
            def get(self, verb: str, default: Any = None) -> Any:
                async def take(link: Link, **said: Any) -> Any:
                    far.told.append((verb, said))
                    if verb == "net" and not said.get("held"):
                        return far.net
                    answer = far.answers.get(verb)
                    if isinstance(answer, asyncio.Event):
                        await answer.wait()
                        return True
                    if isinstance(answer, Exception):
                        raise answer
                    return answer

                return take

        return Any_()

    def said(self, verb: str) -> list[dict[str, Any]]:
        return [said for name, said in self.told if name == verb]


class Domain:
    """Edges by name, and the wires between them."""

    def __init__(self) -> None:
        self.edges: dict[str, Station] = {}
        self.tasks: list[asyncio.Task[Any]] = []
        self.links: list[Link] = []
        self.cut: set[str] = set()

    async def wire(self, near: Mapping[str, Handler], far: Mapping[str, Handler],
                   ended: Callable[[Link], None] = lambda link: None) -> tuple[Link, Link, asyncio.Task[None]]:
        ends = socket.socketpair()
        links = []
        for sock, handlers in zip(ends, (near, far), strict=True):
            reader, writer = await asyncio.open_connection(sock=sock)
            links.append(Link(reader, writer, handlers))
        serving = [asyncio.create_task(link.serve()) for link in links]
        serving[1].add_done_callback(lambda task: ended(links[1]))
        self.tasks += serving
        self.links += links
        return links[0], links[1], serving[0]

    def edge(self, name: str) -> Station:
        station = self.edges[name] = Station(name, self)
        return station

    async def close(self) -> None:
        for link in self.links:
            link.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


class Station:
    """One edge: a hub, what it takes for its crew, and its run."""

    def __init__(self, name: str, domain: Domain) -> None:
        self.name, self.domain = name, domain
        self.workers: dict[int, Link] = {}
        self.linker: Link | None = None
        self.alerts: list[tuple[str, str, str]] = []
        self.trace = ListTrace()
        self.hub = Hub(name, self, self._dial, lambda *alert: self.alerts.append(alert), self.trace)
        domain.tasks.append(asyncio.create_task(self.hub.run()))

    async def _dial(self, name: str, handlers: Mapping[str, Handler]) -> tuple[Link, asyncio.Task[None]]:
        if name in self.domain.cut or name not in self.domain.edges:
            raise OSError(f"no way to {name}")
        other = self.domain.edges[name].hub
        near, _, serving = await self.domain.wire(handlers, other.peers(), other.peer_left)
        return near, serving

    async def join(self, slot: int, net: dict[str, Any] | None = None) -> Far:
        far = Far(net)
        far.link, near, _ = await self.domain.wire(far.handlers(), self.hub.own())
        near.attached["slot"] = slot
        self.workers[slot] = near
        self.hub.joined(slot)
        return far

    async def link_up(self) -> Far:
        far = Far()
        far.link, self.linker, _ = await self.domain.wire(far.handlers(), self.hub.own())
        return far


@pytest.fixture
async def domain(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Domain]:
    monkeypatch.setattr(module, "REDIAL", (0.01, 0.05))
    domain = Domain()
    yield domain
    await domain.close()


@asynccontextmanager
async def two(domain: Domain) -> AsyncIterator[tuple[Station, Station, Far, Far, Far, Far]]:
    """Edges a and b with a worker each; a's linker is the active one, and b knows it."""
    a, b = domain.edge("a"), domain.edge("b")
    wa, wb = await a.join(0), await b.join(0)
    la, lb = await a.link_up(), await b.link_up()
    la.link.tell("leader", edge="a")
    lb.link.tell("leader", edge="a")
    await until(lambda: wb.said("retell") and wa.said("retell"), "all are asked to tell what they have")
    yield a, b, wa, wb, la, lb


async def test_events_reach_the_active_linker_from_both_edges(domain: Domain) -> None:
    async with two(domain) as (_a, _b, wa, wb, la, lb):
        wa.link.tell("touched", events=[[1, ANN, "delivery", "INBOX", ["id1"]]])
        wb.link.tell("touched", events=[[2, BOB, "flags", "Sent", []]])
        await until(lambda: len(la.said("touched")) == 2, "both")
        assert sorted((one["edge"], one["slot"], one["events"][0][1]) for one in la.said("touched")) == [
            ("a", 0, ANN), ("b", 0, BOB)]
        assert not lb.said("touched"), "an idle linker is told nothing"


async def test_what_is_covered_goes_only_to_the_worker_that_told_it(domain: Domain) -> None:
    async with two(domain) as (_a, b, wa, wb, la, _lb):
        other = await b.join(1)
        la.link.tell("covered", items=[["a", 0, ANN, 7], ["b", 1, BOB, 8], ["b", 5, BOB, 9], ["gone", 0, BOB, 9]])
        await until(lambda: wa.said("covered") and other.said("covered"), "each its own")
        assert wa.said("covered") == [{"account": ANN, "ticket": 7}]
        assert other.said("covered") == [{"account": BOB, "ticket": 8}]
        assert not wb.said("covered")


async def test_what_is_released_without_a_place_goes_to_all_workers_of_all_edges_once(domain: Domain) -> None:
    async with two(domain) as (_a, _b, wa, wb, la, _lb):
        la.link.tell("released", items=[["", 0, ANN, ["id1"], [], 3], ["b", 0, BOB, [], ["id2"], 1]])
        await until(lambda: wa.said("released") and len(wb.said("released")) == 2, "all")
        await la.link.call("alerts", items=[])  # whatever was under way has come
        everywhere = {"account": ANN, "confirmed": ["id1"], "consumed": [], "epoch": 3}
        assert wa.said("released") == [everywhere]
        assert wb.said("released") == [everywhere, {"account": BOB, "confirmed": [], "consumed": ["id2"], "epoch": 1}]


async def test_stopped_links_are_known_everywhere_and_to_whoever_comes_later(domain: Domain) -> None:
    async with two(domain) as (_a, b, _wa, wb, la, _lb):
        la.link.tell("links", stopped=[ANN])
        await until(lambda: [ANN] in [s["stopped"] for s in wb.said("links")], "the other edge's worker")
        late = await b.join(3)
        await until(lambda: late.said("links"), "a new worker")
        assert late.said("links") == [{"stopped": [ANN]}]
        third = domain.edge("c")
        wc, lc = await third.join(0), await third.link_up()
        lc.link.tell("leader", edge="a")
        await until(lambda: {"stopped": [ANN]} in wc.said("links"), "a new edge")


async def test_all_the_people_of_a_server_may_wait_for_their_promotions(domain: Domain) -> None:
    """At once, from both edges; and whoever asks for something else meanwhile is answered, too."""
    async with two(domain) as (a, _b, wa, wb, la, _lb):
        done = la.answers["ready"] = asyncio.Event()
        waiting = [asyncio.create_task(worker.link.call("ready", account=f"{number}@example.com"))
                   for number in range(2000) for worker in (wa, wb)]
        await until(lambda: len(la.said("ready")) == 4000 or any(each.done() for each in waiting), "all ask")
        la.answers["link_pairs"] = ["pair"]
        assert await a.hub.ask("link_pairs") == ["pair"]
        done.set()
        assert await asyncio.gather(*waiting) == [True] * 4000


async def test_the_net_of_every_worker_is_told_to_a_linker_that_begins(domain: Domain) -> None:
    a, b = domain.edge("a"), domain.edge("b")
    held = {ANN: [["id1", 1.0]]}
    await a.join(0, held)
    await b.join(2, held)
    la, lb = await a.link_up(), await b.link_up()
    la.link.tell("leader", edge="a")
    lb.link.tell("leader", edge="a")
    await until(lambda: {("a", 0), ("b", 2)} <= {(one["edge"], one["slot"]) for one in la.said("net")}, "both nets")
    assert all(one["held"] == held for one in la.said("net"))
    await b.join(3, {BOB: [["id2", 1.0]]})
    await until(lambda: ("b", 3) in {(one["edge"], one["slot"]) for one in la.said("net")}, "a worker that comes later")


async def test_a_worker_asks_whoever_is_active_and_hears_its_error(domain: Domain) -> None:
    async with two(domain) as (_a, b, wa, wb, la, _lb):
        la.answers["ready"] = True
        assert await wa.link.call("ready", account=ANN) is True
        assert await wb.link.call("ready", account=BOB) is True
        assert [one["account"] for one in la.said("ready")] == [ANN, BOB]
        la.answers["trying"] = False
        assert await wa.link.call("trying", account=ANN) is False
        assert await wb.link.call("trying", account=BOB) is False
        assert [one["account"] for one in la.said("trying")] == [ANN, BOB]
        la.answers["link_list"] = [{"account": ANN}]
        assert await b.hub.ask("link_list", troubled=True) == [{"account": ANN}]
        assert la.said("link_list") == [{"troubled": True}]
        la.answers["link_list"] = LinkError("the links do not run here at the moment")
        with pytest.raises(LinkError, match="do not run here"):
            await b.hub.ask("link_list")


async def test_nobody_active_is_said_at_once(domain: Domain) -> None:
    a = domain.edge("a")
    worker = await a.join(0)
    with pytest.raises(LinkError, match="no linker is active"):
        await worker.link.call("ready", account=ANN)
    la = await a.link_up()
    la.link.tell("leader", edge="b")
    await until(lambda: a.hub.leader == "b", "it is another edge's")
    with pytest.raises(LinkError, match="b is to have it"):
        await worker.link.call("ready", account=ANN)


async def test_when_the_leader_moves_everybody_tells_the_new_one(domain: Domain) -> None:
    async with two(domain) as (_a, _b, wa, wb, la, lb):
        before = len(wa.said("retell")), len(wb.said("retell"))
        la.link.tell("leader", edge="b")  # a's linker has lost the lease to b's
        lb.link.tell("leader", edge="b")
        await until(lambda: len(wb.said("retell")) > before[1], "b's workers")
        await until(lambda: len(wa.said("retell")) > before[0], "a's workers")
        wa.link.tell("touched", events=[[9, ANN, "delivery", "INBOX", []]])
        await until(lambda: lb.said("touched"), "a's events come to b")
        assert lb.said("touched")[-1]["edge"] == "a"
        assert 9 not in [event[0] for one in la.said("touched") for event in one["events"]]


async def test_an_edge_that_believes_an_old_leader_is_told_no_and_tries_again(domain: Domain) -> None:
    a, b = domain.edge("a"), domain.edge("b")
    wa = await a.join(0)
    la, lb = await a.link_up(), await b.link_up()
    la.link.tell("leader", edge="b")  # which does not know it yet
    await until(lambda: any(event == "no line to the linker" for event, _ in a.trace.events), "told no")
    lb.link.tell("leader", edge="b")
    await until(lambda: wa.said("retell"), "tried again")


async def test_a_line_that_breaks_is_made_again_and_everything_is_told_anew(domain: Domain) -> None:
    async with two(domain) as (a, b, _wa, wb, la, _lb):
        told = len(wb.said("retell"))
        domain.cut.add("a")
        b.hub._up.close()  # type: ignore[union-attr]
        await until(lambda: b.hub._up is None, "gone")
        with pytest.raises(LinkError, match="no linker is active"):
            await wb.link.call("ready", account=BOB)
        await until(lambda: not a.hub._edges, "the active edge forgets it")
        domain.cut.clear()
        await until(lambda: len(wb.said("retell")) > told, "told anew")
        la.answers["ready"] = True
        assert await wb.link.call("ready", account=BOB) is True


async def test_the_linker_hears_whose_news_may_be_missing(domain: Domain) -> None:
    """A worker that died, an edge whose line broke or had been dead: what they did may not have been told."""
    async with two(domain) as (a, b, _wa, _wb, la, lb):
        assert a.hub.told == ["a", "b"] and b.hub.told == [], "nobody tells an idle linker"
        assert not la.said("lost")
        a.hub.left()
        b.hub.left()
        await until(lambda: len(la.said("lost")) == 2, "both")
        assert la.said("lost") == [{"edge": "a"}, {"edge": "b"}] and not lb.said("lost")
        near, _, _ = await domain.wire({}, a.hub.peers(), a.hub.peer_left)
        await near.call("hub_hello", edge="b")
        await until(lambda: len(la.said("lost")) == 3, "it comes on another line, and nobody saw the first one break")
        domain.cut.add("a")
        near.close()
        await until(lambda: len(la.said("lost")) == 4, "it is gone")
        assert a.hub.told == ["a"]


async def test_a_new_keeper_or_linker_hears_everything(domain: Domain) -> None:
    async with two(domain) as (a, _b, wa, wb, la, _lb):
        told = len(wa.said("retell")), len(wb.said("retell"))
        again = await a.link_up()  # a's linker died, its next process says hello
        again.link.tell("leader", edge="a")
        await until(lambda: len(wa.said("retell")) > told[0] and len(wb.said("retell")) > told[1], "all edges")
        la.link.tell("leader", edge="b")
        await la.link.call("alerts", items=[])
        assert a.hub.leader == "a", "the old process is not believed any more"


async def test_alerts_of_the_linker_are_the_edges(domain: Domain) -> None:
    async with two(domain) as (a, b, _wa, _wb, la, _lb):
        la.link.tell("alerts", items=[[ANN, "INBOX", "UIDs went backwards"]])
        await until(lambda: a.alerts, "one")
        assert a.alerts == [(ANN, "INBOX", "UIDs went backwards")] and not b.alerts
