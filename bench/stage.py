"""Who takes part: peers and ourselves, each started when a row first asks for it, all in front of the same server.

Knows how each is set up. Does not know what is measured.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from tests.lab.edge import Edge
from tests.lab.ports import free_port
from tests.lab.process import Server, Tree, answers
from tests.lab.tls import Authority, Certificate

from bench.measure import cpu_seconds, memory_kilobytes
from bench.peer import Behind
from bench.peer_dovecot import DovecotLogIn, DovecotProxy
from bench.peer_nginx import Nginx
from bench.peer_postfix import Postfix
from bench.sink import Counter
from onedomain.model.validities import Validities

PASSWORD = "secret-of-all"
PEOPLE = [f"u{number}@example.com" for number in range(50)]
"""Who log in often: their argon2id hash is in our directory."""

STRANGERS = [f"s{number}@example.com" for number in range(500)]
"""Who log in once: without a hash in our directory the home checks the password, or, for `-argon2id`, with one."""

BULK = 100 << 20
LARGE = 256 << 10
"""Octets of a file that is worth removing before the end."""

US = "onedomain"
REWRITTEN = "onedomain-rewritten"
"""Everybody as after a move to a home that can't be given their UIDVALIDITYs: each line of the home is read."""


@dataclass(frozen=True, slots=True)
class Contender:
    """`ports` by protocol: imap, imaps, pop3, smtp, submission. `others` are servers that it cannot do without."""

    name: str
    server: Server
    ports: dict[str, int]
    others: tuple[Server, ...] = ()

    @property
    def roots(self) -> list[int]:
        return [one.tree.root for one in (self.server, *self.others) if one.tree]

    def cpu(self) -> float:
        return sum(map(cpu_seconds, self.roots))

    def memory(self) -> int:
        """Kilobytes."""
        return sum(map(memory_kilobytes, self.roots))


class SinkServer(Server):
    """The server behind everybody: bench/sink.py."""

    kind = "sink"

    def __init__(self, folder: Path, *, messages: int = 0, bulk: int = BULK, disk: float = 0.0) -> None:
        super().__init__(folder)
        self.behind = Behind(free_port(), free_port(), free_port(), free_port())
        self._options = [f"--folder={messages}", f"--bulk={bulk}", f"--count={folder / 'count'}", f"--disk={disk}"]

    def _launch(self) -> Tree:
        behind = self.behind
        doors = [f"--{name}={getattr(behind, name)}" for name in ("imap", "pop3", "smtp", "lmtp")]
        tree = Tree([sys.executable, "-m", "bench.sink", *doors, *self._options], self.folder / "sink.log")
        tree.start({"PYTHONPATH": f"{Path(__file__).resolve().parents[1]}"})
        return tree

    def _is_ready(self) -> bool:
        return answers(self.host, self.behind.imap) and answers(self.host, self.behind.lmtp)

    def taken(self) -> int:
        return Counter(self.folder / "count").value


class Stage:
    """`folder` is on a disk, or durability would cost nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = ExitStack()
        self._there: dict[str, Contender] = {}
        self._number = 0
        self.warmed: set[str] = set()
        self.turn = 0
        self.certificate: Certificate = Authority(folder / "tls").issue("mail.example.com")
        self.sink = SinkServer(self.new_folder("sink"))
        self.run(self.sink)

    @classmethod
    def open(cls) -> Stage:
        # /var/tmp: /tmp may be memory. The path is short because of unix sockets, and open to servers' own users.
        folder = Path(tempfile.mkdtemp(prefix="odb-", dir="/var/tmp"))
        folder.chmod(0o755)
        return cls(folder)

    def close(self) -> None:
        self._stack.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def new_folder(self, name: str) -> Path:
        self._number += 1
        folder = self.folder / f"{name}{self._number}"
        folder.mkdir()
        folder.chmod(0o755)
        return folder

    def callback(self, work: Callable[[], object]) -> None:
        """To be done at the end, before the servers that were started earlier are ended."""
        self._stack.callback(work)

    def run(self, *servers: Server) -> None:
        for server in servers:
            self._stack.callback(server.kill)
            server.start()

    def get(self, name: str, make: Callable[[], Contender]) -> Contender:
        """The one of that name, made and started if it is not there yet."""
        if name not in self._there:
            contender = make()
            self.run(*contender.others, contender.server)
            self._there[name] = contender
        return self._there[name]

    def drop(self, *names: str) -> None:
        """End those, so that they are no load for what comes next, and give their disk back."""
        for name in names:
            if contender := self._there.pop(name, None):
                for server in (contender.server, *contender.others):
                    server.kill()
                    _thin_out(server.folder)

    def drop_all(self) -> None:
        self.drop(*self._there)

    # -- in front of the server

    def proxy(self, name: str) -> Contender:
        """nginx, nginx-64k, dovecot, dovecot-packaged, onedomain, onedomain-rewritten: proxies for IMAP and POP3."""
        return self.get(f"proxy {name}", lambda: self._proxy(name))

    def _proxy(self, name: str) -> Contender:
        behind, tls = self.sink.behind, self.certificate
        server: Nginx | DovecotProxy | Edge
        if name.startswith("nginx"):
            server = Nginx(self.new_folder("n"), behind, tls, buffer="64k" if name.endswith("64k") else "4k")
        elif name.startswith("dovecot"):
            hashes = dict.fromkeys(STRANGERS, "{ARGON2ID}" + hashed()) if name.endswith("argon2id") else None
            server = DovecotProxy(self.new_folder("d"), behind, tls, packaged=name.endswith("packaged"), hashes=hashes)
        else:
            server = self.edge(behind, strangers=hashed() if name.endswith("argon2id") else "")
            if name == REWRITTEN:
                rewrite(server)
        return Contender(name, server, server.port)

    # -- taking mail

    def mail(self, name: str, *, relay: bool, tag: str = "") -> Contender:
        """postfix or onedomain; without `relay` nothing is delivered, only taken. Tag "submission": people log in."""
        return self.get(f"{name} {'relay' if relay else 'accept'} {tag}", lambda: self._mail(name, relay, tag))

    def _mail(self, name: str, relay: bool, tag: str) -> Contender:
        if name.startswith("postfix"):
            port = self.sink.behind.smtp if relay else 0
            if tag != "submission":
                postfix = Postfix(self.new_folder("p"), people=PEOPLE, relay=port)
                return Contender(name, postfix, postfix.port)
            log_in = DovecotLogIn(self.new_folder("l"), dict.fromkeys(PEOPLE, "{PLAIN}" + PASSWORD))
            postfix = Postfix(self.new_folder("p"), people=PEOPLE, relay=port, log_in=log_in.socket)
            return Contender(name, postfix, postfix.port, (log_in,))
        edge = self.edge(self.sink.behind if relay else Behind(imap=free_port(), lmtp=free_port()))
        return Contender(name, edge, edge.port)

    def edge(self, *behind: Behind, strangers: str = "", **options: Any) -> Edge:
        """Ourselves in front of sinks: one home for each of `behind`, and people on all of them in turn. `strangers` is
        their password hash.
        """
        homes = [
            {
                "name": f"home{number}",
                "kind": "imap",
                "imap": {"host": "127.0.0.1", "port": one.imap},
                "delivery": {"host": "127.0.0.1", "port": one.lmtp},
            }
            for number, one in enumerate(behind)
        ]
        edge = self.edge_before(homes, **options)
        mine = hashed()
        rows = [(person, f"home{n % len(homes)}", mine) for n, person in enumerate(PEOPLE)]
        rows += [(person, "home0", strangers) for person in STRANGERS]
        edge.run("account", "import", people_file(edge, rows))
        return edge

    def edge_before(self, homes: Sequence[Mapping[str, Any]], **options: Any) -> Edge:
        """Ourselves with everything on, and nobody in the directory; the limits are raised so far as the load is one
        address and fifty people. `homes` are tables of the file.
        """
        limits = {"account_sessions": 100_000, "message_size": 100 << 20, "spool_size": 20 << 30}
        many = {"max_sessions": 100_000, "max_sessions_per_address": 100_000}
        folder = self.new_folder("o")
        return Edge(
            folder,
            directory=f"sqlite:///{folder / 'directory.db'}",
            servers=list(homes),
            certificate=self.certificate,
            workers=2,
            listener=dict.fromkeys(("imap", "imaps", "pop3", "smtp", "submission"), many),
            extra={"limits": limits, **options.pop("extra", {})},
            **options,
        )


def _thin_out(folder: Path) -> None:
    """Removes what is large. The many small files stay until the end: for a minute or more ext4 does not use an inode
    again that was freed, but passes over each of them whenever a file is made. Whoever is next would have to pay for
    that with each message: a fifth of a millisecond of CPU and more for every file.
    """
    for parent, _, names in os.walk(folder):
        for file in (Path(parent, name) for name in names):
            with suppress(FileNotFoundError):  # a server may be the last to go
                if file.lstat().st_size >= LARGE:
                    file.unlink()


def rewrite(edge: Edge) -> None:
    """Before it starts: twenty folders for each, among them the one that the sink has."""
    shown = Validities({number: 1_700_000_000 + number for number in range(1, 21)}, 1_700_000_020)
    with closing(sqlite3.connect(edge.folder / "directory.db")) as database, database:
        database.execute("update account set shown = ?, no_modseq = 1", (shown.spelt(),))


def people_file(edge: Edge, people: Iterable[tuple[str, str, str]], replica: str = "") -> Path:
    """(address, home, password hash) of each, for `onedomain account import`; `replica` has all second copies."""
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["address", "unit", "primary", "replicas", "password"])
    rows.writerows([address, "all", home, replica, password] for address, home, password in people)
    file = edge.folder / "people.csv"
    file.write_text(text.getvalue())
    return file


@cache
def hashed() -> str:
    """Everybody's password as `onedomain account add` stores it."""
    return PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1).hash(PASSWORD)
