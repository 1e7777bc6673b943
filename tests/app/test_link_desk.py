"""What workers and operators ask the linker."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from onedomain.app.link_desk import READY_SECONDS, LinkDesk
from onedomain.control.link import Link, LinkError
from onedomain.model.failure import Failed, again
from tests.health.virtual import VirtualClock, run


class Waits:
    """A failover whose promotions can't be carried out: the new primary is down, too."""

    def __init__(self) -> None:
        self.asked = 0

    async def ready(self, account: str) -> None:
        self.asked += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.asked -= 1


def test_nobody_is_waited_for_longer_than_he_waits() -> None:
    """Log-ins ask again every few seconds, and a promotion may wait for days."""
    async def play() -> None:
        failover = Waits()
        desk = LinkDesk(cast(Any, None), lambda: cast(Any, (None, failover)), *cast(Any, (None, None, None)))
        began = VirtualClock().monotonic()
        with pytest.raises(LinkError, match="ann@x is not done yet"):
            await desk.handlers()["ready"](cast(Link, None), "ann@x")
        assert VirtualClock().monotonic() - began <= READY_SECONDS + 1 and not failover.asked

    run(play())


async def test_whether_a_message_may_be_tried_is_the_failovers_to_say() -> None:
    failover = SimpleNamespace(may_try=lambda account: account != "ann@x")
    desk = LinkDesk(cast(Any, None), lambda: cast(Any, (None, failover)), *cast(Any, (None, None, None)))
    trying = desk.handlers()["trying"]
    assert await trying(cast(Link, None), "ann@x") is False
    assert await trying(cast(Link, None), "bob@x") is True


AWAY = Failed(again(451, "4.3.0", "the database is away", "connection refused"))


async def away(*words: Any, **more: Any) -> Any:
    raise AWAY


@pytest.mark.parametrize("verb, words", [
    ("link_show", {"account": "ann@x"}), ("link_accept", {"account": "ann@x"}), ("link_compare", {"account": "ann@x"}),
    ("failover", {}), ("promote", {"accounts": ["ann@x"]}),
])
async def test_who_asks_while_the_database_is_away_is_told_so(verb: str, words: dict[str, Any]) -> None:
    """At once: whoever gets no answer waits for it until his patience is over."""
    links = SimpleNamespace(read=away, linked=lambda account: None)
    failover = SimpleNamespace(status=away, promote=away)
    book = SimpleNamespace(account=lambda address: SimpleNamespace(address=address))
    desk = LinkDesk(cast(Any, book), lambda: cast(Any, (links, failover)), *cast(Any, (None, None, None)))
    with pytest.raises(LinkError, match="connection refused"):
        await desk.handlers()[verb](cast(Link, None), **words)


async def test_what_is_accepted_is_kept_before_it_is_done() -> None:
    """Nothing to accept, or a link that is another by now, is told."""
    linked = SimpleNamespace(braked=("INBOX",))
    done: list[str] = []
    kept = [True]

    async def read(account: str) -> None: ...

    async def keep(account: Any) -> bool:
        done.append("kept")
        return kept[0]

    def accept(account: str) -> bool:
        done.append("accepted")
        return True

    links = SimpleNamespace(read=read, linked=lambda account: linked, accept=accept)
    book = SimpleNamespace(account=lambda address: SimpleNamespace(address=address))
    trace = SimpleNamespace(note=lambda event, **fields: None)
    desk = LinkDesk(cast(Any, book), lambda: cast(Any, (links, None)), cast(Any, None), keep, cast(Any, trace))
    ask = desk.handlers()["link_accept"]
    assert await ask(cast(Link, None), account="ann@x") is True and done == ["kept", "accepted"]
    kept[0] = False
    with pytest.raises(LinkError, match="look at it again"):
        await ask(cast(Link, None), account="ann@x")
    linked.braked = ()
    with pytest.raises(LinkError, match="nothing is braked"):
        await ask(cast(Link, None), account="ann@x")
    assert done == ["kept", "accepted", "kept"]
