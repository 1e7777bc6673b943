"""Postfix's smtp-sink as a far side that can be slow, refuse, hang up, and keep what it gets. Knows its options."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tests.lab.ports import free_port
from tests.lab.process import Server, Tree, answers, need


@dataclass(frozen=True)
class Caught:
    """One transaction: the envelope as the client gave it, the message, line ends as LF, and when it had come."""

    sender: str
    recipients: tuple[str, ...]
    message: bytes
    at: float = 0.0


class Sink(Server):
    """One smtp-sink. `delay` is in seconds, before the answer to the message.

    `hard`, `soft` and `hang_up` name commands (connect, helo, ehlo, mail, rcpt, data, "." for the message itself)
    answered with 5xx, with 4xx, or by closing the connection. `options` are further ones: smtp-sink(1).
    """

    kind = "smtp-sink"

    def __init__(
        self,
        folder: Path,
        *,
        host: str = "127.0.0.1",
        namespace: str | None = None,
        lmtp: bool = False,
        keep: bool = True,
        delay: int = 0,
        hard: Sequence[str] = (),
        soft: Sequence[str] = (),
        hang_up: Sequence[str] = (),
        options: Sequence[str] = (),
    ) -> None:
        need("postfix", "smtp-sink", root=True)
        super().__init__(folder, host, namespace)
        self.port = free_port(host)
        self.kept = folder / "kept"
        self.kept.mkdir(exist_ok=True)
        shutil.chown(self.kept, "nobody")
        self._options = ["-h", "sink.example.net", "-u", "nobody", *options]
        if lmtp:
            self._options += ["-L"]
        if keep:
            self._options += ["-d", f"{self.kept}/%H%M%S."]
        if delay:
            self._options += ["-w", str(delay)]
        for option, commands in (("-f", hard), ("-r", soft), ("-q", hang_up)):
            if commands:
                self._options += [option, ",".join(commands)]

    def _launch(self) -> Tree:
        command = ["smtp-sink", *self._options, f"inet:{self.host}:{self.port}", "1024"]
        tree = Tree(command, self.folder / "sink.log", self.namespace)
        tree.start()
        return tree

    def _is_ready(self) -> bool:
        return answers(self.host, self.port, greeting=False)

    def caught(self) -> list[Caught]:
        """What was accepted so far, in no particular order."""
        files = sorted(self.kept.iterdir())
        begun = self._open_files()  # looked at later: what is closed by then is whole
        return [replace(_parse(file.read_bytes()), at=file.stat().st_mtime) for file in files if file not in begun]

    def _open_files(self) -> set[Path]:
        """What is being written."""
        found = set()
        for pid in self.pids:
            with suppress(OSError):  # it has ended
                for handle in Path(f"/proc/{pid}/fd").iterdir():
                    with suppress(OSError):
                        found.add(handle.readlink())
        return found


def _parse(dump: bytes) -> Caught:
    """smtp-sink writes the session as X-…-Args headers, then Received, then the message."""
    sender, recipients = "", []
    lines = dump.split(b"\n")
    while lines and (lines[0].startswith((b"X-", b"Received: ", b"\t"))):
        name, _, value = lines.pop(0).decode("utf-8", "surrogateescape").partition(": ")
        if name == "X-Mail-Args":
            sender = _path(value)
        elif name == "X-Rcpt-Args":
            recipients.append(_path(value))
        elif name == "Received":
            while lines and lines[0].startswith(b"\t"):
                lines.pop(0)
            break
    return Caught(sender, tuple(recipients), b"\n".join(lines))


def _path(arguments: str) -> str:
    return arguments[arguments.index("<") + 1 : arguments.rindex(">")]
