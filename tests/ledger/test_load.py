"""The load against a scripted server: what it calls acknowledged, refused and unknown, and what it tries again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from onedomain.ledger.corpus import (
    DEFAULT_KINDS,
    HALF_WIDTH,
    KINDS,
    MAX_LINE,
    ODD_SENDERS,
    VENDOR,
    Corpus,
    cp50221,
    senders,
)
from onedomain.ledger.ledger import ACKED, REFUSED, UNKNOWN, Ledger, read
from onedomain.ledger.load import Load, Outcome, Plan, run
from onedomain.ledger.wire import stuffed

TO = "a@example.com"
Answer = Callable[[str, int], bytes | None]


@asynccontextmanager
async def scripted(answer: Answer) -> AsyncIterator[tuple[int, list[bytes]]]:
    """An SMTP server that says what `answer` gives for the verb and how often it has come, None to hang up.

    Yields its port and the messages it received, dots still stuffed.
    """
    seen: Counter[str] = Counter()
    messages: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def say(verb: str, default: bytes) -> bytes:
            seen[verb] += 1
            said = answer(verb, seen[verb])
            if said is None:
                raise ConnectionAbortedError
            writer.write(said or default)
            return said or default

        try:
            await say("CONNECT", b"220 hi\r\n")
            while line := await reader.readline():
                verb = line.split()[0].decode().upper()
                said = await say(verb, b"354 go\r\n" if verb == "DATA" else b"250-hi\r\n250 PIPELINING\r\n")
                if said.startswith(b"354"):
                    content = await reader.readuntil(b"\r\n.\r\n")
                    messages.append(content[:-3])
                    await say(".", b"250 taken\r\n")
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], messages


def ok(verb: str, times: int) -> bytes:
    return b""


async def send(answer: Answer, book: Path, **options: object) -> tuple[Outcome, list[bytes]]:
    async with scripted(answer) as (port, messages):
        plan = Plan([("127.0.0.1", port)], [TO], **{"count": 1, "sessions": 1, **options})  # type: ignore[arg-type]
        return await run(plan, book), messages


def states(book: Path) -> list[str]:
    return [act.state for act in read(book)]


@pytest.fixture
def book(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


async def test_acknowledged(book: Path) -> None:
    outcome, messages = await send(ok, book, count=25, sessions=3)
    assert (outcome.messages, outcome.acked, outcome.refused, outcome.unknown) == (25, 25, 0, 0)
    assert states(book) == [ACKED] * 25 and len(messages) == 25


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "."])
async def test_refused_for_good_is_not_tried_again(book: Path, verb: str) -> None:
    outcome, _ = await send(lambda v, _: b"550 no\r\n" if v == verb else b"", book, persistent=True)
    assert (outcome.acked, outcome.refused) == (0, 1)
    assert states(book) == [REFUSED]


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "."])
async def test_refused_for_now_is_tried_again_if_persistent(book: Path, verb: str) -> None:
    def twice(v: str, times: int) -> bytes:
        return b"451 later\r\n" if v == verb and times <= 2 else b""

    outcome, _ = await send(twice, book, persistent=True)
    assert (outcome.acked, outcome.refused) == (1, 0)
    assert states(book) == [REFUSED, REFUSED, ACKED]


async def test_what_is_refused_for_now_is_tried_again_after_a_stop(book: Path) -> None:
    def later(verb: str, times: int) -> bytes:
        if verb != "." or times > 1:
            return b""
        load.stop()
        return b"451 later\r\n"

    with Ledger(book) as ledger:
        async with scripted(later) as (port, _):
            load = Load(Plan([("127.0.0.1", port)], [TO], sessions=1, duration=60, persistent=True), ledger)
            outcome = await load.run()
    assert (outcome.messages, outcome.acked, outcome.refused) == (1, 1, 0)


async def test_refused_for_now_counts_as_refused_if_not_persistent(book: Path) -> None:
    outcome, _ = await send(lambda v, _: b"451 later\r\n" if v == "." else b"", book)
    assert (outcome.acked, outcome.refused) == (0, 1)


@pytest.mark.parametrize("verb", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA"])
async def test_a_line_lost_before_the_final_dot_is_not_in_doubt(book: Path, verb: str) -> None:
    outcome, _ = await send(lambda v, times: None if v == verb and times == 1 else b"", book, persistent=True)
    assert (outcome.acked, outcome.unknown) == (1, 0)
    assert states(book) == [ACKED]


async def test_a_line_lost_after_the_final_dot_is_in_doubt_and_not_repeated(book: Path) -> None:
    outcome, _ = await send(lambda v, _: None if v == "." else b"", book, persistent=True)
    assert (outcome.acked, outcome.refused, outcome.unknown) == (0, 0, 1)
    assert states(book) == [UNKNOWN]


async def test_what_is_in_doubt_is_repeated_when_asked_for(book: Path) -> None:
    outcome, messages = await send(
        lambda v, times: None if v == "." and times == 1 else b"", book, persistent=True, repeat_unknown=True
    )
    assert (outcome.acked, outcome.unknown) == (1, 1)
    assert states(book) == [UNKNOWN, ACKED]
    assert messages[0] == messages[1]


async def test_no_answer_in_time_is_in_doubt(book: Path) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hi\r\n250 hi\r\n250 ok\r\n250 ok\r\n354 go\r\n")
        await reader.readuntil(b"\r\n.\r\n")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        outcome = await run(Plan([("127.0.0.1", port)], [TO], count=1, timeout=1.0), book)
    assert outcome.unknown == 1 and states(book) == [UNKNOWN]


async def test_nobody_there(book: Path) -> None:
    outcome = await run(Plan([("127.0.0.1", 1)], [TO], count=3, persistent=True, patience=0.3), book)
    assert outcome.refused == 3 and book.read_bytes() == b""


async def test_rate_and_duration(book: Path) -> None:
    outcome, _ = await send(ok, book, count=None, duration=1.5, rate=40, sessions=4)
    assert 36 <= outcome.messages <= 72


@pytest.mark.parametrize("kind", KINDS)
def test_corpus_is_reproducible_and_within_the_limits(kind: str) -> None:
    for number in range(5):
        message = Corpus(3).message(number, "tok", "", [TO], kind)
        assert message == Corpus(3).message(number, "tok", "", [TO], kind)
        assert message.data != Corpus(4).message(number, "tok", "", [TO], kind).data
        lines = message.data.split(b"\r\n")
        assert max(map(len, lines)) <= MAX_LINE
        assert b"\0" not in message.data and not any(b"\r" in line or b"\n" in line for line in lines)
        head = message.data.partition(b"\r\n\r\n")[0]
        assert head.count(b"X-Ledger-Token: tok") == 1
        assert message.final_newline == (kind != "no_final_newline")
        assert stuffed(message.data).replace(b"\r\n..", b"\r\n.").startswith(message.data)


def test_corpus_sizes_range_from_small_to_the_limit() -> None:
    sizes = [len(Corpus(1, ["attachment"]).message(n, "t", "", [TO]).data) for n in range(400)]
    assert min(sizes) < 2500 and 100_000 < max(sizes) < 1_200_000


def test_cp50221_is_what_microsoft_writes() -> None:
    # Row 13 (NEC) and row 92 (NEC's copy of IBM's): codes from Microsoft's table for code page 50221.
    assert cp50221("①㈱") == b"\x1b$B\x2d\x21\x2d\x6a\x1b(B"
    assert cp50221("髙") == b"\x1b$B\x7c\x62\x1b(B"
    assert cp50221("日本a") == b"\x1b$BF|K\\\x1b(Ba" == "日本a".encode("iso2022_jp")
    assert cp50221(HALF_WIDTH[0]) == b"\x1b(I\x36\x1b(B"
    with pytest.raises(UnicodeDecodeError):
        cp50221(VENDOR).decode("iso2022_jp")


def test_senders_have_odd_ones_among_them() -> None:
    series = senders(1)
    assert set(ODD_SENDERS) <= {next(series) for _ in range(2000)}
    assert len(DEFAULT_KINDS) == len(KINDS) - 2
