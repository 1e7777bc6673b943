"""What is played: mail flows, a node is killed and another takes its place, an edge is killed, everything is counted.

Knows the order of events. Does not know how processes are started (stage) nor how it is shown (show).
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, RenderableType
from rich.live import Live

from onedomain.demo.readers import Readers
from onedomain.demo.show import Tally, draw, statuses, unsettled
from onedomain.demo.stage import DOMAIN, PASSWORD, Actor, Stage
from onedomain.demo.texts import say
from onedomain.ledger.verify import Report, verify

DRAIN_SECONDS = 60.0
REDRAW = 0.5
FOLLOW_SECONDS = 6.0


@dataclass(frozen=True)
class Pace:
    """Seconds from the beginning; messages per second from outside, and from inside."""

    node_dies: float = 5.0
    node_returns: float = 12.0
    edge_dies: float = 17.0
    edge_returns: float = 20.0
    ends: float = 28.0
    outside: float = 40.0
    inside: float = 5.0


@dataclass(frozen=True)
class Ending:
    """`left` messages stayed in the queue; `report` is the ledger's."""

    report: Report
    left: int

    @property
    def clean(self) -> bool:
        return self.report.ok and self.left == 0


class Scenario:
    def __init__(self, stage: Stage, console: Console, pace: Pace) -> None:
        self._stage = stage
        self._console = console
        self._pace = pace
        self._ledger = stage.folder / "ledger.jsonl"
        self._tally = Tally(self._ledger)
        self._controls = {name: stage.config(name).parent / "state" / "control.sock" for name in stage.edges}
        doors = [(edge.address, stage.ports["imap"], stage.ports["pop3"]) for edge in stage.edges.values()]
        people = [person.address for person in stage.people]
        self.readers = Readers(doors, people, PASSWORD)
        self._now = say("flowing")

    def play(self) -> Ending:
        """Raises StageError if something that was killed does not come back."""
        victim, edge = self._stage.nodes["node-branch"], self._stage.edges["edge-1"]
        senders = [self._send_from_outside(), self._send_from_inside()]
        self.readers.start()
        began = time.monotonic()
        acts: list[tuple[float, Callable[[], None]]] = [
            (self._pace.node_dies, lambda: self._kill_and_follow(victim)),
            (self._pace.node_returns, lambda: self._return(victim)),
            (self._pace.edge_dies, lambda: self._kill(edge)),
            (self._pace.edge_returns, lambda: self._return(edge)),
        ]
        try:
            with self._shown():
                for when, act in acts:
                    time.sleep(max(0.0, began + when - time.monotonic()))
                    act()
                for sender in senders:
                    sender.wait(self._pace.ends + 120)
                self._say("stopped")
                left = self._drain()
        finally:
            self.readers.stop()
            for sender in senders:
                sender.kill()
                sender.wait()
        self._console.print(say("counting"))
        return Ending(verify(self._ledger, self._stage.mailboxes()), left)

    # -- acts

    def _kill(self, actor: Actor) -> None:
        actor.kill()
        self._say("killed", name=actor.name)

    def _kill_and_follow(self, node: Actor) -> None:
        """Says when the people of the node are served by another one."""
        self._kill(node)
        died = time.monotonic()
        while time.monotonic() < died + FOLLOW_SECONDS:
            for answer in statuses(self._controls).values():
                for each in (answer or {}).get("failover", {}).get("recent", ()):
                    if each["from"] == node.name and each["settled"] == each["accounts"]:
                        self._say("followed", name=node.name, to=each["to"], count=each["accounts"],
                                  seconds=time.monotonic() - died)
                        return
            time.sleep(0.1)

    def _return(self, actor: Actor) -> None:
        actor.start()
        self._stage.await_ready(actor)
        self._say("back", name=actor.name)

    def _say(self, key: str, **fields: object) -> None:
        self._now = say(key, **fields)
        self._console.print(self._now)

    def _send_from_outside(self) -> subprocess.Popen[bytes]:
        people = [word for person in self._stage.people for word in ("--to", person.address)]
        return self._load("outside", "smtp", self._pace.outside, *people, "--sessions", "8",
                          "--recipients-per-message", "3", "--max-size", "100000", "--seed", "1")

    def _send_from_inside(self) -> subprocess.Popen[bytes]:
        people = [word for person in self._stage.people for word in ("--to", person.address)]
        sender = self._stage.people[0].address
        return self._load("inside", "submission", self._pace.inside, *people, "--sessions", "2", "--seed", "2",
                          "--max-size", "20000", "--sender", sender, "--login", f"{sender}:{PASSWORD}")

    def _load(self, name: str, protocol: str, rate: float, *words: str) -> subprocess.Popen[bytes]:
        targets = [f"{edge.address}:{self._stage.ports[protocol]}" for edge in self._stage.edges.values()]
        with (self._stage.folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "onedomain.ledger.load", *targets, "--ledger", str(self._ledger), "--persistent",
                 "--rate", str(rate), "--duration", str(self._pace.ends), "--timeout", "30", "--json", *words],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def _drain(self) -> int:
        """Waits until no edge has anything in its queue; how much was left when patience ended."""
        until = time.monotonic() + DRAIN_SECONDS
        while True:
            answers = statuses(self._controls)
            left = sum(unsettled(answer) if answer else 1 for answer in answers.values())
            if left == 0 or time.monotonic() > until:
                return left
            time.sleep(0.1)

    # -- what is seen

    @contextlib.contextmanager
    def _shown(self) -> Iterator[None]:
        """The live table on a terminal; elsewhere only the lines that say what happened."""
        ended = threading.Event()
        if not self._console.is_terminal:
            yield
            return
        with Live(self._picture(), console=self._console, refresh_per_second=1 / REDRAW) as live:
            painter = threading.Thread(target=self._paint, args=(live.update, ended), daemon=True)
            painter.start()
            try:
                yield
            finally:
                ended.set()
                painter.join(10)

    def _paint(self, update: Callable[[RenderableType], None], ended: threading.Event) -> None:
        while not ended.wait(REDRAW):
            update(self._picture())

    def _picture(self) -> RenderableType:
        self._tally.update()
        return draw(statuses(self._controls), self._tally, self.readers.notices, self._now)


def save(ending: Ending, readers: Readers, path: Path) -> None:
    """The outcome as JSON, beside the ledger."""
    path.write_text(json.dumps({"clean": ending.clean, "left_in_queue": ending.left, **ending.report.as_json(),
                                "readers": vars(readers.notices)}, indent=2, ensure_ascii=False))


def connect_text(stage: Stage) -> str:
    """How to reach it with one's own mail program."""
    edges = f" {say('connect_or')} ".join(edge.address for edge in stage.edges.values())
    config = next(stage.config(edge) for edge in stage.edges)
    return "\n".join([
        say("connect"),
        f"  {say('connect_server')}: {edges}",
        f"  {say('connect_ports', **stage.ports)}",
        f"  {say('connect_user')}: hanako@{DOMAIN}, {PASSWORD}",
        say("connect_look"),
        f"  onedomain status --config {config}",
        f"  onedomain trace hanako@{DOMAIN} --config {config}",
        say("end"),
    ])
