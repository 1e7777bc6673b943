"""The operator's verbs at the linker, and the worker's one: links, failovers, promotions by hand.

Knows the links and the failover that run here, if they do. Does not know who asks, nor how a terminal shows it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

from onedomain.app.comparing import compared
from onedomain.backend.link.base import LinkServer
from onedomain.control.link import Handler, Link, LinkError
from onedomain.directory.book import Book
from onedomain.model.account import Account, Home
from onedomain.model.failure import Failed
from onedomain.model.ports import Trace
from onedomain.replica.comparison import Verdict
from onedomain.replica.failover import Failover
from onedomain.replica.links import Links

MAX_COMPARED = 50_000
READY_SECONDS = 10.0
"""As long as the keeper waits for it: a promotion may wait for days, while people come again every few seconds."""

Running = Callable[[], tuple[Links, Failover] | None]
"""None: another edge runs them."""


class LinkDesk:
    """Every verb raises LinkError, with a text for the operator."""

    def __init__(
        self, book: Book, running: Running, servers: Callable[[str], LinkServer],
        keep_accepted: Callable[[Account], Awaitable[bool]], trace: Trace,
    ) -> None:
        self._book = book
        self._both = running
        self._servers = servers
        self._keep_accepted = keep_accepted
        self._trace = trace

    def handlers(self) -> dict[str, Handler]:
        found: dict[str, Handler] = {
            "ready": self._ready, "trying": self._trying, "link_pairs": self._link_pairs, "link_list": self._link_list,
            "link_show": self._link_show, "link_retry": self._link_retry, "link_accept": self._link_accept,
            "link_compare": self._link_compare, "failover": self._failover_status, "promote": self._promote}
        return {verb: _told(handler) for verb, handler in found.items()}

    def _running(self) -> tuple[Links, Failover]:
        if (both := self._both()) is None:
            raise LinkError("the links do not run here at the moment")
        return both

    @property
    def _links(self) -> Links:
        return self._running()[0]

    @property
    def _failover(self) -> Failover:
        return self._running()[1]

    # -- failover

    async def _ready(self, link: Link, account: str) -> None:
        """Answered when the account's promotion has been carried out, or when nobody waits for the answer any more."""
        try:
            async with asyncio.timeout(READY_SECONDS):
                await self._failover.ready(account)
        except TimeoutError:
            raise LinkError(f"the promotion of {account} is not done yet") from None

    async def _trying(self, link: Link, account: str) -> bool:
        return self._failover.may_try(account)

    async def _failover_status(self, link: Link) -> dict[str, Any]:
        return await self._failover.status()

    async def _promote(
        self, link: Link, server: str = "", accounts: Sequence[str] = (), to: str = "", force: bool = False,
        dry: bool = False,
    ) -> list[dict[str, Any]]:
        """By hand."""
        failover = self._failover
        rows = [row for row in self._book.accounts() if row.home.replicas] if server else []
        wanted = [row for row in rows if row.home.primary == server]
        wanted += [row for address in accounts if (row := self._book.account(address)) is not None]
        return [asdict(each) for each in await failover.promote(wanted, to, cause="by hand", force=force, dry=dry)]

    # -- links

    async def _link_pairs(self, link: Link) -> list[dict[str, Any]]:
        return self._links.pairs()

    async def _link_list(
        self, link: Link, troubled: bool = False, limit: int = 100, accounts: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        return self._links.rows(troubled=troubled, limit=limit, accounts=accounts)

    async def _link_show(self, link: Link, account: str) -> dict[str, Any] | None:
        links = self._links
        if self._book.account(account) is not None:
            await links.read(account)
        return links.show(account)

    async def _link_retry(self, link: Link, account: str) -> bool:
        return self._links.retry(account)

    async def _link_accept(self, link: Link, account: str) -> bool:
        """In the directory, too, for a day: whoever runs the links then goes by it."""
        links = self._links
        await links.read(account)
        row, linked = self._book.account(account), links.linked(account)
        if row is None or linked is None:
            return False
        if not linked.braked:
            raise LinkError(f"nothing is braked in the link of {account}")
        if not await self._keep_accepted(row):
            raise LinkError(f"the link of {account} has just changed: look at it again")
        self._trace.note("link accepted", account=account, folders=list(linked.braked))
        return links.accept(account)

    async def _link_compare(self, link: Link, account: str, octets: bool = False, all: bool = False) -> dict[str, Any]:
        """Message by message; of those that are the same only the number, unless `all`."""
        links = self._links
        counts: Counter[str] = Counter()
        lines: list[list[Any]] = []
        async with aclosing(compared(self._book, links, self._servers, account, octets=octets)) as found:
            async for line in found:
                counts[line.verdict.value] += 1
                if (all or line.verdict is not Verdict.SAME) and len(lines) < MAX_COMPARED:
                    lines.append([line.folder, line.uid, line.target_uid, line.verdict.value, line.detail])
        row = self._book.account(account)
        home = row.home if row is not None else Home("")
        return {"account": account, "source": home.primary, "target": next(iter(home.replicas), ""),
                "counts": dict(counts), "lines": lines, "cut": len(lines) == MAX_COMPARED}


def _told(handler: Handler) -> Handler:
    """What fails on our side is an answer, too."""
    async def answer(*words: Any, **more: Any) -> Any:
        try:
            return await handler(*words, **more)
        except Failed as error:
            raise LinkError(error.failure.reason or error.failure.text) from None

    return answer
