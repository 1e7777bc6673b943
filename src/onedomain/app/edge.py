"""An edge from the outside: checks, opens, forks. The one place that knows which processes an edge has."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from onedomain.app import descriptors, keeper, linker, worker
from onedomain.app.current import Current
from onedomain.app.inherited import inherit
from onedomain.app.memory import freeze_all
from onedomain.app.privileges import give_up_for_good, lower
from onedomain.app.real import RealClock
from onedomain.app.supervisor import Child, Supervisor
from onedomain.config import Config
from onedomain.model.failure import Failed, again
from onedomain.trace.recorder import Recorder


def run(config: Config) -> int:
    """Until SIGTERM or SIGINT; the exit status. Raises Failed, CertificateError, OSError before anything starts."""
    files = descriptors.raise_limit()
    prepare(config.state)
    claim(config.state)
    inherited = inherit(config)
    lower(config.file.edge.user, config.file.edge.group, config.state)
    trace = Recorder(config.state / "log", "supervisor", edge=config.name, clock=RealClock(), keep=config.log.keep)
    current = Current(config, inherited.contexts, inherited.handed, trace)

    def work(slot: int) -> Callable[[], int]:
        return lambda: worker.main(current.config, inherited, slot)

    children = [Child(f"worker-{slot}", work(slot)) for slot in range(inherited.workers)]
    # In the order of their beats (app/inherited).
    children.append(Child("keeper", lambda: keeper.main(current.config, inherited)))
    children.append(Child("linker", lambda: linker.main(current.config, inherited)))
    trace.note("starting", workers=inherited.workers, listeners=[listener.name for listener in config.listeners])
    if files < (needed := descriptors.needed(config)):
        trace.note("few descriptors", limit=files, needed=needed,
                   reason="the limit of open files is too low for max_sessions of all listeners")
    freeze_all()
    return Supervisor(children, inherited.beats, trace, current.reload, partial(inherited.keep, None),
                      give_up_for_good).run()


def claim(state: Path) -> None:
    """The state folder is ours until this process ends. Raises Failed where another edge runs on it: as ports can be
    shared, a second one would take half of all connections, and the control socket, and serve none.
    """
    handle = os.open(state / "running.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Of this process alone (fcntl, not flock): children that are still ending must not keep a successor out.
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        os.close(handle)
        raise Failed(again(421, "4.3.2", "not started", f"{state}: another edge is running with this folder")) from None


def prepare(state: Path) -> None:
    """The folders that everything else expects, for nobody else's eyes."""
    for folder in (state, state / "spool", state / "log"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(state, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
