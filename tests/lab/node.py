"""Our own mail server as a process of the lab, run as its users run it: a file and `onedomain node run`.

Knows the command line and the file's format, from the outside; imports nothing of onedomain.
"""

from __future__ import annotations

import imaplib
import json
import smtplib
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.lab.edge import toml
from tests.lab.ours import Ours, run
from tests.lab.ports import free_port
from tests.lab.process import Server, Tree, answers

PASSWORD = "secret"


class Node(Server):
    """One instance. Accounts come into being when mail or the proxy user asks for them; with `users` (name to
    password) nobody else exists.

    "edge" is the proxy user: it may log in with anybody's name as the SASL authorisation identity (RFC 4616).
    `settings` are further keys of the file.
    """

    kind = "node"
    proxy, proxy_password = "edge", "proxysecret"

    def __init__(
        self,
        folder: Path,
        *,
        host: str = "127.0.0.1",
        namespace: str | None = None,
        users: Mapping[str, str] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(folder, host, namespace)
        folder.mkdir(parents=True, exist_ok=True)
        self.users = dict(users) if users is not None else None
        self.imap_port, self.lmtp_port = free_port(host), free_port(host)
        self.config = folder / "node.toml"
        self.data = folder / "data"
        values = {
            "data": self.data,
            "name": "node.example.com",
            "lmtp": [f"{host}:{self.lmtp_port}"],
            "imap": [f"{host}:{self.imap_port}"],
            "proxy_user": self.proxy,
            "proxy_password": self.proxy_password,
            "autocreate": users is None,
            **(settings or {}),
        }
        self.config.write_text("".join(f"{key} = {toml(value)}\n" for key, value in values.items()))
        for user, password in self.users.items() if self.users else ():
            self._verb("account", "add", user, "--password-stdin", text=password + "\n")

    def _verb(self, *words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        done = run("node", *words, "--config", self.config, text=text)
        done.check_returncode()
        return done

    def _launch(self) -> Tree:
        tree = Ours(["node", "run", "--config", self.config], self.folder / "node.log", self.namespace)
        tree.start()
        return tree

    def _is_ready(self) -> bool:
        return answers(self.host, self.imap_port) and answers(self.host, self.lmtp_port)

    def imap(self, user: str, password: str | None = None, timeout: float = 30) -> imaplib.IMAP4:
        """A session of imaplib: the proxy user's on the account's behalf, unless a password is given."""
        session = imaplib.IMAP4(self.host, self.imap_port, timeout=timeout)
        if password is not None:
            session.login(user, password)
        else:
            session.authenticate("PLAIN", lambda _: "\0".join((user, self.proxy, self.proxy_password)).encode())
        return session

    def prepare(self, *users: str) -> None:
        """Make the accounts named, by logging in."""
        for user in users:
            self.imap(user).logout()

    def lmtp(self, timeout: float = 30) -> smtplib.LMTP:
        return smtplib.LMTP(self.host, self.lmtp_port, local_hostname="lab.example.com", timeout=timeout)

    def check(self) -> dict[str, Any]:
        """What `onedomain node check` finds of everything that is kept."""
        found: dict[str, Any] = json.loads(run("node", "check", "--json", "--config", self.config).stdout)
        return found
