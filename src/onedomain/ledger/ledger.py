"""The ledger: what was sent, and what was acknowledged, written down by the one who sent it.

A file of JSON lines. Each act is two of them: one before the act, one with its outcome; an act without an outcome (the
sender died, or the answer never came) counts as unknown. Knows nothing of sockets and of how outcomes come about.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ACKED, REFUSED, UNKNOWN = "acked", "refused", "unknown"

DELIVER, APPEND, COPY, MOVE, STORE, EXPUNGE = "deliver", "append", "copy", "move", "store", "expunge"


@dataclass(frozen=True)
class Sent:
    """What identifies the octets that were sent: enough to find them again at the end of what is stored."""

    size: int
    sha256: str
    body_sha256: str
    final_newline: bool = True

    @classmethod
    def of(cls, message: bytes) -> Sent:
        return cls(
            size=len(message),
            sha256=hashlib.sha256(message).hexdigest(),
            body_sha256=hashlib.sha256(body_of(message)).hexdigest(),
            final_newline=message.endswith(b"\r\n"),
        )


@dataclass(frozen=True)
class Act:
    """One act on one account. `folder` is where it happens, `target` where COPY and MOVE put the message.

    Folder names are as on the wire. `added` and `removed` are flags of a STORE, or the flags given with an APPEND.
    """

    op: str
    account: str
    token: str
    state: str = UNKNOWN
    folder: str | None = None
    target: str | None = None
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    recipient: str | None = None
    sent: Sent | None = None
    server: str = ""
    reply: str = ""
    began: float = 0.0
    ended: float | None = None
    id: str = field(default="", compare=False)


class Ledger:
    """Appends to `path`, one write per line, so that several writers, threads or processes, may share the file."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._writer = secrets.token_hex(4)
        self._count = 0
        self._lock = threading.Lock()

    def begin(self, op: str, account: str, token: str, sent: Sent | None = None, **details: Any) -> str:
        """Note an act about to happen; the id to `settle` it with. `details` are further fields of Act."""
        with self._lock:
            self._count += 1
            act = f"{self._writer}-{self._count}"
        line = {"id": act, "op": op, "account": account, "token": token, "began": time.time()}
        if sent:
            line["sent"] = vars(sent)
        self._write(line | {name: value for name, value in details.items() if value})
        return act

    def settle(self, act: str, state: str, reply: str = "") -> None:
        """Note the outcome. Only an answer that was read in full is `acked`."""
        self._write({"id": act, "state": state, "reply": reply, "ended": time.time()})

    def close(self) -> None:
        os.close(self._file)

    def _write(self, line: dict[str, Any]) -> None:
        # O_APPEND and a single write: whole lines from several processes, even when one is killed.
        os.write(self._file, json.dumps(line, ensure_ascii=True).encode() + b"\n")

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read(path: Path | str) -> list[Act]:
    """Every act in the order of its beginning, with its outcome. A torn last line is passed over."""
    acts: dict[str, dict[str, Any]] = {}
    for line in _lines(Path(path)):
        known = acts.setdefault(line["id"], {})
        known |= line
    return [_act(fields) for fields in acts.values()]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)


def _act(fields: dict[str, Any]) -> Act:
    fields = dict(fields)
    if sent := fields.get("sent"):
        fields["sent"] = Sent(**sent)
    for name in ("added", "removed"):
        fields[name] = tuple(fields.get(name, ()))
    return Act(**fields)


def body_of(message: bytes) -> bytes:
    """What follows the first empty line: RFC 5322, 2.1."""
    _, _, body = message.partition(b"\r\n\r\n")
    return body
