"""A whole installation for the tests: homes of several brands, accounts on them, edges in front, and a ledger beside.

Everything is a process of its own and is spoken to as outsiders do: mail by SMTP, people by the command line, the
supervisor by signals. What is in a mailbox is read from the home itself, never through an edge.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import smtplib
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onedomain.ledger.ledger import Ledger
from onedomain.ledger.load import Outcome, Plan, run
from onedomain.ledger.verify import Mailbox, Report, verify
from tests.lab.cyrus import Cyrus
from tests.lab.dovecot import Dovecot
from tests.lab.edge import Edge
from tests.lab.fetched import body_if_there
from tests.lab.node import Node
from tests.lab.process import NotReady, Server, wait_until

ACL = "  acl_user = %u\n"
"""Dovecot shows a master user nothing of a user's folders without it where the acl plugin is on."""

PASSWORD = "people's"
"""Everybody's, as the directory has it; the homes have passwords of their own."""


@dataclass(frozen=True)
class Home:
    """A server of the lab with the table that the edges' file has of it, and the log-in of the ledger."""

    name: str
    lab: Any
    table: Mapping[str, Any]
    user: str = ""
    password: str = "secret"

    def mailbox(self, account: str) -> Mailbox:
        """For the ledger: `user` is who logs in on the account's behalf, if that is not the account itself."""
        return Mailbox(
            account, self.lab.host, self.lab.imap_port, account, self.password, self.name, authority=self.user or None
        )

    def by_way_of(self, relay: Any, door: str = "delivery") -> Home:
        """The same, but edges reach its `door` over a relay."""
        endpoint = {**self.table[door], "host": relay.host, "port": relay.port}
        return replace(self, table={**self.table, door: endpoint})


def _table(name: str, kind: str, lab: Any, login: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "kind": kind,
        "imap": {"host": lab.host, "port": lab.imap_port},
        "delivery": {"host": lab.host, "port": lab.lmtp_port},
        "login": dict(login),
        **more,
    }


def dovecot(folder: Path, name: str = "d1", **options: Any) -> Home:
    lab = Dovecot(_folder(folder / name), plugins=ACL, **options)
    login = {"way": "master", "user": lab.master_user, "password": lab.master_password}
    doveadm = {"host": lab.host, "port": lab.doveadm_http_port, "api_key": lab.api_key}
    return Home(name, lab, _table(name, "dovecot", lab, login, doveadm=doveadm))


def generic(folder: Path, name: str = "g1", **options: Any) -> Home:
    """An IMAP server of which nothing is known, and no log-in but the users' own: nothing can be looked up there."""
    lab = Dovecot(_folder(folder / name), plugins=ACL, **options)
    return Home(name, lab, _table(name, "imap", lab, {"way": "password"}))


def burning(folder: Path, name: str = "u1", **options: Any) -> Home:
    """A Dovecot of which we may ask nothing but IMAP: UIDs are burned, UIDVALIDITYs are its own."""
    home = dovecot(folder, name, **options)
    return replace(home, table={key: value for key, value in home.table.items() if key != "doveadm"})


def imap(folder: Path, name: str = "i1", **options: Any) -> Home:
    """The same, and we don't know that it is a Dovecot."""
    home = burning(folder, name, **options)
    return replace(home, table={**home.table, "kind": "imap"})


def cyrus(folder: Path, name: str = "c1", **options: Any) -> Home:
    lab = Cyrus(_folder(folder / name), **options)
    login = {"way": "authzid", "user": lab.proxy, "password": lab.proxy_password}
    replication = {"user": lab.admin, "password": lab.admin_password}
    return Home(name, lab, _table(name, "cyrus", lab, login, replication=replication))


def node(folder: Path, name: str = "n1", **options: Any) -> Home:
    """With a log-in for links, "replica"."""
    replication = {"user": "replica", "password": "replicasecret"}
    settings = {f"replication_{key}": value for key, value in replication.items()}
    lab = Node(folder / name, **{**options, "settings": {**settings, **options.get("settings", {})}})
    login = {"way": "authzid", "user": lab.proxy, "password": lab.proxy_password}
    table = _table(name, "node", lab, login, replication=replication)
    return Home(name, lab, table, user=lab.proxy, password=lab.proxy_password)


KINDS = {"dovecot": dovecot, "cyrus": cyrus, "node": node, "generic": generic, "burning": burning, "imap": imap}


def _folder(path: Path) -> Path:
    path.mkdir()
    path.chmod(0o755)
    return path


class Cluster:
    """`homes` in the order of their accounts: `<home>-0@example.com`, `<home>-1@example.com`, … for `people` of each.

    `replicas`: the home with the second copies, by home or address; `lives`: the homes with accounts, all unless said.
    `edge_options` go to each Edge (tests/lab/edge.py). Without `prepared` nobody has a folder before the first mail.
    """

    def __init__(
        self,
        folder: Path,
        homes: Sequence[Home],
        *,
        people: int = 3,
        edges: int = 1,
        prepared: bool = True,
        replicas: Mapping[str, str] | None = None,
        lives: Sequence[str] | None = None,
        **edge_options: Any,
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.homes = {home.name: home for home in homes}
        self.accounts = {f"{name}-{n}@example.com": name for name in lives or self.homes for n in range(people)}
        self.replicas = dict(replicas or {})
        self.prepared = prepared
        directory = f"sqlite:///{folder / 'directory.db'}"
        self.edges = [
            Edge(
                folder / f"e{number}",
                f"mx{number}.example.com",
                servers=[home.table for home in homes],
                directory=directory,
                **edge_options,
            )
            for number in range(1, edges + 1)
        ]
        self.ledger = folder / "ledger.jsonl"
        Ledger(self.ledger).close()

    @property
    def edge(self) -> Edge:
        return self.edges[0]

    @property
    def servers(self) -> list[Server]:
        return [*(home.lab for home in self.homes.values()), *self.edges]

    @property
    def people(self) -> list[str]:
        return list(self.accounts)

    def of(self, *homes: str) -> list[str]:
        """The accounts that live there."""
        return [account for account, home in self.accounts.items() if home in homes]

    def start(self) -> None:
        for home in self.homes.values():
            home.lab.start()
            if self.prepared:
                users = home.lab.users
                home.lab.prepare(*(one for one in self.of(home.name) if users is None or one in users))
        add_accounts(self.edge, self.accounts.items(), replicas=self.replicas)
        for edge in self.edges:
            edge.start()

    def change(self, *words: str) -> None:
        """A verb that changes the directory; returns when all workers of all edges answer by it."""
        self._applied(lambda: self.edge.run(*words))

    def add(self, people: Iterable[tuple[str, str]], replicas: Mapping[str, str] | None = None) -> None:
        """Likewise (address, home) of each, while edges run."""
        self._applied(lambda: add_accounts(self.edge, people, replicas=replicas))

    def _applied(self, change: Callable[[], object]) -> None:
        before = {edge: control(edge, "status")["directory"]["seq"] for edge in self.edges}
        change()
        for edge, seq in before.items():
            wait_until(lambda edge=edge, seq=seq: control(edge, "status")["directory"]["seq"] > seq, "the change", 10)
            control(edge, "status")  # which workers answer after what they were told before

    def kill(self) -> None:
        for server in reversed(self.servers):
            server.kill()

    # -- mail

    async def send(
        self, *, edge: Edge | None = None, protocol: str = "smtp", ledger: Path | None = None, **plan: Any
    ) -> Outcome:
        """A load (onedomain.ledger.load.Plan) into the ledger; to everybody at every edge unless told otherwise."""
        plan.setdefault("recipients", self.people)
        plan.setdefault("targets", [(one.host, one.port[protocol]) for one in ([edge] if edge else self.edges)])
        plan.setdefault("max_size", 64 << 10)
        return await run(Plan(**plan), ledger or self.ledger)

    def smtp(self, edge: Edge | None = None, protocol: str = "smtp") -> smtplib.SMTP:
        edge = edge or self.edge
        return smtplib.SMTP(edge.host, edge.port[protocol], local_hostname="client.example.org", timeout=60)

    def await_quiet(self, patience: float = 60) -> None:
        """Until no edge has anything waiting, and what its workers noted and told by then is written and told."""
        for edge in self.edges:
            try:
                wait_until(lambda edge=edge: queued(edge) == 0, "an empty queue", patience)
            except NotReady as late:
                raise AssertionError(f"{late}\n{json.dumps(control(edge, 'queue_list'), indent=1)[:6000]}") from None
            control(edge, "status")  # logs and news leave at the end of a turn, the last answer may be of its middle

    def verify(self, accounts: Iterable[str] | None = None) -> Report:
        """The ledger against what the homes hold."""
        wanted = self.people if accounts is None else accounts
        return verify(self.ledger, [self.homes[self.accounts[account]].mailbox(account) for account in wanted])

    def assert_exact(self, accounts: Iterable[str] | None = None) -> Report:
        """Once things are quiet: every acknowledged message there once, as it was sent."""
        self.await_quiet()
        report = self.verify(accounts)
        assert report.ok, report.table()
        return report

    def messages(self, account: str, folder: str = "INBOX") -> list[bytes]:
        """Everything in a folder, read at the home. A probe's message may go meanwhile."""
        with self.homes[self.accounts[account]].mailbox(account).open() as session:
            session.select(folder, readonly=True)
            numbers = session.search(None, "ALL")[1][0].split()
            found = [body_if_there(session.fetch(number, "(BODY.PEEK[])")) for number in numbers]
            return [raw for raw in found if raw is not None]


def add_accounts(
    edge: Edge, people: Iterable[tuple[str, str]], unit: str = "all", replicas: Mapping[str, str] | None = None
) -> None:
    """(address, home) of each into the edge's directory, as people do: a CSV file. `replicas`: of a home or address."""
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["address", "unit", "primary", "replicas", "password"])
    second = replicas or {}
    rows.writerows([address, unit, home, second.get(address, second.get(home, "")), "{PLAIN}" + PASSWORD]
                   for address, home in people)  # fmt: skip
    file = edge.folder / "people.csv"
    file.write_text(text.getvalue())
    edge.run("account", "import", file)


def control(edge: Edge, verb: str, **arguments: Any) -> Any:
    """What the command line asks over the control socket, without the time that its start takes."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(str(edge.state / "control.sock"))
        sock.sendall(json.dumps({"do": verb, "id": 1, **arguments}).encode() + b"\n")
        answer = json.loads(sock.makefile().readline())
    if "ok" not in answer:
        raise AssertionError(f"{verb}: {answer}")
    return answer["ok"]


def queued(edge: Edge) -> int | None:
    """Messages waiting, and accounts that do not have all on their new primary yet.

    None while not all workers can be asked.
    """
    try:
        status = control(edge, "status")
    except (OSError, ValueError):
        return None
    if len(status["workers"]) < edge.tables["edge"]["workers"]:
        return None
    return int(status["queue"]["messages"]) + int(status["queue"]["net_moving"])


def verdict(edge: Edge, server: str) -> str:
    """What the edge thinks of a server now."""
    return str(next(one["verdict"] for one in control(edge, "status")["servers"] if one["name"] == server))


def remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
