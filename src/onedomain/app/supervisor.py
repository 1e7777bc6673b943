"""The parent of an edge's processes: starts them, replaces what dies, kills what hangs, passes signals on.

Knows children by name and function. Does not know mail, sockets or configuration. It is one thread without an event
loop, so that it can fork at any time, and small, so that it does not die.

A child learns of its supervisor's death by SIGTERM (prctl PR_SET_PDEATHSIG) and ends as on any other stop.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from onedomain.model.ports import Trace

PR_SET_PDEATHSIG = 1
HANGS_AFTER = 15.0      # seconds without a beat; a worker's loop never blocks for one
STOP_WITHIN = 10.0      # seconds for children to end what is under way
FAST_DEATH = 2.0        # a child that lived shorter is restarted with growing pauses
LONGEST_PAUSE = 10.0

_SIGNALS = {signal.SIGCHLD, signal.SIGHUP, signal.SIGTERM, signal.SIGINT}


class Beats:
    """One float per child in shared memory: the monotonic time of its last sign of life. Made before the fork."""

    def __init__(self, count: int) -> None:
        self._map = mmap.mmap(-1, max(1, count) * 8)

    def beat(self, index: int) -> None:
        struct.pack_into("d", self._map, index * 8, time.monotonic())

    def last(self, index: int) -> float:
        value: float = struct.unpack_from("d", self._map, index * 8)[0]
        return value


@dataclass(slots=True)
class Child:
    """`main` runs in the fork and returns its exit status."""

    name: str
    main: Callable[[], int]
    pid: int = 0
    started: float = 0.0
    deaths: int = 0          # in a row, each soon after its start
    restart_at: float = 0.0


class Supervisor:
    def __init__(self, children: Sequence[Child], beats: Beats, trace: Trace,
                 reload: Callable[[], bool] | None = None, stopping: Callable[[], None] | None = None,
                 become: Callable[[], None] | None = None) -> None:
        """`reload` checks the new configuration; only if it says yes do the children hear of it. `stopping` gives up
        what was kept for children to come. `become` is done first in each child.
        """
        self._children = list(children)
        self._beats = beats
        self._trace = trace
        self._reload = reload
        self._stopping = stopping
        self._become = become
        self._ends = False

    def run(self) -> int:
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        for index in range(len(self._children)):
            self._start(index)
        while True:
            got = signal.sigtimedwait(_SIGNALS, 0.25)
            if got is not None and got.si_signo in (signal.SIGTERM, signal.SIGINT):
                self._stop()
                return 0
            if got is not None and got.si_signo == signal.SIGHUP and (self._reload is None or self._reload()):
                self._tell_all(signal.SIGHUP)
            self._reap()
            self._kill_hung()
            self._restart_due()

    def _start(self, index: int) -> None:
        child = self._children[index]
        self._beats.beat(index)
        child.started = time.monotonic()
        parent = os.getpid()
        child.pid = os.fork()
        if child.pid == 0:
            os._exit(_child(child.main, parent, self._become))
        self._trace.note("process started", child=child.name, pid=child.pid)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for child in self._children:
                if child.pid == pid:
                    self._died(child, status)

    def _died(self, child: Child, status: int) -> None:
        now = time.monotonic()
        child.pid = 0
        code = os.waitstatus_to_exitcode(status)
        if self._ends:
            self._trace.note("process ended", child=child.name, status=code)
            return
        child.deaths = child.deaths + 1 if now - child.started < FAST_DEATH else 0
        pause = 0.0 if child.deaths == 0 else min(LONGEST_PAUSE, 0.1 * 2 ** min(child.deaths, 10))
        child.restart_at = now + pause
        self._trace.note("process died", child=child.name, status=code, restart_in=round(pause, 2))

    def _restart_due(self) -> None:
        for index, child in enumerate(self._children):
            if child.pid == 0 and time.monotonic() >= child.restart_at:
                self._start(index)

    def _kill_hung(self) -> None:
        for index, child in enumerate(self._children):
            silence = time.monotonic() - self._beats.last(index)
            if child.pid and silence > HANGS_AFTER:
                self._trace.note("process hangs", child=child.name, pid=child.pid, seconds=round(silence, 1))
                os.kill(child.pid, signal.SIGKILL)
                self._beats.beat(index)

    def _tell_all(self, number: int) -> None:
        for child in self._children:
            if child.pid:
                try:
                    os.kill(child.pid, number)
                except ProcessLookupError:
                    pass  # it died just now and is reaped in this turn

    def _stop(self) -> None:
        self._trace.note("stopping")
        self._ends = True
        self._tell_all(signal.SIGTERM)
        if self._stopping is not None:
            self._stopping()
        until = time.monotonic() + STOP_WITHIN
        while any(child.pid for child in self._children) and time.monotonic() < until:
            signal.sigtimedwait({signal.SIGCHLD}, 0.1)
            self._reap()
        self._tell_all(signal.SIGKILL)
        self._reap()


def _child(main: Callable[[], int], parent: int, become: Callable[[], None] | None) -> int:
    """In the fork: default signals, death together with the parent, then the part itself."""
    try:
        if become is not None:
            become()  # before prctl: the kernel forgets that signal when a process changes its user
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            return 1  # it died between fork and prctl
        return main()
    except BaseException:  # noqa: BLE001 - the last frame of a process: say why and end
        traceback.print_exc()
        sys.stderr.flush()
        return 70
