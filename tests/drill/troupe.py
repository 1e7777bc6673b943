"""A theatre.Theatre of real servers in network namespaces, with two edges and a PostgreSQL between them.

Each server and each edge is a host of its own whose cable can be pulled, and so is the database, which can be made
deaf to one edge alone. The Dovecots file, discard, redirect and answer by Sieve. Everything is a process and is spoken
to as outsiders do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from email import message_from_bytes
from pathlib import Path
from typing import Any

from onedomain.demo.show import ages, statuses, unsettled
from onedomain.drill.filters import ANSWERED, REDIRECTED, Filters, Left
from onedomain.drill.plan import Way
from onedomain.drill.theatre import Door
from onedomain.ledger.corpus import TOKEN_HEADER
from onedomain.ledger.verify import Mailbox
from tests.acceptance.cluster import KINDS, PASSWORD, Home, add_accounts
from tests.lab.dovecot import UID, Dovecot
from tests.lab.edge import Edge
from tests.lab.netns import Network
from tests.lab.postgres import Postgres
from tests.lab.process import Server
from tests.lab.sink import Sink

SIEVE = """\
require ["fileinto", "mailbox", "vacation", "variables"];
if header :matches "x-ledger-token" ["*0", "*3"] { fileinto :create "Filed"; }
elsif header :matches "x-ledger-token" "*6" { discard; }
elsif header :matches "x-ledger-token" "*9" { redirect "elsewhere@outside.example"; }
elsif header :matches "x-ledger-token" "*7" { vacation :days 1 :handle "${1}" :subject "away ${1}7" "I am away."; }
"""
FILTERS = Filters(filed=("Filed",), filing="03", discarding="6", redirecting="9", answering="7")
NETS = "127.0.0.0/8 198.18.0.0/15"
"""Whose word servers believe: the tests' and the network's hosts."""
DATABASE = "pg"
OUTSIDE = "out"
FAILOVER = {"failover": {"automatic": True}}


@dataclass(frozen=True)
class Part:
    """A player: a server of the lab on a host of the network; edges need the database."""

    name: str
    server: Server
    network: Network
    edge: bool = False

    @property
    def ways(self) -> Collection[Way]:
        return [way for way in Way if way is not Way.PART or self.edge]

    def take(self, way: Way) -> None:
        match way:
            case Way.KILL:
                self.server.kill()
            case Way.STOP:
                self.server.pause()
            case Way.CUT:
                self.network.cut(self.name)
            case Way.PART:
                self.network.part(DATABASE, self.name)

    def give(self, way: Way) -> None:
        match way:
            case Way.KILL:
                self.server.start()
            case Way.STOP:
                self.server.resume()
            case Way.CUT:
                self.network.mend(self.name)
            case Way.PART:
                self.network.join(DATABASE, self.name)


class Troupe:
    """`pairs`: (kind, name, name of the server with the copies); every one is home to `people` accounts."""

    password = PASSWORD

    def __init__(
        self, folder: Path, pairs: Sequence[tuple[str, str, str]], people: int, make_network: Callable[..., Network],
        stack: ExitStack,
    ) -> None:
        doors = ("e1", "e2")
        network = make_network(*(name for _, name, _ in pairs), *doors, DATABASE, OUTSIDE)
        (folder / OUTSIDE).mkdir(mode=0o755)
        self._world = Sink(folder / OUTSIDE, host=network[OUTSIDE].address, namespace=network[OUTSIDE].namespace)
        stack.callback(self._world.kill)
        self._world.start()
        (folder / "pg").mkdir(mode=0o755)
        host = network[DATABASE]
        self._postgres = Postgres(folder / "pg", host=host.address, namespace=host.namespace, durable=False)
        stack.callback(self._postgres.kill)
        with (self._postgres.data / "pg_hba.conf").open("a") as access:
            access.write(f"host all all {network.gateway}/24 trust\n")
        self._postgres.start()
        self._database = self._postgres.create_database()
        self._homes = {name: self._home(folder, kind, name, network, self._world.port) for kind, name, _ in pairs}
        self._edges = {name: self._edge(folder, name, network) for name in doors}
        self._controls = {name: edge.state / "control.sock" for name, edge in self._edges.items()}
        self.lab: list[Server] = [self._postgres, *(home.lab for home in self._homes.values()), *self._edges.values()]
        for server in self.lab:
            stack.callback(server.kill)
        self.servers: Mapping[str, Part] = {name: Part(name, home.lab, network) for name, home in self._homes.items()}
        self.edges: Mapping[str, Part] = {name: Part(name, edge, network, edge=True)
                                          for name, edge in self._edges.items()}
        self.doors: Sequence[Door] = [Door(name, edge.host, edge.port["smtp"], edge.port["imap"], edge.port["pop3"])
                                      for name, edge in self._edges.items()]
        accounts = {f"{name}-{n}@example.com": name for _, name, _ in pairs for n in range(people)}
        self.people: Sequence[str] = list(accounts)
        filtering = {name for kind, name, _ in pairs if kind == "dovecot"}
        copies = {name: copy for _, name, copy in pairs}
        whose = frozenset(one for one, home in accounts.items() if {home, copies[home]} & filtering)
        self.filters = replace(FILTERS, whose=whose)
        for name, home in self._homes.items():
            home.lab.start()
            # Each account has folders where it lives and where it may have to live.
            there = [one for one, first in accounts.items()
                     if name in (first, next(copy for _, owner, copy in pairs if owner == first))]
            home.lab.prepare(*there)
            if isinstance(home.lab, Dovecot):
                _filter(home.lab, there)
        add_accounts(self._edges["e1"], accounts.items(), replicas={name: copy for _, name, copy in pairs})
        for edge in self._edges.values():
            edge.start()

    @staticmethod
    def _home(folder: Path, kind: str, name: str, network: Network, world: int) -> Home:
        host, outside = network[name], network[OUTSIDE].address
        more: dict[str, dict[str, Any]] = {
            "dovecot": {"sieve": True, "trusted": NETS, "extra": f"submission_host = {outside}:{world}\n"},
            "node": {"settings": {"trusted": NETS.split()}},
        }
        return KINDS[kind](folder, name, host=host.address, namespace=host.namespace, **more.get(kind, {}))

    def _edge(self, folder: Path, name: str, network: Network) -> Edge:
        host, url = network[name], self._postgres.url(self._database, "postgresql")
        return Edge(folder / name, f"{name}.example.com", servers=[home.table for home in self._homes.values()],
                    directory=url, host=host.address, namespace=host.namespace, extra=FAILOVER)

    def homes(self) -> dict[str, str]:
        rows = self._postgres.execute("select address || ' ' || primary_server from account", self._database)
        return dict(row.split() for row in rows.splitlines())  # type: ignore[misc]

    def mailboxes(self) -> list[Mailbox]:
        return [self._homes[home].mailbox(account) for account, home in self.homes().items()]

    def waiting(self) -> int | None:
        """Safety nets have to be empty, too: nothing that a filter has eaten stays in them for ever."""
        answers = list(statuses(self._controls).values())
        if None in answers or any(answer["silent"] for answer in answers):
            return None
        return sum(unsettled(each) + each["queue"]["net"] + each["queue"]["net_aside"] for each in answers)

    def ages(self) -> Mapping[str, float]:
        return ages(self._controls.values(), self.people)

    def world(self) -> list[Left]:
        """Redirected messages have their own token, answers their one's as the end of the subject."""
        found = []
        for caught in self._world.caught():
            message = message_from_bytes(caught.message)
            token, subject = message[TOKEN_HEADER], str(message["Subject"])
            what = REDIRECTED if token else ANSWERED
            found.append(Left(str(token or subject.split()[-1]).strip(), what, caught.at))
        return found


def _filter(dovecot: Dovecot, accounts: Sequence[str]) -> None:
    for account in accounts:
        local, _, domain = account.partition("@")
        script = dovecot.folder / "mail" / domain / local / ".dovecot.sieve"
        script.write_text(SIEVE)
        os.chown(script, UID, UID)
