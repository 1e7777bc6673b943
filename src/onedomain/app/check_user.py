"""What the user of [edge] lacks to do, while it runs, what root did at the start.

Knows which files are used then, and asks the kernel as that user. Does not know how findings are shown.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterator
from pathlib import Path

from onedomain.config import Config
from onedomain.config.problem import Place

Lack = tuple[Place, str, dict[str, object]]
"""Where in the file, the key of its text, and what that names."""


def lacks(config: Config) -> Iterator[Lack]:
    """Nothing where no user is named, or where it is not root who looks: that is not who starts the edge."""
    user, group = config.file.edge.user, config.file.edge.group
    if not user:
        return
    try:
        owner = pwd.getpwnam(user)
    except KeyError:
        yield ("edge", "user"), "no_user", {"name": user}
        return
    try:
        gid = grp.getgrnam(group).gr_gid if group else owner.pw_gid
    except KeyError:
        yield ("edge", "group"), "no_user", {"name": group}
        return
    if os.geteuid() != 0:
        return
    for place, path in _dialled_with(config):
        if not _may(path, os.R_OK, owner.pw_uid, gid):
            yield place, "not_for_user", {"path": path, "user": user}
    file = config.database_file
    for path in (file, file.parent) if file is not None and file.exists() else ():
        if config.state not in (path, *path.parents) and not _may(path, os.W_OK, owner.pw_uid, gid):
            yield ("directory", "url"), "not_for_user", {"path": path, "user": user}


def _dialled_with(config: Config) -> Iterator[tuple[Place, Path]]:
    """Files that are read whenever a connection is made, not at the start."""
    for index, server in enumerate(config.file.server):
        for name, table in (("imap", server.imap), ("delivery", server.delivery), ("doveadm", server.doveadm)):
            if table is not None and table.ca_file is not None:
                yield ("server", index, name, "ca_file"), table.ca_file
    if (smarthost := config.smarthost) is not None and smarthost.ca_file is not None:
        yield ("smarthost", "ca_file"), smarthost.ca_file


def _may(path: Path, what: int, uid: int, gid: int) -> bool:
    """Whether a user may do it, asked as that user in a process of its own: groups and mounts are the kernel's."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([gid])
            os.setgid(gid)
            os.setuid(uid)
            os._exit(0 if os.access(path, what) else 1)
        except BaseException:  # noqa: BLE001  a fork must not go on as its parent
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
