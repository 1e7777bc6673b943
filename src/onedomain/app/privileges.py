"""Becoming somebody who may do less, once everything that needs root is open.

Knows users, groups and the folders that have to change hands. Does not know what is open.

The supervisor keeps the way back (its saved user id) and takes it for a moment to read the file again, with keys and
secrets that only root can read, as the masters of Postfix and Dovecot do. Its children give it up.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy

import onedomain
from onedomain.model.failure import Failed, give_up


def lower(user: str, group: str, state: Path) -> None:
    """Nothing where no user is named, or where this process is not root. Raises Failed if the names are unknown, or
    the user could not run us: what is imported later would fail, in one part after the other.
    """
    if not user or os.geteuid() != 0:
        return
    try:
        owner = pwd.getpwnam(user)
    except KeyError:
        raise _unknown(f"edge.user: {user}") from None
    try:
        number = grp.getgrnam(group).gr_gid if group else owner.pw_gid
    except KeyError:
        raise _unknown(f"edge.group: {group}") from None
    for path in (state, *state.rglob("*")):
        os.lchown(path, owner.pw_uid, number)
    os.initgroups(user, number)
    os.setresgid(number, number, number)
    # The real one, too: so children may send it signals.
    os.setresuid(owner.pw_uid, owner.pw_uid, 0)
    for library in (os.__file__, sqlalchemy.__file__, onedomain.__file__):
        try:
            os.stat(library)
        except OSError as error:
            why = f"edge.user: {user} cannot read {library} ({error.strerror}); install elsewhere, as in /opt/onedomain"
            raise Failed(give_up(421, "4.3.5", "cannot change user", why)) from None


def _unknown(what: str) -> Failed:
    return Failed(give_up(421, "4.3.5", "cannot change user", f"{what}: there is nobody of that name here"))


@contextmanager
def raised() -> Iterator[None]:
    """As root again, where this process was it."""
    _, effective, saved = os.getresuid()
    if saved != 0 or effective == 0:
        yield
        return
    os.seteuid(0)
    try:
        yield
    finally:
        os.seteuid(effective)


def give_up_for_good() -> None:
    """In a child: no way back."""
    real, effective, saved = os.getresuid()
    if real == effective != saved:
        os.setresuid(real, real, real)
