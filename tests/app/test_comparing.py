"""A comparison of both copies is of one home."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from onedomain.app.comparing import compared
from onedomain.model.account import Home
from onedomain.model.failure import Failed
from onedomain.replica.comparison import Verdict
from tests.health.virtual import run
from tests.replica.kit import Town


@pytest.mark.parametrize("moves", [False, True])
def test_a_home_that_changes_meanwhile_makes_it_void(moves: bool) -> None:
    """What it would say of the one may be taken for what is known of the other."""
    async def play() -> list[Verdict]:
        town = Town()
        account = town.account("ann@example.com")
        town.links.start()
        for _ in range(3):
            town.deliver(account.address)
        await town.covered(account.address)
        await town.idle(account.address)
        book = SimpleNamespace(account=town.accounts.get)
        found = []
        lines = compared(cast(Any, book), town.links, cast(Any, town.pools.get), account.address, octets=True)
        async for line in lines:
            found.append(line.verdict)
            if moves:
                moved = replace(account, home=Home("b", ("a",), 2))
                town.links.configure(moved, linked=True)
        await town.links.stop()
        return found

    if moves:
        with pytest.raises(Failed, match="another home"):
            run(play())
    else:
        assert run(play()) == [Verdict.SAME] * 3
