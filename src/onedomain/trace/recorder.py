"""The log of one process: every event a JSON line, in files that `search` reads again.

Knows how to write cheaply and to rotate. Does not know what events mean. There is one log, not a log and a
trace: what an operator greps, what a collector ships and what `onedomain trace` answers from are the same lines.

An event costs one json.dumps and a share of one write(2): lines are gathered during a turn of the loop and written at
its end, so that kill -9 loses at most the turn that it interrupted.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from onedomain.model.ports import Clock

ROTATE_BYTES = 64 << 20
KEEP_FILES = 1000
KEEP_SECONDS = 30 * 86400.0
MAX_PENDING = 4 << 20  # a log that can't be written must not eat the memory
MAX_FIELD = 2000       # characters; a peer chooses some of them
LARGE = 1e300          # neither infinite nor no number at all

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str).encode
_quote = json.encoder.encode_basestring


def _written(value: Any, depth: int = 2) -> str:
    """Lists of names, and lists of names by name, are in every line about a message."""
    kind = type(value)
    if kind is str:
        return _quote(value)
    if kind is list and depth:
        return f"[{','.join([_written(one, depth - 1) for one in value])}]"
    if kind is dict and depth and all(type(key) is str for key in value):
        return f"{{{','.join([f'{_quote(key)}:{_written(one, depth - 1)}' for key, one in value.items()])}}}"
    return _encode(value)


class Turns(Protocol):
    """An event loop, or whoever gathers what is to be done in a turn of it."""

    def call_soon(self, callback: Callable[[], None]) -> object: ...


class Recorder:
    """Implements model.ports.Trace. One per process; `name` is e.g. "worker-0", the file `<name>.jsonl`.

    `rotate` in bytes; what is older than `keep` seconds goes at a rotation.
    """

    def __init__(self, directory: Path, name: str, *, edge: str, clock: Clock, rotate: int = ROTATE_BYTES,
                 keep: float = KEEP_SECONDS) -> None:
        self.path = directory / f"{name}.jsonl"
        self._name = name
        self._edge = edge
        self._who = f',"edge":{_quote(edge)},"process":{_quote(name)},"event":'
        self._clock = clock
        self._rotate = rotate
        self._keep = keep
        self._pending: list[str] = []
        self._pending_size = 0
        self._dropped = 0
        self._scheduled = False
        self._soon: Callable[[Callable[[], None]], object] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        self._file = self._open()

    def _open(self) -> int:
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._size = os.fstat(handle).st_size
        return handle

    def bind(self, turns: Turns) -> None:
        """From now on lines are gathered per turn of this loop; before, each is written at once."""
        self._soon = turns.call_soon

    def note(self, event: str, **fields: Any) -> None:
        # Put together by hand where a value is a string or a number, as nearly all are: JSONEncoder sets out a new
        # encoder for each call. Keys are names of arguments, so they need no escapes.
        parts = [f'{{"time":{self._clock.time():.6f}{self._who}{_quote(event)}']
        try:
            for key, value in fields.items():
                kind = type(value)
                if kind is str:
                    if value:
                        parts.append(f'"{key}":{_quote(value if len(value) <= MAX_FIELD else value[:MAX_FIELD])}')
                elif kind is int or (kind is float and -LARGE < value < LARGE):
                    parts.append(f'"{key}":{value!r}')
                elif value is not None and value != "":
                    parts.append(f'"{key}":{_written(value[:MAX_FIELD] if isinstance(value, str) else value)}')
        except (TypeError, ValueError) as error:
            parts[1:] = [f'"unwritable":{_quote(repr(error))}']
        text = ",".join(parts) + "}"
        if self._pending_size > MAX_PENDING:
            self._dropped += 1
            return
        self._pending.append(text)
        self._pending_size += len(text)
        if self._soon is None:
            self.flush()
        elif not self._scheduled:
            self._scheduled = True
            self._soon(self.flush)

    def flush(self) -> None:
        self._scheduled = False
        if not self._pending:
            return
        if self._dropped:
            self._pending.append(_encode({"time": self._clock.time(), "edge": self._edge, "process": self._name,
                                          "event": "log lines dropped", "count": self._dropped}))
        # A lone surrogate (a peer's raw byte) is written as \udcXX rather than refused.
        data = ("\n".join(self._pending) + "\n").encode("utf-8", "backslashreplace")
        try:
            written = os.write(self._file, data)
        except OSError as error:
            # The disk is full or gone: mail comes before its log. What is pending stays, up to MAX_PENDING.
            print(f"onedomain: cannot write {self.path}: {error}", file=sys.stderr)
            return
        if written < len(data):
            self._pending = [data[written:].decode("utf-8", "replace").rstrip("\n")]
            self._pending_size = len(self._pending[0])
            return
        self._pending.clear()
        self._pending_size = self._dropped = 0
        self._size += written
        if self._size >= self._rotate:
            self._roll()

    def _roll(self) -> None:
        os.close(self._file)
        now = self._clock.time()
        os.rename(self.path, self.path.with_name(f"{self._name}.{now:.3f}.jsonl"))
        old = sorted(self.path.parent.glob(f"{self._name}.*.jsonl"))
        for number, path in enumerate(reversed(old)):
            if number >= KEEP_FILES or float(path.name.removeprefix(f"{self._name}.").removesuffix(".jsonl")) < (
                    now - self._keep):
                path.unlink(missing_ok=True)
        self._file = self._open()

    def close(self) -> None:
        self.flush()
        os.close(self._file)
