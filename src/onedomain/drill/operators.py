"""An operator's own servers as a theatre: they are taken away by commands that the operator has written down, and
only the named test accounts are touched.

Knows the drill's file, and how servers are logged in to directly. Does not know what the commands do.
"""

from __future__ import annotations

import subprocess
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onedomain.config import Config
from onedomain.demo.show import ages, statuses, unsettled
from onedomain.directory.book import Book
from onedomain.drill.filters import Filters, Left
from onedomain.drill.plan import Way
from onedomain.drill.theatre import Door, Player
from onedomain.ledger.verify import Mailbox
from onedomain.model.account import Account
from onedomain.model.server import LoginWay, Server, TlsMode

COMMAND_SECONDS = 60.0
WORDS = {Way.KILL: ("kill", "start"), Way.STOP: ("pause", "resume"), Way.CUT: ("cut", "mend"),
         Way.PART: ("part", "join")}
"""Of each way: how it is done, and undone."""


class DrillError(Exception):
    """The drill's file or the installation is not what a drill needs; the text says what to do."""


@dataclass(frozen=True)
class CommandPlayer:
    """`commands`: "kill", "start", "pause", "resume", … -> what a shell is given."""

    name: str
    commands: Mapping[str, str]

    @property
    def ways(self) -> Collection[Way]:
        return [way for way, words in WORDS.items() if all(word in self.commands for word in words)]

    def take(self, way: Way) -> None:
        self._run(WORDS[way][0])

    def give(self, way: Way) -> None:
        self._run(WORDS[way][1])

    def _run(self, word: str) -> None:
        try:
            done = subprocess.run(self.commands[word], shell=True, timeout=COMMAND_SECONDS, capture_output=True,
                                  text=True, stdin=subprocess.DEVNULL)
        except KeyError:
            raise DrillError(f"{self.name}: the drill's file has no command for {word}") from None
        except subprocess.TimeoutExpired:
            raise DrillError(f"{self.name}: {word}: not done after {COMMAND_SECONDS:.0f} s") from None
        if done.returncode:
            raise DrillError(f"{self.name}: {word}: {done.stderr.strip() or done.returncode}")


@dataclass(frozen=True)
class Script:
    """The drill's file: who can be taken away, how, and where clients come in."""

    servers: Mapping[str, CommandPlayer]
    edges: Mapping[str, CommandPlayer] = field(default_factory=dict)
    doors: Sequence[Door] = ()


def read_script(path: Path) -> Script:
    """Raises DrillError with the place of what is wrong."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DrillError(f"{path}: {error}") from None
    servers = {row["name"]: _player(path, row, "server") for row in raw.get("server", [])}
    edges = {row["name"]: _player(path, row, "edge") for row in raw.get("edge", []) if "kill" in row}
    doors = []
    for row in raw.get("edge", []):
        try:
            doors.append(Door(row["name"], row["host"], int(row.get("smtp", 25)), int(row.get("imap", 143)),
                              int(row.get("pop3", 110))))
        except (KeyError, TypeError, ValueError) as error:
            raise DrillError(f"{path}: [[edge]] needs name, host, ports: {error!r}") from None
    if not servers or not doors:
        raise DrillError(f"{path}: needs at least one [[server]] and one [[edge]]")
    return Script(servers, edges, doors)


def _player(path: Path, row: Mapping[str, Any], table: str) -> CommandPlayer:
    if not isinstance(row.get("name"), str) or not ("kill" in row and "start" in row):
        raise DrillError(f"{path}: each [[{table}]] needs name, kill and start; pause and resume,"
                         " cut and mend if you can")
    known = {word for words in WORDS.values() for word in words}
    return CommandPlayer(row["name"], {word: str(row[word]) for word in known if word in row})


class Installation:
    """A theatre.Theatre. `accounts` reads the test accounts from the directory, as they are now."""

    filters = Filters()

    def __init__(self, config: Config, script: Script, accounts: Any, password: str) -> None:
        self._config = config
        self._accounts = accounts
        self._controls = {config.name: config.control}
        self.password = password
        self.servers: Mapping[str, Player] = script.servers
        self.edges: Mapping[str, Player] = script.edges
        self.doors = script.doors
        self.people: Sequence[str] = [account.address for account in accounts()]

    def homes(self) -> dict[str, str]:
        return {account.address: account.home.primary for account in self._accounts()}

    def mailboxes(self) -> list[Mailbox]:
        book = Book(self._config.domains, self._config.units, self._config.servers)
        found = []
        for account in self._accounts():
            server = book.server(account.home.primary)
            if server is None:
                raise DrillError(f"{account.address}: no server {account.home.primary} in the configuration")
            found.append(mailbox(account, server, self.password))
        return found

    def waiting(self) -> int | None:
        (answer,) = statuses(self._controls).values()
        return None if answer is None else unsettled(answer)

    def ages(self) -> Mapping[str, float]:
        return ages(self._controls.values(), self.people)

    def world(self) -> list[Left]:
        return []


def mailbox(account: Account, server: Server, password: str) -> Mailbox:
    """The account at its server itself; by the server's own way in, if there is one."""
    user = _formatted(server.mailbox_format, account.mailbox_name)
    host, port, tls = server.imap.host, server.imap.port, server.imap.tls is TlsMode.IMPLICIT
    if server.login_way is LoginWay.MASTER:
        return Mailbox(account.address, host, port, f"{user}*{server.master_user}", server.master_password,
                       server.name, tls)
    if server.login_way is LoginWay.AUTHZID:
        # The ledger's word is authority NUL user NUL password: who is meant, who logs in.
        return Mailbox(account.address, host, port, user, server.master_password, server.name, tls, server.master_user)
    return Mailbox(account.address, host, port, user, password, server.name, tls)


def _formatted(template: str, name: str) -> str:
    local, _, domain = name.rpartition("@")
    return template.format(local=local or name, domain=domain, tag="")
