"""The link: answers find their calls, errors are errors, a dead peer fails every waiting call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from onedomain.control.link import Link, LinkError, ask, connect


class Far:
    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.news: list[int] = []
        self.links: list[Link] = []
        self.failures: list[Exception] = []
        self.heard = asyncio.Event()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(reader, writer, {"double": self.double, "fail": self.fail, "never": self.never, "news": self.take})
        self.links.append(link)
        try:
            await link.serve()
        except Exception as error:
            self.failures.append(error)
            raise

    async def double(self, link: Link, n: int) -> int:
        await asyncio.sleep(0.01 / n)  # the later asked answers first
        return 2 * n

    async def fail(self, link: Link) -> None:
        raise LinkError("no such thing; try `onedomain queue list`")

    async def never(self, link: Link) -> None:
        await asyncio.Event().wait()

    async def take(self, link: Link, n: int) -> None:
        self.news.append(n)
        if n == 99:
            self.heard.set()


@pytest_asyncio.fixture
async def far(tmp_path: Path) -> AsyncIterator[Far]:
    far = Far(tmp_path / "s")
    server = await asyncio.start_unix_server(far.accept, far.path)
    yield far
    for link in far.links:
        link.close()
    server.close()


async def test_an_argument_cannot_take_the_place_of_the_line_s_own_names(far: Far) -> None:
    with pytest.raises(ValueError, match="no names for arguments"):
        await ask(far.path, "double", id="abc")


async def test_a_backlog_of_news_lets_others_have_their_turn(far: Far) -> None:
    link, task = await connect(far.path)
    await link.call("double", n=1)

    async def busy(other: Link, n: int) -> None:
        time.sleep(0.01)
        await far.take(other, n)

    far.links[0]._handlers = {"news": busy}
    for n in range(100):
        link.tell("news", n=n)
    longest = 0.0
    while not far.heard.is_set():
        before = time.monotonic()
        await asyncio.sleep(0)
        longest = max(longest, time.monotonic() - before)
    assert far.news == list(range(100))
    assert longest < 0.3
    link.close()
    await task


async def test_answers_find_their_calls_in_any_order(far: Far) -> None:
    link, task = await connect(far.path)
    assert await asyncio.gather(*(link.call("double", n=n) for n in range(1, 9))) == [2 * n for n in range(1, 9)]
    link.close()
    await task


async def test_errors_are_for_the_operator_and_leave_the_link_usable(far: Far) -> None:
    with pytest.raises(LinkError, match="queue list"):
        await ask(far.path, "fail")
    with pytest.raises(LinkError, match="unknown verb"):
        await ask(far.path, "dance")
    with pytest.raises(LinkError, match="within"):
        await ask(far.path, "never", timeout=0.05)
    with pytest.raises(LinkError, match="double"):
        await ask(far.path, "double", wrong=1)


async def test_news_arrive_in_order(far: Far) -> None:
    link, task = await connect(far.path)
    for n in range(100):
        link.tell("news", n=n)
    await asyncio.wait_for(far.heard.wait(), 5)
    assert far.news == list(range(100))
    link.close()
    await task


async def test_a_dead_peer_fails_waiting_calls_at_once(far: Far) -> None:
    link, task = await connect(far.path)
    call: asyncio.Future[Any] = asyncio.ensure_future(link.call("never"))
    while not far.links:
        await asyncio.sleep(0)
    await link.call("double", n=1)
    far.links[0].close()
    with pytest.raises(LinkError, match="gone"):
        await call
    await task
    with pytest.raises(LinkError, match="gone"):
        await link.call("double", n=1)


@pytest.mark.parametrize("line", [b"not json\n", b"[1]\n", b"\xff\xfe\n", b"[" * 50_000 + b"\n"])
async def test_garbage_ends_the_link_and_nothing_else(far: Far, line: bytes) -> None:
    reader, writer = await asyncio.open_unix_connection(far.path)
    writer.write(line)
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    assert await ask(far.path, "double", n=2) == 4
    assert not far.failures
