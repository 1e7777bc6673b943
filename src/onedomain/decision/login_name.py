"""Which account a login name means.

Knows bare names, domains that are one, and aliases. Does not know passwords, nor whether the account is enabled.
"""

from __future__ import annotations

from onedomain.decision.recipient import canonical, domain_of
from onedomain.model.account import Account, DirectoryView
from onedomain.model.address import AddressError, parse_address

DEPTH = 5


def account_of(view: DirectoryView, login: str, default_domain: str) -> Account | None:
    """`joe`, `joe@example.com`, or an alias that leads to exactly one account and nowhere else; None for all others.

    Catch-alls, tags and forwarders receive mail; nobody logs in by them.
    """
    name = login.strip()
    if "@" not in name:
        name = f"{name}@{default_domain}"
    for _ in range(DEPTH):
        try:
            address = parse_address(name)
        except AddressError:
            return None
        if domain_of(view, address) is None or not address.local:
            return None
        key = canonical(view, address).key
        account = view.account(key)
        if account is not None:
            return account
        alias = view.alias(key)
        if alias is None or len(alias.targets) != 1:
            return None
        name = alias.targets[0]
    return None
