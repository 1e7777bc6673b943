"""Our own node as a server of the lab: a process of its own, with one account that has a password."""

from __future__ import annotations

import imaplib
import smtplib
from pathlib import Path

from tests.lab.ours import Ours, run
from tests.lab.ports import free_port
from tests.lab.process import Server, Tree, answers

PASSWORD = "secret"


def make_account(data: Path, address: str) -> None:
    run("node", "account", "add", "--data", data, "--password-stdin", address, text=f"{PASSWORD}\n").check_returncode()


class Node(Server):
    """Everybody of example.com gets a mailbox at the first delivery; "proxy" may log in as anybody, "replica" links."""

    kind = "node"
    proxy, proxy_password = "proxy", "proxysecret"
    replication_user, replication_password = "replica", "replicasecret"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.imap_port, self.lmtp_port = free_port(), free_port()

    def _launch(self) -> Tree:
        (self.folder / "node.toml").write_text(
            f'replication_user = "{self.replication_user}"\nreplication_password = "{self.replication_password}"\n'
        )
        command = [
            "node", "run", "--data", self.folder / "data", "--lmtp", f"{self.host}:{self.lmtp_port}",
            "--imap", f"{self.host}:{self.imap_port}", "--proxy-user", self.proxy,
            "--autocreate", "--domain", "example.com", "--config", self.folder / "node.toml",
        ]  # fmt: skip
        tree = Ours(command, self.folder / "node.log")
        tree.start({"ONEDOMAIN_NODE_PROXY_PASSWORD": self.proxy_password})
        return tree

    def _is_ready(self) -> bool:
        return answers(self.host, self.imap_port) and answers(self.host, self.lmtp_port)

    def lmtp(self, timeout: float = 30) -> smtplib.LMTP:
        return smtplib.LMTP(self.host, self.lmtp_port, local_hostname="lab.example.com", timeout=timeout)

    def imap(self, user: str) -> imaplib.IMAP4:
        """A session of imaplib, logged in as the proxy user."""
        session = imaplib.IMAP4(self.host, self.imap_port, timeout=30)
        session.authenticate("PLAIN", lambda _: f"{user}\0{self.proxy}\0{self.proxy_password}".encode())
        return session
