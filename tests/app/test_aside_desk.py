"""What was set aside is told in pages, so that all of it can be had, and each message by a name that stays."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from onedomain.app import aside_desk
from onedomain.app.aside_desk import AsideDesk
from onedomain.control.link import LinkError
from onedomain.replica.aside import Room
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
