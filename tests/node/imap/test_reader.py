"""Commands put together from bytes cut anywhere."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onedomain.net.stream import Stream
from onedomain.node.imap.reader import Append, BadAppend, CommandReader, TooLong, Whole
from onedomain.protocol.imap.lines import Limits

LIMITS = Limits(line=200, literal=5000, command=10_000)


class Fed:
    """A stream that gives out what it was fed, piece by piece, and remembers what was written."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = [piece for piece in pieces if piece]
        self.written = b""

    async def read(self) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""

    async def write(self, data: bytes) -> None:
        self.written += data


SAID = (
    b"a NOOP\r\nb LOGIN {1+}\r\nu {2+}\r\npw\r\nc APPEND {1+}\r\nx (\\Seen) {3+}\r\nabc\r\nd NOOP\r\n"
    b"e APPEND x nonsense {3+}\r\nabc\r\nf " + b"x" * 300
    + b"\r\ng SELECT {6000+}\r\n" + b"y" * 6000 + b"\r\nh NOOP\r\n"
)


async def everything(pieces: list[bytes]) -> list[object]:
    reader = CommandReader(cast(Stream, Fed(pieces)), LIMITS)
    found: list[object] = []
    while True:
        command = await reader.command()
        if command is None:
            return found
        if isinstance(command, BadAppend):
            found.append(str(command.error))
            continue
        if isinstance(command, Append):
            await reader.accept(command.literal)
            data = b""
            while not (chunk := await reader.chunk()).last:
                data += chunk.data
            found += [command.mailbox, data + chunk.data, (await reader.after_literal()).data]
        elif isinstance(command, Whole):
            found.append(command.data)
        else:
            assert isinstance(command, TooLong)
            found.append((command.start[:3], command.literal))


EXPECTED: list[object] = [
    b"a NOOP", b"b LOGIN {1+}\r\nu {2+}\r\npw", "x", b"abc", b"\r\n", b"d NOOP", "Expected the message as a literal",
    (b"f x", False), (b"g S", True), b"h NOOP",
]  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100_000])
async def test_cut_evenly(size: int) -> None:
    assert await everything([SAID[at:at + size] for at in range(0, len(SAID), size)]) == EXPECTED


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, len(SAID)), max_size=20))
async def test_cut_anywhere(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(SAID)]
    assert await everything([SAID[a:b] for a, b in pairwise(edges)]) == EXPECTED


async def test_a_synchronising_literal_is_asked_for_only_when_wanted() -> None:
    fed = Fed([b"a LOGIN {1}\r\n", b"u {2}\r\n", b"pw\r\n", b"b SELECT {6000}\r\n", b"c NOOP\r\n"])
    reader = CommandReader(cast(Stream, fed), LIMITS)
    assert await reader.command() == Whole(b"a LOGIN {1}\r\nu {2}\r\npw")
    assert fed.written == b"+ Ready\r\n" * 2
    assert isinstance(await reader.command(), TooLong)
    assert await reader.command() == Whole(b"c NOOP")
    assert fed.written == b"+ Ready\r\n" * 2
