"""Becoming somebody who may do less, once everything that needs root is open.

Knows users, groups and the folders that have to change hands. Does not know what is open.
"""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path

from onedomain.model.failure import Failed, give_up


def drop(user: str, group: str, state: Path) -> None:
    """Nothing where no user is named, or where this process is not root. Raises Failed if the names are unknown."""
    if not user or os.geteuid() != 0:
        return
    try:
        owner = pwd.getpwnam(user)
        number = grp.getgrnam(group).gr_gid if group else owner.pw_gid
    except KeyError as error:
        raise Failed(give_up(421, "4.3.5", "cannot change user", f"edge.user, edge.group: {error.args[0]}")) from None
    for path in (state, *state.rglob("*")):
        os.lchown(path, owner.pw_uid, number)
    os.initgroups(user, number)
    os.setgid(number)
    os.setuid(owner.pw_uid)
