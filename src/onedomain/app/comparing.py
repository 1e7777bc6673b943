"""Both copies of an account, opened and compared, for whoever asks: an operator, or a move that ends.

Knows where its link's state and its two servers are found. Does not know what follows from a difference.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Mapping

from onedomain.backend.link.base import LinkEnd, LinkServer
from onedomain.directory.book import Book
from onedomain.model.failure import Failed, again
from onedomain.replica.comparison import Line, compare
from onedomain.replica.links import Links


async def compared(
    book: Book, links: Links, servers: Callable[[str], LinkServer], account: str,
    only: Mapping[str, Collection[int]] | None = None, *, octets: bool,
) -> AsyncGenerator[Line, None]:
    """`only`: as in replica/comparison. Raises Failed."""
    row = book.account(account)
    await links.read(account)
    linked = links.linked(account)
    if row is None or linked is None or linked.state is None:
        raise Failed(again(451, "4.3.0", "no link", f"{account} has no link that runs now"))
    source, target, state = linked.source, linked.target, linked.state
    ends: dict[str, LinkEnd] = {}
    broken = True
    try:
        for name in sorted((source, target)):  # in one order everywhere, or two may wait for ever
            ends[name] = await _server(servers, name).end(row)
        async for line in compare(ends[source], ends[target], lambda: linked.state or state, octets=octets,
                                  only=only):
            yield line
        broken = False
        if links.linked(account) is not linked:
            raise Failed(again(451, "4.3.2", "another home", f"the home of {account} has changed meanwhile"))
    finally:
        for end in ends.values():
            await end.close(broken=broken)


def _server(servers: Callable[[str], LinkServer], name: str) -> LinkServer:
    try:
        return servers(name)
    except KeyError:
        raise Failed(again(451, "4.3.5", "no server", f"{name} is not in the configuration")) from None
