"""Which server a target goes to now, and what RCPT TO says there.

Asks the directory at every try: people move. Knows accounts and homes. Does not know whether a server is up.
"""

from __future__ import annotations

from onedomain.backend.names import recipient_name
from onedomain.model.account import DirectoryView
from onedomain.model.failure import Failure, again
from onedomain.model.message import Target
from onedomain.model.server import Server

SMARTHOST = "smarthost"

NO_ACCOUNT = again(450, "4.2.1", "Mailbox is not known at present", "the account is not in the directory any more")


def route(view: DirectoryView, target: Target) -> str | Failure:
    """Name of the server. A failure of kind AGAIN: nowhere now; a directory may be behind, or mended."""
    if not target.is_local:
        return SMARTHOST
    account = view.account(target.account)
    return account.home.primary if account is not None else NO_ACCOUNT


def rcpt(view: DirectoryView, server: Server, target: Target) -> str:
    """What RCPT TO says of the target at this server."""
    account = view.account(target.account) if target.is_local else None
    if account is None:
        return target.address
    domain = view.domain(account.address.rpartition("@")[2])
    return recipient_name(server, account, target.address, domain.tag_separator if domain else "+")
