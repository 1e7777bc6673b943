"""Dovecot as a proxy: its configuration is bench/peers/dovecot.conf. Knows nothing of what is measured."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.lab.ports import free_port
from tests.lab.process import Server, Tree, answers, need
from tests.lab.tls import Certificate

from bench.peer import Behind, filled, first_line


class _Dovecot(Server):
    kind = "dovecot"
    config: Path

    def _launch(self) -> Tree:
        tree = Tree(["dovecot", "-F", "-c", self.config], self.folder / "master.log")
        tree.start()
        return tree


class DovecotProxy(_Dovecot):
    """With `packaged` every session has a log-in process of its own, as Debian sets it up; else two that stay.

    With `hashes` (user to password hash) it checks passwords itself, else it lets everybody in.
    """

    def __init__(
        self,
        folder: Path,
        behind: Behind,
        tls: Certificate,
        *,
        packaged: bool = False,
        hashes: Mapping[str, str] | None = None,
    ) -> None:
        need("dovecot", "/usr/sbin/dovecot", "/usr/lib/dovecot/pop3", root=True)
        super().__init__(folder)
        self.port = {name: free_port() for name in ("imap", "imaps", "pop3")}
        self.config = folder / "dovecot.conf"
        users = folder / "users"
        users.write_text(_passwd_file(hashes or {}))
        self.config.write_text(
            filled(
                "dovecot.conf", folder=folder, certificate=tls.cert, key=tls.key, count=1 if packaged else 0,
                imap_server=behind.imap, pop3_server=behind.pop3, users=users, checked="" if hashes else "#",
                unchecked="#" if hashes else "", **self.port,
            )
        )  # fmt: skip

    def _is_ready(self) -> bool:
        return all(answers(self.host, self.port[name]) for name in ("imap", "pop3"))


class DovecotLogIn(_Dovecot):
    """Its authentication service alone, for Postfix: bench/peers/dovecot-login.conf."""

    def __init__(self, folder: Path, hashes: Mapping[str, str]) -> None:
        need("dovecot", "/usr/sbin/dovecot", root=True)
        super().__init__(folder)
        self.config = folder / "dovecot.conf"
        self.socket = folder / "login"
        users = folder / "users"
        users.write_text(_passwd_file(hashes))
        self.config.write_text(filled("dovecot-login.conf", folder=folder, socket=self.socket, users=users))

    def _is_ready(self) -> bool:
        return self.socket.is_socket()


def _passwd_file(hashes: Mapping[str, str]) -> str:
    return "".join(f"{user}:{password}::::::\n" for user, password in hashes.items())


def version() -> str:
    done = subprocess.run(["/usr/sbin/dovecot", "--version"], capture_output=True, text=True, check=False)
    return "dovecot/" + first_line(done.stdout).split(" ")[0]
