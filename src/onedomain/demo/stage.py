"""Folders, files and processes of the demonstration: three nodes, each with a copy on the next, two edges, three units.

Knows the command line and the configuration file, from outside. Does not know what is played on the stage.
"""

from __future__ import annotations

import contextlib
import csv
import datetime
import imaplib
import ipaddress
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from onedomain.demo.show import ages
from onedomain.ledger.verify import Mailbox

DOMAIN = "example.com"
PASSWORD = "demo"  # everybody's; nothing but loopback listens
UNITS = {
    "head-office": ("hanako", "ichiro", "keiko", "makoto"),
    "branch": ("anna", "bob", "chloe", "david"),
    "sales": ("sakura", "takeshi", "yumi", "ken"),
}
PORTS = {"smtp": 2525, "submission": 2587, "submissions": 2465, "imap": 2143, "imaps": 2993, "pop3": 2110,
         "pop3s": 2995}
LMTP, IMAP, PEERS, METRICS = 2124, 2144, 2746, 2946
READY_SECONDS = 60.0


class StageError(Exception):
    """Something did not start; the text says what and shows the end of its log."""


@dataclass
class Actor:
    """One process tree: a node or an edge. `ports` are those that answer when it is ready, with a greeting or not."""

    name: str
    address: str
    command: list[str]
    log: Path
    ports: tuple[int, ...]
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                            start_new_session=True)

    def ready(self) -> bool:
        return all(_answers(self.address, port) for port in self.ports)

    def kill(self) -> None:
        """SIGKILL for the whole tree at once: all of it is one session's process group."""
        self._signal(signal.SIGKILL)

    def pause(self) -> None:
        """SIGSTOP for the whole tree: connections stay open and nothing answers."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGCONT)

    def stop(self) -> None:
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            pass
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)
            self.process.wait()


@dataclass(frozen=True)
class Person:
    address: str
    unit: str
    node: str


class Stage:
    """Everything below `folder`. `nodes` and `edges` are by name, in order. `database`: the directory's URL, if it is
    not to be a file here.
    """

    def __init__(self, folder: Path, database: str = "") -> None:
        self.folder = folder
        self._database = database or f"sqlite:///{folder / 'directory.db'}"
        self.network, shift = _free_addresses()
        self.ports = {protocol: port + shift for protocol, port in PORTS.items()}
        self.lmtp, self.imap, self._peers, self._metrics = (port + shift for port in (LMTP, IMAP, PEERS, METRICS))
        self.secret = secrets.token_urlsafe(16)
        self.certificate, self.key = _certificate(folder, [self.network + "11", self.network + "12"])
        (folder / "node-secret").write_text(self.secret)
        self.nodes = {f"node-{unit}": self._node(f"node-{unit}", 21 + n) for n, unit in enumerate(UNITS)}
        self.edges = {name: self._edge(name, 11 + n) for n, name in enumerate(("edge-1", "edge-2"))}
        self.people = [Person(f"{local}@{DOMAIN}", unit, f"node-{unit}")
                       for unit, locals_ in UNITS.items() for local in locals_]

    def config(self, edge: str) -> Path:
        return self.folder / edge / "onedomain.toml"

    def start(self, say: Callable[[str], None]) -> None:
        """Nodes, accounts, edges; returns when all of them answer, people are let in and everybody has a copy, so that
        nothing that happens then is of the beginning. Raises StageError.
        """
        for node in self.nodes.values():
            node.start()
        self._make_accounts()
        for node in self.nodes.values():
            self.await_ready(node)
            say(node.name)
        for person in self.people:  # nodes make mailboxes when somebody comes, and links can't begin before
            self._mailbox(person.address, person.node).open().logout()
        for edge in self.edges.values():
            edge.start()
        for edge in self.edges.values():
            self._until(edge, partial(self._lets_in, edge))
            say(edge.name)
        self._await_copies()

    def homes(self) -> dict[str, str]:
        """Each account's primary, as the directory says now."""
        command = _command("account", "list", "--json", "--config", self.config("edge-1"))
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise StageError(f"the directory does not answer\n{done.stderr}")
        return {row["address"]: row["primary"] for row in json.loads(done.stdout)}

    def mailboxes(self) -> list[Mailbox]:
        """Every account at the node that is its home now, reached directly, never through an edge."""
        return [self._mailbox(account, node) for account, node in self.homes().items()]

    def _mailbox(self, account: str, node: str) -> Mailbox:
        return Mailbox(account, self.nodes[node].address, self.imap, account, self.secret, node, authority="edge")

    def await_ready(self, actor: Actor) -> None:
        self._until(actor, actor.ready)

    def _await_copies(self) -> None:
        controls = [self.config(edge).parent / "state" / "control.sock" for edge in self.edges]
        everybody = {person.address for person in self.people}
        until = time.monotonic() + READY_SECONDS
        while missing := everybody - ages(controls, sorted(everybody)).keys():
            if time.monotonic() > until:
                raise StageError(f"no copies yet of {', '.join(sorted(missing))}")
            time.sleep(0.1)

    def _lets_in(self, edge: Actor) -> bool:
        """It greets before it has its first lease."""
        if not edge.ready():
            return False
        try:
            with imaplib.IMAP4(edge.address, self.ports["imap"], timeout=5) as session:
                session.login(self.people[0].address, PASSWORD)
        except (imaplib.IMAP4.error, OSError):
            return False
        return True

    @staticmethod
    def _until(actor: Actor, ready: Callable[[], bool]) -> None:
        until = time.monotonic() + READY_SECONDS
        while not ready():
            if not actor.alive or time.monotonic() > until:
                raise StageError(f"{actor.name} does not answer\n{_tail(actor.log)}")
            time.sleep(0.05)

    def stop(self) -> None:
        for actor in (*self.edges.values(), *self.nodes.values()):
            actor.stop()

    def _node(self, name: str, number: int) -> Actor:
        home = self.folder / name
        home.mkdir()
        address = f"{self.network}{number}"
        file = home / "node.toml"
        file.write_text(f'''\
data = "{home / 'data'}"
name = "{name}.{DOMAIN}"
lmtp = ["{address}:{self.lmtp}"]
imap = ["{address}:{self.imap}"]
proxy_user = "edge"
proxy_password_file = "{self.folder / 'node-secret'}"
replication_user = "links"
replication_password_file = "{self.folder / 'node-secret'}"
autocreate = true
domains = ["{DOMAIN}"]
''')
        return Actor(name, address, _command("node", "run", "--config", file), home / "log", (self.lmtp, self.imap))

    def _edge(self, name: str, number: int) -> Actor:
        home = self.folder / name
        home.mkdir()
        address = f"{self.network}{number}"
        self.config(name).write_text(self._edge_file(name, address, home))
        ports = tuple(port for protocol, port in self.ports.items() if not protocol.endswith("s"))
        return Actor(name, address, _command("run", "--config", self.config(name)), home / "log", ports)

    def _edge_file(self, name: str, address: str, home: Path) -> str:
        parts = [f'''\
[edge]
name = "{name}.{DOMAIN}"
state = "{home / 'state'}"
workers = 2
peer_listen = "{address}:{self._peers}"
peer_address = "{address}:{self._peers}"

[[domain]]
name = "{DOMAIN}"
postmaster = "hanako@{DOMAIN}"

[directory]
url = "{self._database}"

[failover]
automatic = true

[metrics]
address = "{address}"
port = {self._metrics}

[[tls.certificate]]
certificate = "{self.certificate}"
key = "{self.key}"
''']
        parts += [f'''
[[server]]
name = "{node.name}"
kind = "node"
imap = {{ host = "{node.address}", port = {self.imap} }}
delivery = {{ host = "{node.address}", port = {self.lmtp} }}
login = {{ way = "authzid", user = "edge", password_file = "{self.folder / 'node-secret'}" }}
replication = {{ user = "links", password_file = "{self.folder / 'node-secret'}" }}

[[unit]]
name = "{node.name.removeprefix('node-')}"
servers = ["{node.name}"]
replicas = ["{self._next(node.name)}"]
''' for node in self.nodes.values()]
        for protocol, port in self.ports.items():
            parts.append(f'\n[[listener]]\nprotocol = "{protocol}"\naddress = "{address}"\nport = {port}\n')
            if protocol in ("imap", "pop3", "submission"):
                # So that a mail program can be tried on loopback without trusting the demonstration's certificate.
                parts.append("plaintext_passwords = true\n")
            parts.append("max_sessions_per_address = 1000\n")
        return "".join(parts)

    def _next(self, node: str) -> str:
        """Where its accounts' copies are."""
        names = [f"node-{unit}" for unit in UNITS]
        return names[(names.index(node) + 1) % len(names)]

    def _make_accounts(self) -> None:
        file = self.folder / "people.csv"
        with file.open("w", newline="") as out:
            writer = csv.writer(out)
            writer.writerow(["address", "unit", "primary", "replicas", "password"])
            writer.writerows([person.address, person.unit, person.node, self._next(person.node), "{PLAIN}" + PASSWORD]
                             for person in self.people)
        command = _command("account", "import", file, "--config", self.config("edge-1"))
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise StageError(f"the accounts could not be made\n{done.stdout}{done.stderr}")


def _command(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "onedomain.cli.main", *map(str, words)]


def _answers(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=5) as connection:
            return bool(connection.recv(512))
    except OSError:
        return False


def _free_addresses() -> tuple[str, int]:
    """A loopback /24 and a shift of the ports that nobody else uses: two demonstrations can run side by side."""
    for shift in range(0, 50_000, 5000):
        for third in range(20):
            network = f"127.0.{third}."
            try:
                for last in (11, 12, 21, 22, 23):
                    for port in (*PORTS.values(), LMTP, IMAP, PEERS, METRICS):
                        with socket.socket() as trial:
                            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                            trial.bind((f"{network}{last}", port + shift))
            except OSError:
                continue
            return network, shift
    raise StageError("no free addresses on loopback")


def _certificate(folder: Path, addresses: list[str]) -> tuple[Path, Path]:
    """Self-signed, for the edges' addresses."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"mail.{DOMAIN}")])
    now = datetime.datetime.now(datetime.UTC)
    also: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(f"mail.{DOMAIN}"), *also]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "mail.crt", folder / "mail.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].touch(mode=0o600)
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                           serialization.NoEncryption()))
    return paths


def _tail(path: Path) -> str:
    try:
        return path.read_text(errors="replace")[-2000:]
    except OSError as error:
        return str(error)
