"""Books for tests, written in two lines."""

from __future__ import annotations

from onedomain.directory.book import Book
from onedomain.directory.delta import Delta
from onedomain.model.account import Account, Alias, Domain, Home, Unit
from onedomain.model.server import Endpoint, Server

EXAMPLE = Domain("example.com", "example.com", "+", "boss@example.com")
OTHER_NAME = Domain("example.co.jp", "example.com", "+", "boss@example.com")


def server(name: str, **more: object) -> Server:
    return Server(name, "dovecot", Endpoint("127.0.0.1", 143), Endpoint("127.0.0.1", 24), **more)  # type: ignore[arg-type]


def account(address: str, *forward_to: str, keep: bool = True, enabled: bool = True, epoch: int = 1) -> Account:
    return Account(address, "head", Home("s1", (), epoch), forward_to=forward_to, keep_copy=keep, enabled=enabled)


def book(*rows: Account | Alias, domains: tuple[Domain, ...] = (EXAMPLE, OTHER_NAME)) -> Book:
    made = Book(domains, [Unit("head", ("s1", "s2"))], [server("s1"), server("s2")])
    made.apply(
        Delta(
            1,
            accounts=tuple(row for row in rows if isinstance(row, Account)),
            aliases=tuple(row for row in rows if isinstance(row, Alias)),
        )
    )
    return made
