"""Postfix: its configuration is bench/peers/postfix-main.cf and -master.cf. Knows nothing of what is measured."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.lab.ports import free_port
from tests.lab.process import Server, Tree, answers, need, search_path

from bench.peer import filled, first_line

ENVIRONMENT = {"PATH": search_path()}


class Postfix(Server):
    """`relay` is the port of the next server, spoken to in `protocol`; 0: messages are only taken into the queue.

    `log_in` is the socket of a Dovecot that checks passwords; without one nobody can log in.
    """

    kind = "postfix"

    def __init__(
        self,
        folder: Path,
        *,
        people: Iterable[str],
        relay: int = 0,
        protocol: str = "smtp",
        processes: int = 100,
        log_in: Path | None = None,
    ) -> None:
        need("postfix", "postfix", "/usr/lib/postfix/sbin/master", root=True)
        super().__init__(folder)
        self.port = {"smtp": free_port(), "submission": free_port()}
        self.config = folder / "etc"
        for part in ("etc", "queue", "data"):
            (folder / part).mkdir(exist_ok=True)
        shutil.chown(folder / "data", "postfix")
        recipients = folder / "recipients"
        recipients.write_text("".join(f"{address} ok\n" for address in people))
        (self.config / "main.cf").write_text(
            filled(
                "postfix-main.cf", folder=folder, recipients=f"hash:{recipients}", processes=processes,
                transport=f"{protocol}:[127.0.0.1]:{relay or 9}",
            )
        )  # fmt: skip
        (self.config / "master.cf").write_text(
            filled(
                "postfix-master.cf", smtpds=max(processes, 220), qmgr="" if relay else "#", log_in=log_in,
                sasl="" if log_in else "#", **self.port,
            )
        )  # fmt: skip
        subprocess.run(["postmap", "-c", self.config, recipients], check=True, env=ENVIRONMENT)

    def _launch(self) -> Tree:
        (self.folder / "queue/pid/master.pid").unlink(missing_ok=True)
        tree = Tree(["postfix", "-c", self.config, "start-fg"], self.folder / "master.log")
        tree.start()
        return tree

    def _is_ready(self) -> bool:
        return answers(self.host, self.port["smtp"])


def version() -> str:
    done = subprocess.run(
        ["postconf", "-h", "mail_version"], capture_output=True, text=True, check=False, env=ENVIRONMENT
    )
    return "postfix/" + first_line(done.stdout)
