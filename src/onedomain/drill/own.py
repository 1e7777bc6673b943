"""The stage of the demonstration as a theatre: three nodes and two edges that the drill starts itself.

Knows the stage. Does not know what is done to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onedomain.demo.show import statuses, unsettled
from onedomain.demo.stage import PASSWORD, Actor, Stage
from onedomain.drill.theatre import Cable, Door, Player
from onedomain.ledger.verify import Mailbox


@dataclass(frozen=True)
class _Part:
    stage: Stage
    actor: Actor

    def kill(self) -> None:
        self.actor.kill()

    def start(self) -> None:
        self.actor.start()
        self.stage.await_ready(self.actor)

    def pause(self) -> None:
        self.actor.pause()

    def resume(self) -> None:
        self.actor.resume()


class OwnStage:
    """A theatre.Theatre."""

    cable: Cable | None = None
    password = PASSWORD

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.servers: Mapping[str, Player] = {name: _Part(stage, actor) for name, actor in stage.nodes.items()}
        self.edges: Mapping[str, Player] = {name: _Part(stage, actor) for name, actor in stage.edges.items()}
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
