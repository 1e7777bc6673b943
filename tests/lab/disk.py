"""A disk of a few megabytes, to be filled. Knows mount(8) and tmpfs; fsync on it costs nothing and promises nothing."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

from tests.lab.process import need, search_path


class SmallDisk:
    """A tmpfs mounted at `folder`."""

    def __init__(self, folder: Path, size: str = "8m") -> None:
        need("a small disk", "mount", "umount", root=True)
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        done = _run("mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", folder)
        if done.returncode:
            need(f"a small disk: {done.stderr.strip()}", "permission-to-mount")

    def free(self) -> int:
        """Octets left."""
        status = os.statvfs(self.folder)
        return status.f_bavail * status.f_frsize

    def fill(self, leave: int = 0) -> None:
        """Take up everything but about `leave` octets, in whole pages."""
        with (self.folder / "ballast").open("ab", buffering=0) as ballast:
            while (rest := self.free() - leave) > 0:
                try:
                    ballast.write(b"\0" * min(rest, 1 << 16))
                except OSError as failure:
                    if failure.errno != errno.ENOSPC:
                        raise
                    return

    def relieve(self) -> None:
        """Give back what `fill` took."""
        (self.folder / "ballast").unlink(missing_ok=True)

    def close(self) -> None:
        _run("umount", "-l", self.folder)


def _run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, "PATH": search_path()})
