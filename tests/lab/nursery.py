"""`onedomain` in processes that need not import it: a program that has, and that forks for whoever asks.

Nothing else is different for what runs there: words, environment, descriptors, folder, a session of its own. Imports
are a second and more of a core's time for each start of an edge, and one for each verb that looks into the directory.

Run as `python -m tests.lab.nursery SOCKET`; it ends when its standard input does. One connection is one process: it
brings a request (`grown.py` writes it), is told the process id, at its end the exit status, and breaks with it.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import sys
import threading
import traceback
from pathlib import Path
from typing import NoReturn

import onedomain.cli
from onedomain.cli import main as command_line
from tests.lab.keeper import keep

MAX_REQUEST = 1 << 18
LATE = ("alembic.command", "sqlalchemy.dialects.postgresql.asyncpg", "sqlalchemy.dialects.sqlite.aiosqlite")
"""What is imported only when it is needed, which in tests is each time."""



def serve(listener: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody here asks what became of them
    while True:
        ready, _, _ = select.select([0, listener], [], [])
        if 0 in ready:
            return
        line, _ = listener.accept()
        with line:
            if os.fork() == 0:
                try:
                    listener.close()
                    grow(line)
                finally:
                    os._exit(1)  # or there would be a second nursery


def grow(line: socket.socket) -> NoReturn:
    """In the fork: become what is asked for."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    data, descriptors, _, _ = socket.recv_fds(line, MAX_REQUEST, 3)
    while not data.endswith(b"\n"):
        data += line.recv(MAX_REQUEST)
    request = json.loads(data)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    line.sendall(f"{os.getpid()}\n".encode())
    words = request["words"]
    status = keep(lambda: leave(obey(words))) if request["kept"] else obey(words)
    line.sendall(f"{status}\n".encode())
    leave(status)


def obey(words: list[str]) -> int:
    """What `python -m onedomain.cli.main` does."""
    sys.argv = [str(Path(command_line.__file__)), *words]
    try:
        command_line.main()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:  # noqa: BLE001  as the interpreter does at its end
        traceback.print_exc()
        return 1
    return 0


def leave(status: int) -> NoReturn:
    threading._shutdown()  # type: ignore[attr-defined]  # threads that are no daemons are waited for
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def main() -> None:
    sys.path.pop(0)  # of -m: the folder it was started in
    verbs = [module.name for module in pkgutil.iter_modules(onedomain.cli.__path__, "onedomain.cli.")]
    for name in (*verbs, *LATE):
        importlib.import_module(name)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(sys.argv[1])
        listener.listen(100)
        gc.freeze()
        print("ready", flush=True)
        serve(listener)


if __name__ == "__main__":
    main()
