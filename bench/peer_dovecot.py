"""Dovecot as a proxy: its configuration is bench/peers/dovecot.conf. Knows nothing of what is measured."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.lab.ports import free_port
from tests.lab.process import Server, Tree, answers, need
from tests.lab.tls import Certificate

from bench.peer import Behind, filled, first_line


class DovecotProxy(Server):
    """With `packaged` every session has a log-in process of its own, as Debian sets it up; else two that stay."""

    kind = "dovecot"

    def __init__(self, folder: Path, behind: Behind, tls: Certificate, *, packaged: bool = False) -> None:
        need("dovecot", "/usr/sbin/dovecot", "/usr/lib/dovecot/pop3", root=True)
        super().__init__(folder)
        self.port = {name: free_port() for name in ("imap", "imaps", "pop3")}
        self.config = folder / "dovecot.conf"
        self.config.write_text(
            filled(
                "dovecot.conf", folder=folder, certificate=tls.cert, key=tls.key, count=1 if packaged else 0,
                imap_server=behind.imap, pop3_server=behind.pop3, **self.port,
            )
        )  # fmt: skip

    def _launch(self) -> Tree:
        tree = Tree(["dovecot", "-F", "-c", self.config], self.folder / "master.log")
        tree.start()
        return tree

    def _is_ready(self) -> bool:
        return all(answers(self.host, self.port[name]) for name in ("imap", "pop3"))


def version() -> str:
    done = subprocess.run(["/usr/sbin/dovecot", "--version"], capture_output=True, text=True, check=False)
    return "dovecot/" + first_line(done.stdout).split(" ")[0]
