"""The stage of the demonstration as a theatre: three nodes and two edges that the drill starts itself.

Knows the stage. Does not know what is done to it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from onedomain.demo.show import ages, statuses, unsettled
from onedomain.demo.stage import PASSWORD, Actor, Stage
from onedomain.drill.filters import Filters, Left
from onedomain.drill.plan import Way
from onedomain.drill.theatre import Door, Player
from onedomain.ledger.verify import Mailbox


@dataclass(frozen=True)
class _Part:
    stage: Stage
    actor: Actor
    ways: Collection[Way]

    def take(self, way: Way) -> None:
        if way is Way.KILL:
            self.actor.kill()
        else:
            self.actor.pause()

    def give(self, way: Way) -> None:
        if way is Way.KILL:
            self.actor.start()
        else:
            self.actor.resume()
        self.stage.await_ready(self.actor)


class OwnStage:
    """A theatre.Theatre."""

    password = PASSWORD
    filters = Filters()

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.servers: Mapping[str, Player] = {name: _Part(stage, actor, (Way.KILL, Way.STOP))
                                              for name, actor in stage.nodes.items()}
        # Stopped in the middle of a change an edge would keep the file with the directory locked for the other.
        self.edges: Mapping[str, Player] = {name: _Part(stage, actor, (Way.KILL,))
                                            for name, actor in stage.edges.items()}
        ports = stage.ports
        self.doors: Sequence[Door] = [Door(edge.name, edge.address, ports["smtp"], ports["imap"], ports["pop3"])
                                      for edge in stage.edges.values()]
        self.people: Sequence[str] = [person.address for person in stage.people]
        self._controls = {name: stage.config(name).parent / "state" / "control.sock" for name in stage.edges}

    def homes(self) -> dict[str, str]:
        return self._stage.homes()

    def mailboxes(self) -> list[Mailbox]:
        return self._stage.mailboxes()

    def waiting(self) -> int | None:
        answers = list(statuses(self._controls).values())
        return None if None in answers else sum(map(unsettled, filter(None, answers)))

    def ages(self) -> Mapping[str, float]:
        return ages(self._controls.values(), self.people)

    def world(self) -> list[Left]:
        return []
