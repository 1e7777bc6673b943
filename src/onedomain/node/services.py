"""What all sessions of a node share: store, settings, who may log in as whom.

Knows accounts and credentials. Does not know protocols.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import ssl
import unicodedata
from typing import Protocol

from onedomain.model.ports import Trace
from onedomain.node.settings import NodeSettings
from onedomain.node.store.store import Store
from onedomain.node.store.values import Account
from onedomain.protocol.sasl import Credentials

MAX_ACCOUNT = 320


class Passwords(Protocol):
    def verify(self, stored: str, given: str) -> bool:
        """Whether the password fits the hash; an empty hash fits none, and takes as long. Blocking."""
        ...


class Services:
    def __init__(
        self, settings: NodeSettings, store: Store, passwords: Passwords, trace: Trace, tls: ssl.SSLContext | None
    ) -> None:
        self.settings = settings
        self.store = store
        self.trace = trace
        self.tls = tls
        self._passwords = passwords
        self._secret = settings.secret()
        self._replication_secret = settings.replication_secret()
        self._trusted = tuple(ipaddress.ip_network(network) for network in settings.trusted)

    def trusts(self, address: str) -> bool:
        try:
            ip = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        return any(ip in network for network in self._trusted)

    async def log_in(self, credentials: Credentials) -> Account | None:
        """The account to serve; None when the credentials are wrong. The proxy user may ask for any. Raises Failed."""
        name = account_name(credentials.login)
        if self._is_proxy(credentials):
            return await self.recipient(account_name(credentials.authorize))
        stored = await self.store.password(name)
        right = await asyncio.to_thread(self._passwords.verify, stored, credentials.password)
        if not right or (credentials.authorize and account_name(credentials.authorize) != name):
            return None
        return await self.store.account(name)

    async def recipient(self, name: str) -> Account | None:
        """The account of that name, made now where settings say so. Raises Failed."""
        account = await self.store.account(name)
        if account is None and name and len(name) <= MAX_ACCOUNT and self.settings.takes(name):
            account = await self.store.create_account(name)
            self.trace.note("account made", account=name, reason="autocreate")
        return account

    def replicates(self, credentials: Credentials) -> bool:
        """Whether they are those of the replication log-in, which acts for nobody and for all."""
        if credentials.authorize not in ("", credentials.login):
            return False
        return _same(credentials, self.settings.replication_user, self._replication_secret)

    def _is_proxy(self, credentials: Credentials) -> bool:
        return bool(credentials.authorize) and _same(credentials, self.settings.proxy_user, self._secret)


def _same(credentials: Credentials, user: str, secret: str) -> bool:
    """False where either is not set."""
    is_user = hmac.compare_digest(credentials.login.encode("utf-8", "surrogateescape"), user.encode())
    is_secret = hmac.compare_digest(credentials.password.encode("utf-8", "surrogateescape"), secret.encode())
    return bool(user and secret) and is_user and is_secret


def account_name(text: str) -> str:
    """The key form of a name; a tag goes where the account is looked for with and without it, not here."""
    return unicodedata.normalize("NFC", text).lower()
