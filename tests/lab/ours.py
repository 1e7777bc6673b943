"""The command `onedomain` for the tests: executed, or forked from a process that has imported it (`nursery.py`).

Forked only within a run of the tests (`tests/conftest.py`), and where it makes no difference: not in another network
namespace, not with another PYTHONPATH. `bench` and `onedomain demo` execute.
"""

from __future__ import annotations

import array
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from tests.lab.process import Tree, search_path

ROOT = Path(__file__).parents[2]
LANGUAGE = "ONEDOMAIN_LANG"


def command(*words: str | Path) -> list[str]:
    """`onedomain` of the Python that runs the tests, to be executed."""
    return [sys.executable, "-m", "onedomain.cli.main", *map(str, words)]


def run(
    *words: str | Path, text: str | None = None, timeout: float = 120, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """One verb, to its end. subprocess.TimeoutExpired."""
    around = {**os.environ, LANGUAGE: "en", **(environment or {})}
    if (nursery := Nursery.of_this_run) is None:
        return subprocess.run(command(*words), input=text, capture_output=True, text=True, timeout=timeout, env=around)
    file = tempfile.TemporaryFile
    with file("w+") as given, file("w+") as out, file("w+") as err:
        given.write(text or "")
        given.seek(0)
        verb = nursery.grow([str(word) for word in words], (given, out, err), around, kept=False)
        try:
            verb.wait(timeout)
        except subprocess.TimeoutExpired:
            verb.send_signal(signal.SIGKILL)
            raise
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(command(*words), verb.returncode or 0, out.read(), err.read())


class Ours(Tree):
    """A verb that stays, such as `run` or `node run`, with everything it starts."""

    def __init__(self, words: Sequence[str | Path], output: Path, namespace: str | None = None) -> None:
        super().__init__(command(*words), output, namespace)
        self._words = [str(word) for word in words]

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        nursery, more = Nursery.of_this_run, environment or {}
        if nursery is None or self.namespace or "PYTHONPATH" in more:
            super().start(environment)
            return
        if self.running:
            raise RuntimeError(f"{self._words} is running already")
        with self.output.open("ab") as output:
            self._keeper = nursery.keep(self._words, output, {**os.environ, "PATH": search_path(), **more})


class Grown:
    """A process that the nursery forked, as a subprocess.Popen is one that was executed."""

    def __init__(self, line: socket.socket, pid: int, words: list[str], stdin: IO[bytes] | None = None) -> None:
        self._line = line
        self._said = b""
        self._words = words
        self.pid = pid
        self.stdin = stdin
        self.returncode: int | None = None

    def poll(self) -> int | None:
        self._listen(0)
        return self.returncode

    def wait(self, timeout: float) -> int:
        deadline = time.monotonic() + timeout
        while self.returncode is None:
            if (left := deadline - time.monotonic()) <= 0:
                raise subprocess.TimeoutExpired(self._words, timeout)
            self._listen(left)
        return self.returncode

    def _listen(self, seconds: float) -> None:
        """What it says is its exit status; it breaks the line when it is gone."""
        if self.returncode is not None or not select.select([self._line], [], [], seconds)[0]:
            return
        if said := self._line.recv(100):
            self._said += said
            return
        # The line is left open: several threads may look.
        self.returncode = int(self._said) if self._said else -signal.SIGKILL

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


class Nursery:
    """Started when it is needed for the first time."""

    of_this_run: Nursery | None = None

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="od-"))
        self._program: subprocess.Popen[str] | None = None
        self._starting = threading.Lock()

    def grow(
        self, words: list[str], descriptors: tuple[IO[str] | IO[bytes] | int, ...], environment: Mapping[str, str],
        *, kept: bool
    ) -> Grown:
        """`kept`: under a keeper of its own, which ends it when the other end of descriptor 0 is closed."""
        path = self._folder / "socket"
        with self._starting:
            if self._program is None:
                self._program = subprocess.Popen(
                    [sys.executable, "-m", "tests.lab.nursery", str(path)], cwd=ROOT, text=True, bufsize=0,
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
                )
                assert self._program.stdout is not None
                assert self._program.stdout.readline() == "ready\n"
        line = socket.socket(socket.AF_UNIX)
        line.connect(str(path))
        request = {"words": words, "environment": dict(environment), "folder": os.getcwd(), "kept": kept}
        numbers = array.array("i", [each if isinstance(each, int) else each.fileno() for each in descriptors])
        data = json.dumps(request).encode() + b"\n"
        sent = socket.send_fds(line, [data], list(numbers))
        line.sendall(data[sent:])
        pid = b""
        while not pid.endswith(b"\n"):
            said = line.recv(1)
            assert said, f"the nursery did not start {words}"
            pid += said
        return Grown(line, int(pid), words)

    def keep(self, words: list[str], output: IO[bytes], environment: Mapping[str, str]) -> Grown:
        ours, its = os.pipe()
        try:
            grown = self.grow(words, (ours, output, output), environment, kept=True)
        except BaseException:
            os.close(its)
            raise
        finally:
            os.close(ours)
        grown.stdin = os.fdopen(its, "wb")
        return grown

    def close(self) -> None:
        if self._program is not None and self._program.stdin is not None:
            self._program.stdin.close()
            self._program.wait(10)
        shutil.rmtree(self._folder, ignore_errors=True)
