"""Mail programs that are not ours and keep what they have seen: mbsync, offlineimap, mutt with its two caches.

Each runs once, as its user would, and what it has on its disk afterwards can be looked at. Knows their configuration
files and where they keep things; knows nothing of servers, edges or failovers.
"""

from __future__ import annotations

import hashlib
import os
import pty
import select
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from tests.lab.process import need

SECONDS = 120


class Program(Protocol):
    def sync(self) -> None:
        """Looks at the mailbox, fetches all that it does not have yet, and ends."""
        ...

    def kept(self) -> dict[str, str]:
        """Digests of the messages on its disk, by the name that each has there."""
        ...


@dataclass
class _Program:
    """`folder` is its own; `folders` are looked at besides INBOX, where a program has to be told."""

    folder: Path
    host: str
    port: int
    user: str
    password: str
    folders: tuple[str, ...] = ()
    name: ClassVar[str] = ""

    def __post_init__(self) -> None:
        need(self.name, self.name)
        self.folder.mkdir(parents=True)
        self._configure()

    def _configure(self) -> None:
        raise NotImplementedError

    def _run(self, *command: str | Path) -> None:
        words = [self.name, *map(str, command)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL,
                              env={**os.environ, "HOME": str(self.folder)})
        assert done.returncode == 0, f"{words}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"


class Mbsync(_Program):
    name = "mbsync"

    def _configure(self) -> None:
        (self.folder / "mail").mkdir()
        (self.folder / "rc").write_text(
            f"IMAPAccount edge\nHost {self.host}\nPort {self.port}\nUser {self.user}\nPass \"{self.password}\"\n"
            f"SSLType None\nAuthMechs *\n\nIMAPStore far\nAccount edge\n\nMaildirStore near\nPath {self.folder}/mail/\n"
            f"Inbox {self.folder}/mail/INBOX\nSubFolders Verbatim\n\nChannel all\nFar :far:\nNear :near:\nPatterns *\n"
            "Create Both\nExpunge Both\nCopyArrivalDate yes\nSyncState *\n")

    def sync(self) -> None:
        self._run("-c", self.folder / "rc", "-a")

    def state(self) -> dict[str, list[str]]:
        """What it remembers of each folder: UIDVALIDITYs, and the highest UIDs that it has dealt with."""
        return {path.parent.name: path.read_text().partition("\n\n")[0].splitlines()
                for path in (self.folder / "mail").glob("*/.mbsyncstate")}

    def kept(self) -> dict[str, str]:
        return _maildir(self.folder / "mail")


class OfflineImap(_Program):
    name = "offlineimap"

    def _configure(self) -> None:
        (self.folder / "mail").mkdir()
        (self.folder / "rc").write_text(
            f"[general]\naccounts = one\nmetadata = {self.folder}/state\nmaxsyncaccounts = 1\nui = basic\n\n"
            f"[Account one]\nlocalrepository = near\nremoterepository = far\n\n[Repository near]\ntype = Maildir\n"
            f"localfolders = {self.folder}/mail\n\n[Repository far]\ntype = IMAP\nremotehost = {self.host}\n"
            f"remoteport = {self.port}\nremoteuser = {self.user}\nremotepass = {self.password}\nssl = no\n"
            "starttls = no\nauth_mechanisms = PLAIN, LOGIN\n")

    def sync(self) -> None:
        self._run("-c", self.folder / "rc", "-o")

    def kept(self) -> dict[str, str]:
        return _maildir(self.folder / "mail")


class Mutt(_Program):
    """Its user opens each folder and reads everything in it, every time."""

    name = "mutt"

    def _configure(self) -> None:
        for name in ("headers", "messages"):
            (self.folder / name).mkdir()
        (self.folder / "rc").write_text(
            f'set imap_user="{self.user}" imap_pass="{self.password}" ssl_starttls=no ssl_force_tls=no\n'
            f'set folder="imap://{self.host}:{self.port}/" spoolfile=+INBOX\nset imap_qresync=yes imap_condstore=yes\n'
            f'set header_cache="{self.folder}/headers" message_cachedir="{self.folder}/messages"\n'
            "set message_cache_clean=no quit=yes move=no wait_key=no sleep_time=0 confirmappend=no delete=no\n"
            "set pipe_split=yes mail_check=0 timeout=1\n")

    def sync(self) -> None:
        read = "<tag-pattern>~A<enter><tag-prefix><pipe-message>cat>/dev/null<enter>"
        keys = read + "".join(f"<change-folder>={name}<enter>{read}" for name in self.folders) + "<quit>"
        pid, terminal = pty.fork()
        if pid == 0:
            os.environ.update(TERM="xterm", HOME=str(self.folder), LC_ALL="C.UTF-8")
            os.execvp("mutt", ["mutt", "-n", "-F", str(self.folder / "rc"), "-e", f'push "{keys}"'])
        screen = b""
        deadline = time.monotonic() + SECONDS
        try:
            while (left := deadline - time.monotonic()) > 0:
                if not select.select([terminal], [], [], left)[0]:
                    break
                try:
                    piece = os.read(terminal, 65536)
                except OSError:
                    break  # EIO: the other side has ended
                if not piece:
                    break
                screen += piece
            else:
                os.kill(pid, 9)
        finally:
            _, status = os.waitpid(pid, 0)
            os.close(terminal)
        assert status == 0, screen[-3000:]

    def kept(self) -> dict[str, str]:
        """Its body cache: a file `UIDVALIDITY-UID` per message."""
        return {f"{path.parent.name}/{path.name}": digest(path.read_bytes())
                for path in (self.folder / "messages").rglob("*") if path.is_file()}


def _maildir(root: Path) -> dict[str, str]:
    """By name, which flags are no part of."""
    return {f"{path.parent.parent.relative_to(root)}/{path.name.partition(':')[0]}": digest(path.read_bytes())
            for part in ("cur", "new") for path in root.glob(f"**/{part}/*")}


def digest(raw: bytes) -> str:
    """Of a message, whatever ends its lines, and without what programs add for themselves."""
    lines = raw.replace(b"\r\n", b"\n").split(b"\n")
    own = (b"X-TUID:", b"X-OfflineIMAP:")
    return hashlib.sha256(b"\n".join(line for line in lines if not line.startswith(own))).hexdigest()


PROGRAMS: tuple[type[_Program], ...] = (Mbsync, OfflineImap, Mutt)
