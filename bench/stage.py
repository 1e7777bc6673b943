"""Who takes part: peers and ourselves, each started when a row first asks for it, all in front of the same server.

Knows how each is set up. Does not know what is measured.
"""

from __future__ import annotations

import csv
import io
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.lab.edge import Edge
from tests.lab.ports import free_port
from tests.lab.process import Server, Tree, answers
from tests.lab.tls import Authority, Certificate

from bench.measure import cpu_seconds, memory_kilobytes
from bench.peer import Behind
from bench.peer_dovecot import DovecotProxy
from bench.peer_nginx import Nginx
from bench.peer_postfix import Postfix
from bench.sink import Counter

PASSWORD = "secret-of-all"
HASH = "$argon2id$v=19$m=19456,t=2,p=1$"
PEOPLE = [f"u{number}@example.com" for number in range(50)]
BULK = 100 << 20
US = "onedomain"


@dataclass(frozen=True, slots=True)
class Contender:
    """`ports` by protocol: imap, imaps, pop3, smtp, submission."""

    name: str
    server: Server
    ports: dict[str, int]

    def cpu(self) -> float:
        return cpu_seconds(self.server.tree.root) if self.server.tree else 0.0

    def memory(self) -> int:
        return memory_kilobytes(self.server.tree.root) if self.server.tree else 0


class SinkServer(Server):
    """The server behind everybody: bench/sink.py."""

    kind = "sink"

    def __init__(self, folder: Path, *, messages: int = 0, bulk: int = BULK) -> None:
        super().__init__(folder)
        self.behind = Behind(free_port(), free_port(), free_port(), free_port())
        self._options = [f"--folder={messages}", f"--bulk={bulk}", f"--count={folder / 'count'}"]

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

    def run(self, server: Server) -> None:
        self._stack.callback(server.kill)
        server.start()

    def get(self, name: str, make: Callable[[], Contender]) -> Contender:
        """The one of that name, made and started if it is not there yet."""
        if name not in self._there:
            contender = self._there[name] = make()
            self.run(contender.server)
        return self._there[name]

    def drop(self, *names: str) -> None:
        """End those, so that they are no load for what comes next, and give their disk back."""
        for name in names:
            if contender := self._there.pop(name, None):
                contender.server.kill()
                shutil.rmtree(contender.server.folder, ignore_errors=True)

    # -- in front of the server

    def proxy(self, name: str) -> Contender:
        """nginx, nginx-64k, dovecot, dovecot-packaged or onedomain, as proxies for IMAP and POP3."""
        return self.get(name, lambda: self._proxy(name))

    def _proxy(self, name: str) -> Contender:
        behind, tls = self.sink.behind, self.certificate
        server: Nginx | DovecotProxy | Edge
        if name.startswith("nginx"):
            server = Nginx(self.new_folder("n"), behind, tls, buffer="64k" if name.endswith("64k") else "4k")
        elif name.startswith("dovecot"):
            server = DovecotProxy(self.new_folder("d"), behind, tls, packaged=name.endswith("packaged"))
        else:
            server = self.edge(behind)
        return Contender(name, server, server.port)

    # -- taking mail

    def mail(self, name: str, *, relay: bool, tag: str = "") -> Contender:
        """postfix or onedomain; without `relay` nothing is delivered, only taken."""
        key = f"{name} {'relay' if relay else 'accept'} {tag}"
        return self.get(key, lambda: self._mail(name, relay))

    def _mail(self, name: str, relay: bool) -> Contender:
        server: Postfix | Edge
        if name.startswith("postfix"):
            port = self.sink.behind.smtp if relay else 0
            server = Postfix(self.new_folder("p"), people=PEOPLE, relay=port, processes=100)
        else:
            server = self.edge(self.sink.behind if relay else Behind(imap=free_port(), lmtp=free_port()))
        return Contender(name, server, server.port)

    def edge(self, behind: Behind, **options: object) -> Edge:
        """Ourselves with everything on; the limits are raised so far as the load is one address and fifty people."""
        home = {
            "name": "home",
            "kind": "imap",
            "imap": {"host": "127.0.0.1", "port": behind.imap},
            "delivery": {"host": "127.0.0.1", "port": behind.lmtp},
        }
        limits = {"account_sessions": 100_000, "message_size": 100 << 20, "spool_size": 20 << 30}
        folder = self.new_folder("o")
        edge = Edge(
            folder,
            directory=f"sqlite:///{folder / 'directory.db'}",
            servers=[home],
            certificate=self.certificate,
            workers=2,
            listener={p: {"max_sessions": 100_000, "max_sessions_per_address": 100_000} for p in ("imap", "imaps")},
            extra={"limits": limits},
            **options,  # type: ignore[arg-type]
        )
        add_people(edge, PEOPLE)
        return edge


def add_people(edge: Edge, people: list[str], password: str = "") -> None:
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["address", "unit", "primary", "password"])
    hashed = password or _hashed()
    rows.writerows([address, "all", "home", hashed] for address in people)
    file = edge.folder / "people.csv"
    file.write_text(text.getvalue())
    edge.run("account", "import", file)


def _hashed() -> str:
    """As `onedomain account add` stores it."""
    from argon2 import PasswordHasher

    return PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1).hash(PASSWORD)
