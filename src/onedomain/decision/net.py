"""What becomes of a message that was delivered and is still kept, because a replica may not have it yet.

Knows homes, epochs and servers. Does not know who keeps the message, nor whether a server is up.
"""

from __future__ import annotations

from enum import Enum

from onedomain.model.account import Account, DirectoryView
from onedomain.model.server import ServerClass

TRY_SECONDS = 10.0
"""For so long no return of an old primary brings anything, once a message is to be tried that it may have, too."""


class Fate(Enum):
    """HOLD: until the link says that it may go. WAIT: nothing can be said yet. LET_GO: nobody will ask for it. RENEW:
    it is where it has to be, held for the link as it is now. RESCUE: it has to be on the new primary: looked for there,
    and put there if it is missing.
    """

    HOLD = "hold"
    WAIT = "wait"
    LET_GO = "let go"
    RENEW = "renew"
    RESCUE = "rescue"


def is_linked(view: DirectoryView, account: Account | None) -> bool:
    """Whether a link runs for the account. Of servers that are somebody else's nothing is copied."""
    if account is None or not account.home.replicas:
        return False
    server = view.server(account.home.primary)
    return server is None or server.class_ is not ServerClass.FOREIGN


def fate(account: Account | None, linked: bool, epoch: int, server: str) -> Fate:
    """`epoch` is the home's when `server` took the message; `linked` whether a link runs for the account now.

    An account that is not in the directory waits: a directory may be behind, or mended. While a promotion's gap in the
    UIDs is yet to be made nothing may be put there: it would get a UID that a client has seen with other contents.
    """
    if account is None:
        return Fate.WAIT
    home = account.home
    if home.epoch <= epoch:
        return Fate.HOLD if linked else Fate.LET_GO
    if home.pending:
        return Fate.WAIT
    if home.epoch == epoch + 1 and home.primary == server:
        # one change, and not of the primary: another replica, or none
        return Fate.RENEW if linked else Fate.LET_GO
    return Fate.RESCUE
