"""Who carries an account from one server to another: mbsync, dsync, and our link. Knows how each is run once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tests.lab.cyrus import Cyrus
from tests.lab.dovecot import Dovecot
from tests.lab.process import need, search_path

from bench.measure import own_seconds
from bench.peer import filled

ROOT = Path(__file__).resolve().parents[1]
PASSWORD = "secret"
Lab = Dovecot | Cyrus


@dataclass(frozen=True, slots=True)
class Pair:
    source: Dovecot
    target: Lab
    folder: Path


class Tool(Protocol):
    def once(self, user: str, told: str = "") -> float:
        """Everything that is new, gone or changed; the CPU seconds of the tool's own process. Raises RuntimeError.
        `told`: the folder in which something has happened, for who can make use of that.
        """
        ...

    def close(self) -> None: ...


class Mbsync:
    def __init__(self, pair: Pair) -> None:
        need("mbsync", "mbsync")
        self._pair = pair

    def once(self, user: str, told: str = "") -> float:
        state = self._pair.folder / f"mbsync-{user}"
        state.mkdir(exist_ok=True)
        config = state / "mbsyncrc"
        config.write_text(
            filled(
                "mbsync.rc", far_port=self._pair.source.imap_port, far_user=user, far_password=PASSWORD,
                near_port=self._pair.target.imap_port, near_user=user, near_password=PASSWORD, state=state,
            )
        )  # fmt: skip
        return _run(["mbsync", "-q", "-c", str(config), "copy"])

    def close(self) -> None:
        """Nothing of it runs."""


class Dsync:
    """Dovecot's own, by `doveadm backup`, to another Dovecot over its doveadm port."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair

    def once(self, user: str, told: str = "") -> float:
        source, target = self._pair.source, self._pair.target
        assert isinstance(target, Dovecot)
        return _run(["doveadm", "-c", str(source.config), "backup", "-u", user, f"tcp:127.0.0.1:{target.doveadm_port}"])

    def close(self) -> None:
        """Nothing of it runs."""


class OurLink:
    """bench/link.py: a process that stays, as the linker does."""

    def __init__(self, pair: Pair) -> None:
        tables = {"source": _table(pair.source, "one"), "target": _table(pair.target, "two")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.link", json.dumps(tables)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, cwd=ROOT,
        )  # fmt: skip
        self._heard()

    def once(self, user: str, told: str = "") -> float:
        assert self._process.stdin
        before = own_seconds(self._process.pid)
        self._process.stdin.write(f"{user}\t{told}\n")
        self._process.stdin.flush()
        answer = self._heard()
        if not answer["whole"] or answer["alerts"]:
            raise RuntimeError(f"the link did not come to an end: {answer}")
        return own_seconds(self._process.pid) - before

    def close(self) -> None:
        assert self._process.stdin and self._process.stdout
        with suppress(BrokenPipeError):  # it has ended, and its row says so
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def _heard(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the link's process has ended with {self._process.wait()}")
        return dict(json.loads(line))


def _table(lab: Lab, name: str) -> dict[str, Any]:
    table: dict[str, Any] = {"name": name, "kind": lab.kind, "imap": lab.imap_port, "lmtp": lab.lmtp_port}
    if isinstance(lab, Dovecot):
        return table | {"way": "master", "user": lab.master_user, "password": lab.master_password,
                        "doveadm": lab.doveadm_http_port, "key": lab.api_key}  # fmt: skip
    return table | {"way": "authzid", "user": lab.proxy, "password": lab.proxy_password,
                    "replication_user": lab.admin, "replication_password": lab.admin_password}  # fmt: skip


def _run(command: list[str]) -> float:
    """CPU seconds of the command and all that it has waited for."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "PATH": search_path()}
    ) as process:
        assert process.stdout
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 2):  # dsync's 2: something changed meanwhile, run again
        raise RuntimeError(f"{command[0]}: exit {process.returncode}: {said.decode(errors='replace')[-300:]}")
    return usage.ru_utime + usage.ru_stime


TOOLS: dict[str, type[Mbsync] | type[Dsync] | type[OurLink]] = {"mbsync": Mbsync, "dsync": Dsync, "onedomain": OurLink}
