"""Whether an account may write as an address (RFC 6409 section 6.1).

Knows own names: the account's address with or without a tag, and aliases that lead to it. A forwarder is none: that
somebody sends their mail on to me does not make their name mine.
"""

from __future__ import annotations

from onedomain.decision.recipient import DEPTH, canonical, domain_of
from onedomain.model.account import DirectoryView
from onedomain.model.address import Address, AddressError, parse_address
from onedomain.model.failure import Failure, refuse


def check_sender(view: DirectoryView, account: str, sender: Address) -> Failure | None:
    """`account` is the key of who logged in. 553 5.7.1, or None."""
    if _is_own(view, account, sender, 0):
        return None
    return refuse(553, "5.7.1", "you may not send as this address", f"{account} is not {sender}")


def _is_own(view: DirectoryView, account: str, name: Address, depth: int) -> bool:
    domain = domain_of(view, name)
    if domain is None or depth > DEPTH:
        return False
    address = canonical(view, name)
    bare = address.without_tag(domain.tag_separator) if domain.tag_separator else address
    for key in (address.key, bare.key):
        if view.account(key) is not None:
            return key == account
        if (alias := view.alias(key)) is not None:
            return any(_leads(view, account, target, depth) for target in alias.targets)
    return False


def _leads(view: DirectoryView, account: str, target: str, depth: int) -> bool:
    try:
        return _is_own(view, account, parse_address(target), depth + 1)
    except AddressError:
        return False
