"""nginx's mail module as a proxy: its configuration is bench/peers/nginx.conf. Knows nothing of what is measured."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.lab.ports import free_port
from tests.lab.process import Server, Tree, answers, need
from tests.lab.tls import Certificate

from bench.peer import Behind, filled, first_line

MODULES = Path("/usr/lib/nginx/modules")


class Nginx(Server):
    """`buffer` is 4k as packaged, or 64k."""

    kind = "nginx"

    def __init__(self, folder: Path, behind: Behind, tls: Certificate, *, buffer: str = "4k") -> None:
        need("nginx with libnginx-mod-mail", "nginx", root=True)
        super().__init__(folder)
        self.port = {name: free_port() for name in ("imap", "imaps", "pop3")}
        self.config = folder / "nginx.conf"
        self.config.write_text(
            filled(
                "nginx.conf", folder=folder, modules=MODULES, auth=free_port(), buffer=buffer, imap_server=behind.imap,
                pop3_server=behind.pop3, certificate=tls.cert, key=tls.key, **self.port,
            )
        )  # fmt: skip

    def _launch(self) -> Tree:
        tree = Tree(["nginx", "-c", self.config], self.folder / "nginx.log")
        tree.start()
        return tree

    def _is_ready(self) -> bool:
        return all(answers(self.host, self.port[name]) for name in ("imap", "pop3"))


def version() -> str:
    done = subprocess.run(["/usr/sbin/nginx", "-v"], capture_output=True, text=True, check=False)
    return first_line(done.stderr).removeprefix("nginx version: ")
