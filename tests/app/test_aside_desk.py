"""What was set aside is told in pages, so that all of it can be had, and each message by a name that stays.

It is put back at the primary that a promotion has made, once that is carried out.
"""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from onedomain.app import aside_desk
from onedomain.app.aside_desk import AsideDesk
from onedomain.control.link import LinkError
from onedomain.directory.delta import Delta
from onedomain.model.account import Account, Home
from onedomain.model.failure import Failed, again
from onedomain.replica.aside import Room
from tests.directory.views import account, book
from tests.replica.test_aside import HERE, Clock, letter, opened


async def test_more_than_a_page_is_had_and_a_name_stays_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside_desk, "MOST", 10)
    clock = Clock()
    store = opened(str(tmp_path), clock, Room(100, 4 << 20, 4 << 20))
    handlers: dict[str, Any] = AsideDesk(store, None, None, None).handlers()  # type: ignore[arg-type]
    bodies = [b"%d" % number * 100 for number in range(25)]
    await store.keep(HERE, [letter(number, body) for number, body in enumerate(bodies)], "deleted")
    rows: list[dict[str, Any]] = []
    while page := await handlers["aside_page"](None, "deleted", "ann@x", len(rows)):
        assert len(page) <= 10
        rows += page
    assert [row["number"] for row in rows] == list(range(1, 26))

    async def read(row: dict[str, Any]) -> bytes:
        part = await handlers["aside_read"](None, "deleted", row["place"], row["size"])
        return base64.b64decode(part["data"])

    await store.keep(HERE, [letter(99, b"another")], "deleted")
    assert [await read(row) for row in rows] == bodies
    for _ in range(5):  # until the oldest go
        await store.keep(HERE, [letter(100, b"x" * (1 << 20))], "deleted")
    clock.now += 200
    assert await store.tidy()
    with pytest.raises(LinkError, match="gone"):
        await read(rows[0])
    await store.close()


async def test_a_promotion_is_waited_for_before_anything_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pending = replace(account("ann@example.com"), home=Home("s2", ("s1",), 2, pending=True))
    directory = book(pending)
    asked: list[Account] = []

    async def end(row: Account) -> Any:
        asked.append(row)
        raise Failed(again(451, "4.4.1", "as far as it gets here", "reached"))

    store = opened(str(tmp_path), Clock(), Room(100, 4 << 20, 4 << 20))
    desk = AsideDesk(store, directory, end, None)  # type: ignore[arg-type]
    restore = desk.handlers()["aside_restore"]
    waiting = asyncio.create_task(restore(None, "deleted", pending.address, "Back"))
    for seq in (2, 3):  # of somebody else first
        assert not (await asyncio.wait([waiting], timeout=0.01))[0] and not asked
        done = replace(pending, home=Home("s2", ("s1",), 2)) if seq == 3 else account("eve@example.com")
        directory.apply(Delta(seq, accounts=(done,)))
        desk.directory_changed()
    with pytest.raises(LinkError, match="reached"):
        await waiting
    assert [row.home for row in asked] == [Home("s2", ("s1",), 2)]

    monkeypatch.setattr(aside_desk, "PATIENCE", 0.01)
    directory.apply(Delta(4, accounts=(replace(pending, home=Home("s1", ("s2",), 3, pending=True)),)))
    with pytest.raises(LinkError, match="not carried out yet"):
        await restore(None, "deleted", pending.address, "Back")
    await store.close()
