"""What workers and operators ask the linker."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from onedomain.app.link_desk import READY_SECONDS, LinkDesk
from onedomain.control.link import Link, LinkError
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
        desk = LinkDesk(cast(Any, None), lambda: cast(Any, (None, failover)), cast(Any, None), cast(Any, None))
        began = VirtualClock().monotonic()
        with pytest.raises(LinkError, match="ann@x is not done yet"):
            await desk.handlers()["ready"](cast(Link, None), "ann@x")
        assert VirtualClock().monotonic() - began <= READY_SECONDS + 1 and not failover.asked

    run(play())
