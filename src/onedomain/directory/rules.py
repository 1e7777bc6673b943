"""What a row of the directory may contain, before it is written.

Knows accounts and aliases beside the domains, units and servers of the configuration. Does not know the database, nor
the words for people: a RowError is a key and its fields.
"""

from __future__ import annotations

import re
from dataclasses import replace

from onedomain.decision.recipient import canonical, domain_of
from onedomain.directory.credentials import CredentialError, check
from onedomain.model.account import Account, Alias, DirectoryView
from onedomain.model.address import Address, AddressError, parse_address

MAX_TARGETS = 1000
_WORD = re.compile(r'(?:"(?:\\.|[^"\\])*"|[^\s,"])+')


class RowError(ValueError):
    """`key` is one of bad_address, not_ours, unknown_unit, unknown_server, replica_twice, bad_password, bad_mailbox,
    bad_target, no_targets, too_many_targets, to_itself.
    """

    def __init__(self, key: str, **fields: str) -> None:
        super().__init__(key, fields)
        self.key = key
        self.fields = fields

    def __str__(self) -> str:
        return f"{self.key}: {', '.join(self.fields.values())}"


def account_key(view: DirectoryView, text: str) -> str:
    """The directory's key of an address of ours, given in any spelling and under any name of its domain."""
    address = _address(text, "bad_address")
    if domain_of(view, address) is None:
        raise RowError("not_ours", value=text)
    return canonical(view, address).key


def alias_key(view: DirectoryView, text: str) -> str:
    """The same for an alias, which may be a catch-all, `@domain`."""
    if not text.startswith("@"):
        return account_key(view, text)
    domain = domain_of(view, Address("", text[1:]))
    if domain is None:
        raise RowError("not_ours", value=text)
    return f"@{domain.canonical}"


def checked_account(view: DirectoryView, account: Account) -> Account:
    """The account under its key. Raises RowError."""
    key = account_key(view, account.address)
    if view.unit(account.unit) is None:
        raise RowError("unknown_unit", value=account.unit)
    home = account.home
    for name in (home.primary, *home.replicas):
        if view.server(name) is None:
            raise RowError("unknown_server", value=name)
    if len({home.primary, *home.replicas}) != 1 + len(home.replicas):
        raise RowError("replica_twice", value=" ".join((home.primary, *home.replicas)))
    if account.password:
        try:
            check(account.password)
        except CredentialError as error:
            raise RowError("bad_password", why=str(error)) from None
    if not account.mailbox.isprintable() or len(account.mailbox) > 255:
        raise RowError("bad_mailbox", value=repr(account.mailbox))
    return replace(account, address=key, forward_to=_targets(account.forward_to, key))


def checked_alias(view: DirectoryView, alias: Alias) -> Alias:
    """The alias under its key. Raises RowError."""
    key = alias_key(view, alias.address)
    targets = _targets(alias.targets, key)
    if not targets:
        raise RowError("no_targets", value=alias.address)
    return Alias(key, targets)


def words(text: str) -> tuple[str, ...]:
    """Addresses or names in one cell, separated by blanks or commas; a quoted local part stays whole."""
    return tuple(_WORD.findall(text))


def _targets(targets: tuple[str, ...], own: str) -> tuple[str, ...]:
    if len(targets) > MAX_TARGETS:
        raise RowError("too_many_targets", value=str(len(targets)), limit=str(MAX_TARGETS))
    for target in targets:
        if _address(target, "bad_target").key == own:
            raise RowError("to_itself", value=target)
    return tuple(dict.fromkeys(targets))


def _address(text: str, key: str) -> Address:
    try:
        return parse_address(text)
    except AddressError as error:
        raise RowError(key, value=text, why=str(error)) from None
