"""The supervisor with real processes: replaces the dead, kills the hung, passes signals, takes everybody along."""

from __future__ import annotations

import itertools
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from onedomain.app import supervisor as module
from onedomain.app.supervisor import Beats, Child, Supervisor
from onedomain.model.ports import Trace


class Silent:
    def note(self, event: str, **fields: Any) -> None:
        pass


class Telling:
    """Of what ended, down the children's pipe."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe

    def note(self, event: str, **fields: Any) -> None:
        if event in ("process died", "process ended"):
            os.write(self._pipe.write, f"{event} {fields['child']} {fields['status']}\n".encode())


class Pipe:
    """What children say: one line each, read with a limit."""

    def __init__(self) -> None:
        self._read, self.write = os.pipe()
        self._rest = b""

    def line(self, timeout: float = 10.0) -> list[str]:
        until = time.monotonic() + timeout
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], max(0.0, until - time.monotonic()))
            assert ready, "nothing said in time"
            more = os.read(self._read, 4096)
            assert more, "everybody is gone"
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode().split()

    def end(self, timeout: float = 10.0) -> None:
        """Waits until no process holds the writing side."""
        until = time.monotonic() + timeout
        while True:
            ready, _, _ = select.select([self._read], [], [], max(0.0, until - time.monotonic()))
            assert ready, "somebody is still alive"
            if not os.read(self._read, 4096):
                return


@contextmanager
def running(beats: Beats, children: Callable[[Pipe], list[Child]], reload: Callable[[], bool] | None = None,
            trace: Callable[[Pipe], Trace] = lambda _: Silent()) -> Iterator[tuple[int, Pipe]]:
    pipe = Pipe()
    pid = os.fork()
    if pid == 0:
        os._exit(Supervisor(children(pipe), beats, trace(pipe), reload).run())
    os.close(pipe.write)
    try:
        yield pid, pipe
    finally:
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        pipe.end()


def speaker(pipe: Pipe, name: str, beats: Beats | None = None, index: int = 0) -> Callable[[], int]:
    def main() -> int:
        signal.signal(signal.SIGHUP, lambda *_: os.write(pipe.write, f"{name} hup\n".encode()))
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        os.write(pipe.write, f"{name} {os.getpid()}\n".encode())
        while True:
            if beats:
                beats.beat(index)
            if signal.sigtimedwait({signal.SIGTERM}, 0.05):
                os.write(pipe.write, f"{name} bye\n".encode())
                return 0
    return main


def test_a_killed_child_is_replaced_and_the_other_is_left_alone() -> None:
    beats = Beats(2)
    with running(beats, lambda p: [Child("a", speaker(p, "a", beats, 0)), Child("b", speaker(p, "b", beats, 1))]
                 ) as (_, pipe):
        pids = dict(pipe.line() for _ in range(2))
        os.kill(int(pids["a"]), signal.SIGKILL)
        name, new = pipe.line()
        assert name == "a" and new != pids["a"]
        os.kill(int(pids["b"]), 0)


def test_a_hung_child_is_killed_and_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HANGS_AFTER", 0.5)
    beats = Beats(1)
    with running(beats, lambda p: [Child("a", speaker(p, "a", beats))]) as (_, pipe):
        _, first = pipe.line()
        os.kill(int(first), signal.SIGSTOP)
        _, second = pipe.line()
        assert first != second


def test_term_ends_everybody_in_order() -> None:
    beats = Beats(1)
    with running(beats, lambda p: [Child("a", speaker(p, "a", beats))]) as (pid, pipe):
        pipe.line()
        os.kill(pid, signal.SIGTERM)
        assert pipe.line() == ["a", "bye"]
        assert os.waitpid(pid, 0)[1] == 0


def test_an_orderly_end_is_not_told_as_a_death() -> None:
    beats = Beats(1)
    with running(beats, lambda p: [Child("a", speaker(p, "a", beats))], trace=Telling) as (pid, pipe):
        _, first = pipe.line()
        os.kill(int(first), signal.SIGKILL)
        assert pipe.line() == ["process", "died", "a", "-9"]
        pipe.line()
        os.kill(pid, signal.SIGTERM)
        assert [pipe.line(), pipe.line()] == [["a", "bye"], ["process", "ended", "a", "0"]]


def test_children_follow_a_killed_supervisor() -> None:
    beats = Beats(1)
    with running(beats, lambda p: [Child("a", speaker(p, "a", beats))]) as (pid, pipe):
        pipe.line()
        os.kill(pid, signal.SIGKILL)
        assert pipe.line() == ["a", "bye"]


@pytest.mark.parametrize("good", [True, False])
def test_hup_reaches_the_children_only_with_a_good_configuration(good: bool) -> None:
    beats = Beats(1)
    with running(beats, lambda p: [Child("a", speaker(p, "a", beats))], lambda: good) as (pid, pipe):
        pipe.line()
        os.kill(pid, signal.SIGHUP)
        if good:
            assert pipe.line() == ["a", "hup"]
        os.kill(pid, signal.SIGTERM)
        assert pipe.line() == ["a", "bye"]


def test_a_child_that_dies_at_once_is_restarted_with_growing_pauses() -> None:
    beats = Beats(1)

    def children(pipe: Pipe) -> list[Child]:
        def main() -> int:
            os.write(pipe.write, f"died {time.monotonic()}\n".encode())
            return 3
        return [Child("a", main)]

    with running(beats, children) as (_, pipe):
        times = [float(pipe.line()[1]) for _ in range(4)]
        gaps = [b - a for a, b in itertools.pairwise(times)]
        assert gaps[1] > gaps[0] and gaps[2] > gaps[1] * 1.2
