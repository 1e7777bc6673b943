"""One server as a tree of processes: start, wait until it answers, stop, kill, pause, resume.

Knows processes, pipes and sockets; knows nothing of mail, of configuration files or of pytest's fixtures.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol

import pytest

from tests.lab.keeper import descendants, signal_tree

KEEPER = Path(__file__).with_name("keeper.py")
PATIENCE = 60.0
"""Seconds after which a server that does not answer is broken; two busy cores can make a good one slow."""

ENDING = 20.0
"""Seconds for an orderly end: an edge gives its own processes ten, and ends them itself after that."""

POLL = 0.01
SHARE = 4
"""How many times as long as a look takes is waited until the next: what is looked at has work to do meanwhile."""


class NotReady(Exception):
    """A server did not come up, or did not go down, in time; carries the end of its log."""


def need(name: str, *programs: str | Path, root: bool = False) -> None:
    """Skip the running test when a program it needs is not here; under ONEDOMAIN_CI=1 fail it instead."""
    missing = [str(program) for program in programs if shutil.which(program, path=search_path()) is None]
    if root and os.geteuid() != 0:
        missing.append("root")
    if not missing:
        return
    reason = f"needs {name} (not here: {', '.join(missing)}; see tests/lab/install.sh)"
    if os.environ.get("ONEDOMAIN_CI") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def search_path() -> str:
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def wait_until(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Poll `condition` until it is true; NotReady, naming `what`, after `patience` seconds."""
    deadline = time.monotonic() + patience
    while True:
        began = time.monotonic()
        if condition():
            return
        now = time.monotonic()
        if now > deadline:
            raise NotReady(f"{what}: not within {patience:g} s")
        time.sleep(min(max(POLL, SHARE * (now - began)), 0.5))


def answers(host: str, port: int, greeting: bool = True) -> bool:
    """Whether something accepts connections there and, with `greeting`, speaks first."""
    try:
        with socket.create_connection((host, port), timeout=5) as connection:
            return not greeting or bool(connection.recv(4096))
    except OSError:
        return False


class Keeper(Protocol):
    """A subprocess.Popen, or what is like one."""

    pid: int
    stdin: IO[bytes] | None

    def poll(self) -> int | None: ...
    def wait(self, timeout: float) -> int: ...
    def send_signal(self, number: int) -> None: ...


class Tree:
    """A command and everything it starts, under a keeper of its own.

    `output` receives standard output and error. `namespace` is the name of a network namespace to run in.
    """

    def __init__(self, command: Sequence[str | Path], output: Path, namespace: str | None = None) -> None:
        self.command = [str(word) for word in command]
        self.output = output
        self.namespace = namespace
        self._keeper: Keeper | None = None

    @property
    def running(self) -> bool:
        return self._keeper is not None and self._keeper.poll() is None

    @property
    def root(self) -> int:
        """The keeper's process id: everything of the tree is below it and reaped by it or by its own parent."""
        return self._keeper.pid if self._keeper else 0

    @property
    def pids(self) -> list[int]:
        """Every live process of the tree, the keeper not among them."""
        return descendants(self._keeper.pid) if self._keeper and self.running else []

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        if self.running:
            raise RuntimeError(f"{self.command[0]} is running already")
        into = ["ip", "netns", "exec", self.namespace] if self.namespace else []
        with self.output.open("ab") as output:
            self._keeper = subprocess.Popen(
                [*into, sys.executable, "-IS", str(KEEPER), *self.command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env={**os.environ, "PATH": search_path(), **(environment or {})},
                start_new_session=True,  # Ctrl-C goes to the tests, which then stop their servers in order
            )

    def signal(self, number: int) -> None:
        """Send a signal to every process of the tree, the keeper excepted."""
        if self._keeper and self.running:
            signal_tree(self._keeper.pid, number)

    def signal_first(self, number: int) -> None:
        """Send SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGUSR1 or SIGUSR2 to the command itself, by way of the keeper."""
        if self._keeper and self.running:
            self._keeper.send_signal(number)

    def pause(self) -> None:
        """Hang: connections are still accepted by the kernel, nothing is ever answered."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL for the whole tree at one instant: stopped first, so that no process sees another die."""
        self.signal(signal.SIGSTOP)
        self.signal(signal.SIGKILL)
        self._join()

    def terminate(self) -> None:
        """SIGTERM for the command; SIGKILL for what it leaves behind, and for all of it after ENDING."""
        self.resume()
        self.signal_first(signal.SIGTERM)
        try:
            wait_until(lambda: not self.running, self.command[0], patience=ENDING)
        except NotReady:
            self.kill()
        self._join()

    def _join(self) -> None:
        if self._keeper is None:
            return
        if self._keeper.stdin:
            self._keeper.stdin.close()
        self._keeper.wait(PATIENCE)
        self._keeper = None


class Server:
    """What all servers of the lab have in common. A kind fills in `_launch` and `_is_ready`.

    The folder belongs to this instance alone and outlives `stop` and `kill`: a second `start` finds the mail there.
    """

    kind = "server"

    def __init__(self, folder: Path, host: str = "127.0.0.1", namespace: str | None = None) -> None:
        self.folder = folder
        self.host = host
        self.namespace = namespace
        self.tree: Tree | None = None

    @property
    def running(self) -> bool:
        return self.tree is not None and self.tree.running

    @property
    def pids(self) -> list[int]:
        return self.tree.pids if self.tree else []

    def _launch(self) -> Tree:
        raise NotImplementedError

    def _is_ready(self) -> bool:
        raise NotImplementedError

    def log(self) -> str:
        """Everything the server has logged so far."""
        files = sorted(self.folder.glob("*.log"))
        return "".join(f"== {file.name}\n{file.read_text(errors='replace')}" for file in files)

    def start(self) -> None:
        """Start, and return once every port answers."""
        self.tree = self._launch()
        try:
            wait_until(lambda: not self.running or self._is_ready(), f"{self.kind} in {self.folder}")
            if not self.running:
                raise NotReady(f"{self.kind} in {self.folder} ended at once")
        except NotReady as failure:
            self.kill()
            raise NotReady(f"{failure}\n{self.log()[-4000:]}") from None

    def stop(self) -> None:
        """End in an orderly way."""
        if self.tree:
            self.tree.terminate()

    def kill(self) -> None:
        """SIGKILL for every process of the instance at once: a power cut, but for the disk cache, which survives."""
        if self.tree:
            self.tree.kill()

    def pause(self) -> None:
        if self.tree:
            self.tree.pause()

    def resume(self) -> None:
        if self.tree:
            self.tree.resume()
