"""What would bite those whose mailboxes have a second copy: log-ins that links lack, and mail that a replica's server
takes away by itself.

Knows which servers take part in links, and what each kind needs for it. Does not know how findings are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from onedomain.backend.link.registry import make_link_server
from onedomain.backend.mailserver import MailServer, Tools
from onedomain.config import Config
from onedomain.model.account import Account, Home
from onedomain.model.failure import Failed
from onedomain.model.server import LoginWay, Server

EXPIRES = {"dovecot": "expires_dovecot", "cyrus": "expires_cyrus", "imap": "expires_imap"}
"""A node takes nothing away by itself. A Cyrus is asked where a log-in is there for it (check)."""


@dataclass(frozen=True, slots=True)
class Roles:
    """The servers that links read from, and those that they write to. After a failover they change places."""

    sources: frozenset[str]
    targets: frozenset[str]

    def __contains__(self, server: str) -> bool:
        return server in self.sources or server in self.targets


def roles(config: Config, accounts: Iterable[Account]) -> Roles:
    """By what the units say of new accounts, and by what the directory says of those that are there."""
    everywhere = [server.name for server in config.servers]
    sources: set[str] = set()
    targets: set[str] = set()
    for unit in config.units:
        if unit.replicas:
            sources.update(unit.servers or everywhere)
            targets.update(unit.replicas)
    for account in accounts:
        if account.home.replicas:
            sources.add(account.home.primary)
            targets.update(account.home.replicas)
    return Roles(frozenset(sources), frozenset(targets))


def several(accounts: Iterable[Account]) -> list[Account]:
    """Those that name more than one replica. Links keep the first."""
    return [account for account in accounts if len(account.home.replicas) > 1]


def no_login(server: Server) -> str:
    """The text for a log-in that links lack, "" if nothing is lacking."""
    if server.kind == "node":
        return "" if server.replication_user else "link_needs_replication"
    if server.kind == "cyrus" and server.replication_user:
        return ""
    return "link_needs_login" if server.login_way is LoginWay.PASSWORD else ""


def advice(server: Server, roles: Roles, *, asked: bool) -> Iterator[str]:
    """Keys of texts about what works and is unwise. `asked`: it has said what it expires."""
    if server.name in roles and server.kind == "dovecot" and server.doveadm is None:
        yield "no_doveadm"
    if server.name in roles and server.kind == "cyrus" and not server.replication_user and not no_login(server):
        yield "no_administrator"
    if server.name in roles.targets and server.kind in EXPIRES and not asked:
        yield EXPIRES[server.kind]


async def try_login(server: Server, tools: Tools, people: Iterable[Account]) -> str | None:
    """Why links can't log in there; "" if they can, None where there is nobody to try it with."""
    probes = (Account(address, "", Home(server.name)) for address in server.probe_accounts)
    account = next(iter((*people, *probes)), None)
    if account is None:
        return None
    links = make_link_server(server, tools)
    try:
        end = await links.end(account)
        await end.close()
    except Failed as error:
        return error.failure.reason or error.failure.text
    finally:
        await links.close()
    return ""


ASKED = 20
"""Accounts of a replica that are asked what is taken away from them by age."""


async def expiries(backend: MailServer, copies: Sequence[Account]) -> tuple[int, dict[str, int]] | None:
    """How many of the accounts with copies there were asked, and the days by "account folder"; None: nobody tells."""
    server = backend.server
    if server.kind != "cyrus" or server.login_way is LoginWay.PASSWORD or not copies:
        return None
    some = copies[:: max(1, len(copies) // ASKED)][:ASKED]
    found: dict[str, int] = {}
    for account in some:
        try:
            days = await backend.expiries(account)
        except Failed:
            return None  # of a log-in that fails others tell
        if days is None:
            return None
        found |= {f"{account.address} {folder}": each for folder, each in days.items()}
    return len(some), found
