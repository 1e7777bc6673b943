"""Keeps one server: starts it, adopts whatever it leaves behind, and ends all of it when the test process is gone.

Run as a program of its own, `python -IS keeper.py COMMAND…`, with standard input a pipe whose other end only the test
process holds. Servers fork, detach and change user, so neither a process group nor PR_SET_PDEATHSIG reaches all of
them; a child subreaper does (prctl(2)): every orphan below becomes our child. Knows nothing of mail.
"""

import ctypes
import os
import select
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

PR_SET_CHILD_SUBREAPER = 36
GRACE = 0.5
DESCRIPTORS = 4096  # those above are nobody's
PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def descendants(root: int) -> list[int]:
    """Process ids of everything below `root`, zombies left out, parents before children."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as file:
                stat = file.read()
        except OSError:  # ended between listdir and open
            continue
        # The command name, in parentheses, may itself hold blanks and parentheses: proc(5).
        state, parent = stat[stat.rindex(b")") + 2 :].split()[:2]
        if state not in (b"Z", b"X"):
            children.setdefault(int(parent), []).append(int(entry))
    found: list[int] = []
    queue = list(children.get(root, []))
    while queue:
        pid = queue.pop(0)
        found.append(pid)
        queue += children.get(pid, [])
    return found


def signal_tree(root: int, number: int) -> None:
    """Send a signal to everything below `root`, again and again until nothing new appears."""
    reached: set[int] = set()
    while new := [pid for pid in descendants(root) if pid not in reached]:
        for pid in new:
            reached.add(pid)
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue


def end_everything() -> None:
    signal_tree(os.getpid(), signal.SIGSTOP)
    signal_tree(os.getpid(), signal.SIGKILL)
    while reap() is not None:
        select.select([], [], [], 0.01)


def reap() -> set[int] | None:
    """Collect the dead; their process ids, None if there are no children left at all."""
    dead: set[int] = set()
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if pid == 0:
            return dead
        dead.add(pid)


def alone() -> None:
    """In the server's process, before it becomes the server: nothing of the keeper is left in it."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.closerange(3, DESCRIPTORS)


def become(command: list[str]) -> NoReturn:
    try:
        os.execvp(command[0], command)
    except OSError as failure:
        os.write(2, f"{command[0]}: {failure}\n".encode())
    os._exit(127)


def keep(serve: Callable[[], NoReturn]) -> int:
    """Until `serve`, in a fork, and all that came of it has ended."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    server = os.fork()
    if server == 0:
        alone()
        serve()

    ending = gone = False

    def pass_on(number: int, _frame: object) -> None:
        nonlocal ending
        ending = ending or number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
        if not gone:
            os.kill(server, number)

    for number in PASSED_ON:
        signal.signal(number, pass_on)
    while True:
        # Servers told to end leave processes behind that still have a client; those get a moment, then SIGKILL.
        ready, _, _ = select.select([0, woken], [], [], GRACE if ending and gone else None)
        if not ready or (0 in ready and not os.read(0, 1)):
            end_everything()
            return 0
        if woken in ready:
            os.read(woken, 4096)
        dead = reap()
        if dead is None:
            return 0
        gone = gone or server in dead


if __name__ == "__main__":
    sys.exit(keep(lambda: become(sys.argv[1:])))
