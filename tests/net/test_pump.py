"""Relays between real sockets: a client, the relay in the middle, a server; plain and TLS on each side."""

from __future__ import annotations

import asyncio
import random
import resource
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from onedomain.model.failure import Failed, refuse
from onedomain.net.poller import IN, LARGE_SIZE
from onedomain.net.pump import End, Relay, RelayResult, relay
from onedomain.net.stream import Stream
from onedomain.net.tls import ClientContexts, ServerContexts
from onedomain.net.wire import Bytes
from tests.lab.tls import Certificate
from tests.net.conftest import both_tls, read_all, read_exactly, stream_pair

RESET = b"\1\0\0\0\0\0\0\0"  # struct linger: on, 0 s


@dataclass
class Three:
    """client <-> (inner_client | relay | inner_server) <-> server"""

    client: Stream
    inner_client: Stream
    inner_server: Stream
    server: Stream
    relay: Relay | None = None
    task: asyncio.Task[RelayResult] | None = field(default=None)

    def start(self, **options: Any) -> asyncio.Task[RelayResult]:
        self.relay = Relay(self.inner_client, self.inner_server, **{"idle": 60.0, **options})
        self.task = asyncio.create_task(self.relay.run())
        return self.task

    async def end(self) -> None:
        self.client.close()
        self.server.close()
        if self.task is not None:
            await asyncio.wait([self.task])


Make = Callable[..., Awaitable[Three]]


@pytest.fixture
async def make(
    client_tls: ClientContexts, server_tls: ServerContexts, certificate: Certificate
) -> AsyncIterator[Make]:
    made: list[Three] = []

    async def three(sides: str = "plain-plain", **options: Any) -> Three:
        client, inner_client = stream_pair(**options)
        inner_server, server = stream_pair(**options)
        ca = str(certificate.ca)
        if sides.startswith("tls"):
            await both_tls(client, inner_client, client_tls, server_tls, ca)
        if sides.endswith("tls"):
            await both_tls(inner_server, server, client_tls, server_tls, ca)
        made.append(Three(client, inner_client, inner_server, server))
        return made[-1]

    yield three
    for one in made:
        await one.end()


@pytest.fixture(params=["plain-plain", "tls-plain", "plain-tls", "tls-tls"])
async def three(request: pytest.FixtureRequest, make: Make) -> Three:
    return await make(request.param)


async def test_words_go_both_ways(three: Three) -> None:
    task = three.start()
    for number in range(20):
        await three.client.write(b"a%d NOOP\r\n" % number)
        assert await three.server.read() == b"a%d NOOP\r\n" % number
        await three.server.write(b"a%d OK\r\n" % number)
        assert await three.client.read() == b"a%d OK\r\n" % number
    await three.client.write(b"z LOGOUT\r\n")
    assert await three.server.read() == b"z LOGOUT\r\n"
    await three.server.write(b"* BYE\r\n")
    await three.server.aclose()
    assert await read_all(three.client) == b"* BYE\r\n"
    result = await task
    assert result.ended is End.SERVER
    assert (result.upstream, result.downstream) == (10 * 9 + 10 * 10 + 10, 10 * 7 + 10 * 8 + 7)


async def test_what_was_read_too_early_goes_first(three: Three) -> None:
    three.inner_client.unread(b"a SELECT ")
    three.inner_server.unread(b"* OK ready")
    three.start()
    await three.client.write(b"INBOX\r\n")
    await three.server.write(b" now\r\n")
    assert await read_exactly(three.server, 16) == b"a SELECT INBOX\r\n"
    assert await read_exactly(three.client, 16) == b"* OK ready now\r\n"


async def test_what_tls_has_deciphered_already_is_not_forgotten(three: Three) -> None:
    await three.client.write(b"abcdefgh")
    await three.server.write(b"ijklmnop")
    three.inner_client.unread(await three.inner_client.read(3))
    three.inner_server.unread(await three.inner_server.read(3))
    three.start()
    assert await read_exactly(three.server, 8) == b"abcdefgh"
    assert await read_exactly(three.client, 8) == b"ijklmnop"


async def test_bulk_both_ways_at_once(three: Three) -> None:
    three.start()
    up, down = bytes(range(256)) * 20_000, bytes(reversed(range(256))) * 30_000
    results = await asyncio.gather(
        three.client.write(up), three.server.write(down),
        read_exactly(three.server, len(up)), read_exactly(three.client, len(down)),
    )  # fmt: skip
    assert results[2] == up
    assert results[3] == down


@pytest.mark.parametrize("seed", range(4))
async def test_pieces_of_any_size_past_filters_that_skip(three: Three, seed: int) -> None:
    dice = random.Random(seed)
    sizes = (1, 8, 500, 16_384, 16_385, 65_536, 200_000, 1_500_000)
    seen = 0

    def look(data: bytes) -> None:
        nonlocal seen
        assert three.relay is not None
        seen += len(data)
        three.relay.skip_down(dice.choice((0, 0, 3_000_000, *sizes)))

    def change(data: bytes) -> bytes | None:
        return data.swapcase() if dice.random() < 0.5 else None

    task = three.start(upstream=change, downstream=look)

    async def talk(stream: Stream, data: bytes) -> None:
        place = 0
        while place < len(data):
            piece = data[place:place + dice.choice(sizes)]
            await stream.write(piece)
            place += len(piece)
            for _ in range(dice.choice((0, 0, 3, 30))):
                await asyncio.sleep(0)

    async def hear(stream: Stream) -> bytes:
        data = bytearray()
        while piece := await stream.read(dice.choice(sizes)):
            data += piece
            for _ in range(dice.choice((0, 0, 0, 30))):
                await asyncio.sleep(0)
        return bytes(data)

    async def serve() -> bytes:
        """Its end is that of the relay, so it has heard all by then."""
        heard, _ = await asyncio.gather(read_exactly(three.server, len(up)), talk(three.server, down))
        three.server.wire.half_close()
        return heard

    up, down = dice.randbytes(1_000_000), dice.randbytes(12_000_000)
    heard, up_heard, _ = await asyncio.gather(hear(three.client), serve(), talk(three.client, up))
    assert heard == down
    assert up_heard.lower() == up.lower()
    result = await task
    assert (result.upstream, result.downstream, result.ended) == (len(up), len(down), End.SERVER)
    assert 0 < seen < len(down)


async def test_a_slow_reader_costs_no_memory(three: Three) -> None:
    """40 MB through the relay; the slow reader stops now and then. What the relay keeps is bounded all the time."""
    three.start()
    size, chunk = 40_000_000, bytes(1_000_000)

    async def produce() -> None:
        for _ in range(size // len(chunk)):
            await three.server.write(chunk)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    writing = asyncio.create_task(produce())
    received = 0
    while received < size:
        received += len(await three.client.read(500_000))
        assert three.inner_client.pending <= LARGE_SIZE
    await writing
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # kB


async def test_a_stuck_reader_stops_the_writer(make: Make) -> None:
    three = await make("plain-plain", receive=65536, send=65536)
    three.start()
    writing = asyncio.create_task(three.server.write(b"x" * 50_000_000))
    taken = -1
    while three.relay is not None and taken != three.relay._down.count:
        taken = three.relay._down.count
        await asyncio.sleep(0.05)
    # What the kernel lets a send buffer grow to (tcp_wmem, 4 MB), the reader's own, and one piece of ours.
    assert 0 < taken < 5_000_000 + LARGE_SIZE
    assert not writing.done()
    assert not three.inner_server._mask & IN, "events nobody can serve would keep the processor busy"
    writing.cancel()


async def test_a_client_that_half_closes_gets_its_answers(three: Three) -> None:
    task = three.start()
    await three.client.write(b"a FETCH 1\r\nb LOGOUT\r\n")
    three.client.wire.half_close()
    assert await read_all(three.server) == b"a FETCH 1\r\nb LOGOUT\r\n"
    await three.server.write(b"y" * 300_000)
    await three.server.aclose()
    assert len(await read_all(three.client)) == 300_000
    assert (await task).ended is End.CLIENT


async def test_a_client_that_goes_away_ends_it_at_the_server(three: Three) -> None:
    task = three.start()
    await three.client.aclose()
    assert await read_all(three.server) == b""
    await three.server.aclose()
    assert (await task).ended is End.CLIENT


async def test_a_server_that_stays_after_the_client_is_left(three: Three, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onedomain.net.pump.LAST_CALL_SECONDS", 0.1)
    task = three.start()
    await three.client.aclose()
    result = await task
    assert result.ended is End.CLIENT
    assert "did not end" in result.reason


async def test_commands_sent_right_before_a_reset_reach_the_server(three: Three) -> None:
    """Clients say LOGOUT and are gone; what they asked for before must be done all the same."""
    three.start()
    await three.client.write(b"a STORE 1 +FLAGS (\\Deleted)\r\nb LOGOUT\r\n")
    three.client.wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    await asyncio.sleep(0.05)
    three.client.close()
    await three.server.write(b"* 1 FETCH\r\n")
    assert await read_all(three.server) == b"a STORE 1 +FLAGS (\\Deleted)\r\nb LOGOUT\r\n"


async def test_last_words_of_a_server_that_no_longer_listens(three: Three) -> None:
    task = three.start()
    await three.server.write(b"* BYE shutting down\r\n")
    # As a server does that is killed: its input unread, so that what we send it is answered with a reset.
    three.inner_client.want(0)
    three.server.wire.half_close()
    three.server.close()
    await three.client.write(b"a NOOP\r\n" * 1000)
    assert await read_all(three.client) == b"* BYE shutting down\r\n"
    await task


async def test_a_server_reset_in_the_middle_ends_the_client_too(three: Three) -> None:
    task = three.start()
    three.server.write_nowait(b"* 1 FETCH (BODY[] {1000}\r\nabc")
    assert await three.client.read()
    three.server.wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    three.server.close()
    assert await read_all(three.client) == b""
    assert (await task).ended is End.SERVER


async def test_a_client_reset_in_the_middle_of_bulk(three: Three) -> None:
    task = three.start()
    writing = asyncio.create_task(three.server.write(b"x" * 20_000_000))
    await three.client.read()
    three.client.wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    three.client.close()
    await writing
    assert await read_all(three.server) == b""
    await three.server.aclose()
    assert (await task).ended is End.CLIENT


async def test_idle(three: Three) -> None:
    task = three.start(idle=0.2)
    await three.client.write(b"a NOOP\r\n")
    result = await task
    assert (result.ended, result.upstream) == (End.IDLE, 8)
    assert await read_all(three.client) == b""


async def test_words_put_the_idle_limit_off(three: Three) -> None:
    task = three.start(idle=0.5)
    for _ in range(8):
        await three.client.write(b"a NOOP\r\n")
        await asyncio.sleep(0.1)
    assert not task.done()
    assert (await task).ended is End.IDLE


async def test_cut_says_why(three: Three) -> None:
    task = three.start()
    await three.server.write(b"* 5 EXISTS\r\n")
    assert await three.client.read() == b"* 5 EXISTS\r\n"
    assert three.relay is not None
    three.relay.cut(b"* BYE your mailbox has moved\r\n", "epoch 2")
    three.relay.cut(b"* BYE twice\r\n")
    assert await read_all(three.client) == b"* BYE your mailbox has moved\r\n"
    assert await read_all(three.server) == b""
    assert await task == RelayResult(0, 12, End.CUT, "epoch 2")


async def test_cut_with_a_client_that_reads_slowly(make: Make) -> None:
    three = await make("plain-plain", receive=65536, send=65536)
    task = three.start()
    writing = asyncio.create_task(three.server.write(b"x" * 50_000_000))
    while not three.inner_client.pending:
        await asyncio.sleep(0)
    assert three.relay is not None
    three.relay.cut(b"* BYE\r\n")
    assert (await read_all(three.client)).endswith(b"x* BYE\r\n")
    assert (await task).ended is End.CUT
    await asyncio.wait([writing])
    assert isinstance(writing.exception(), ConnectionError)


async def test_a_cancelled_relay_closes_both(three: Three) -> None:
    task = three.start()
    await asyncio.sleep(0.01)
    task.cancel()
    assert await read_all(three.client) == b""
    assert await read_all(three.server) == b""


class TestFilters:
    async def test_one_that_looks(self, three: Three) -> None:
        seen = bytearray()
        three.inner_client.unread(b"early ")
        three.start(upstream=seen.extend)
        for byte in b"a NOOP\r\n":
            await three.client.write(bytes([byte]))
        assert await read_exactly(three.server, 14) == b"early a NOOP\r\n"
        assert seen == b"early a NOOP\r\n"

    async def test_one_that_changes_and_one_that_keeps_back(self, three: Three) -> None:
        three.start(upstream=bytes.upper, downstream=lambda data: b"" if data == b"secret" else None)
        await three.client.write(b"select")
        assert await three.server.read() == b"SELECT"
        await three.server.write(b"secret")
        await asyncio.sleep(0.05)
        await three.server.write(b"open")
        assert await three.client.read() == b"open"

    async def test_one_that_fails_is_told_to_the_caller(self, three: Three) -> None:
        def scan(data: bytes) -> None:
            raise Failed(refuse(500, "5.5.2", "Line too long"))

        task = three.start(upstream=scan)
        await three.client.write(b"x" * 100)
        with pytest.raises(Failed, match="too long"):
            await task
        assert await read_all(three.server) == b""
        assert await read_all(three.client) == b""


class TestOnDemand:
    """Bytes that pass unseen, and a server that has to wait."""

    async def test_what_the_filter_need_not_see(self, three: Three) -> None:
        seen = bytearray()

        def look(data: bytes) -> bytes:
            assert three.relay is not None
            if b"{" in data:
                three.relay.skip_down(300_000)
            seen.extend(data)
            return data.lower()

        three.start(downstream=look)
        body = b"X" * 300_000
        reading = asyncio.create_task(read_exactly(three.client, len(body) + 8))
        await three.server.write(b"A{")
        await asyncio.sleep(0.02)
        for start in range(0, len(body), 1000):
            await three.server.write(body[start:start + 1000])
        await three.server.write(b"YABCDE")
        assert await reading == b"a{" + body + b"yabcde"
        assert seen == b"A{YABCDE"

    async def test_held_means_not_read(self, make: Make) -> None:
        three = await make("plain-plain", receive=65536, send=65536)
        task = three.start()
        assert three.relay is not None
        three.relay.hold_down(True)
        writing = asyncio.create_task(three.server.write(b"x" * 3_000_000))
        await three.client.write(b"a NOOP\r\n")  # the other direction goes on
        assert await three.server.read() == b"a NOOP\r\n"
        assert three.relay._down.count == 0
        three.relay.send_down(b"kept ")
        three.relay.hold_down(False)
        assert await read_exactly(three.client, 3_000_005) == b"kept " + b"x" * 3_000_000
        await writing
        assert not task.done()

    async def test_held_until_after_the_end(self, three: Three) -> None:
        task = three.start()
        assert three.relay is not None
        three.relay.hold_down(True)
        await three.server.write(b"bye")
        await three.server.aclose()
        await asyncio.sleep(0.02)
        assert not task.done()
        three.relay.hold_down(False)
        assert await read_all(three.client) == b"bye"
        assert (await task).ended is End.SERVER

    async def test_a_client_that_has_to_wait(self, three: Three) -> None:
        """What its filter keeps back comes before what it sends later, and before its end."""
        seen: list[bytes] = []

        def up(data: bytes) -> bytes | None:
            seen.append(data)
            line, found, rest = data.partition(b"{}")
            if not found:
                return None
            assert three.relay is not None
            three.relay.hold_up(rest)
            return line + found

        def down(data: bytes) -> None:
            assert three.relay is not None
            if data == b"go":
                three.relay.release_up()

        task = three.start(upstream=up, downstream=down)
        await three.client.write(b"a{}bb{}")
        assert await three.server.read() == b"a{}"
        await three.client.write(b"c{}d")
        three.client.wire.half_close()
        await three.server.write(b"no")
        assert await three.client.read() == b"no"
        for said in (b"bb{}", b"c{}", b"d"):
            await three.server.write(b"go")
            assert await three.client.read() == b"go"
            assert await read_exactly(three.server, len(said)) == said
        assert await read_all(three.server) == b""
        assert seen == [b"a{}bb{}", b"bb{}", b"c{}d", b"d"]
        await three.server.aclose()
        assert (await task).ended is End.CLIENT

    async def test_a_client_that_waits_for_ever_is_idle(self, three: Three) -> None:
        def up(data: bytes) -> None:
            assert three.relay is not None
            three.relay.hold_up(b"")

        task = three.start(upstream=up, idle=0.3)
        await three.client.write(b"a")
        assert await three.server.read() == b"a"
        await three.client.write(b"b")
        assert (await task).ended is End.IDLE
        assert await read_all(three.server) == b""

    async def test_a_gate_that_closes(self, three: Three) -> None:
        gates = [True]

        def gate() -> bool:
            if not gates[0]:
                assert three.relay is not None
                three.relay.cut(b"* BYE\r\n", "closed")
            return gates[0]

        task = three.start(gate=gate)
        await three.client.write(b"one")
        assert await three.server.read() == b"one"
        gates[0] = False
        await three.client.write(b"two")
        assert await read_all(three.client) == b"* BYE\r\n"
        assert await read_all(three.server) == b""
        assert (await task).reason == "closed"


class TestBulk:
    """What nobody looks at, in larger and larger pieces."""

    @pytest.mark.parametrize("seen", ["nothing", "all but a literal"])
    async def test_all_arrives_in_order_and_is_counted(
        self, make: Make, monkeypatch: pytest.MonkeyPatch, seen: str
    ) -> None:
        """With a slow reader, so that the socket has no room for some of it."""
        stuck = 0
        before = Stream.keep

        def keep(self: Stream, data: Bytes, sent: int) -> None:
            nonlocal stuck
            stuck += 1
            before(self, data, sent)

        monkeypatch.setattr(Stream, "keep", keep)
        three = await make("plain-plain", receive=65536, send=65536)
        numbers = b"".join(number.to_bytes(4, "big") for number in range(2_000_000))
        heard = bytearray()

        def look(data: bytes) -> None:
            assert three.relay is not None
            if not heard:
                three.relay.skip_down(4 + len(numbers) - len(data))
                data = data[:4]
            heard.extend(data)

        task = three.start(downstream=None if seen == "nothing" else look)
        data = b"head" + numbers + b"tail"

        async def serve() -> None:
            await three.server.write(data)
            await three.server.aclose()

        writing = asyncio.create_task(serve())
        found = bytearray()
        while piece := await three.client.read(100_000):
            found += piece
            for _ in range(50):  # turns for the others
                await asyncio.sleep(0)
        assert found == data
        await writing
        result = await task
        assert (result.ended, result.downstream) == (End.SERVER, len(data))
        assert stuck
        assert heard == (b"" if seen == "nothing" else b"headtail")

    async def test_who_takes_all_is_given_larger_pieces(self, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        """And what comes after them, however little it is, is not waited upon."""
        pieces: Counter[int] = Counter()
        before = Stream.receive_into

        def receive_into(self: Stream, view: memoryview) -> int:
            count = before(self, view)
            pieces[count] += 1
            return count

        monkeypatch.setattr(Stream, "receive_into", receive_into)
        three = await make("plain-plain")
        size = 40 * LARGE_SIZE

        def look(data: bytes) -> None:
            if data == b"head":
                assert three.relay is not None
                three.relay.skip_down(size)

        three.start(downstream=look)
        await three.server.write(b"head")
        assert await read_exactly(three.client, 4) == b"head"
        reading = asyncio.create_task(read_exactly(three.client, size))
        await three.server.write(bytes(size - 1))
        assert three.relay is not None
        while three.relay._down.unseen > 1:
            await asyncio.sleep(0)
        await three.server.write(b"e")
        assert (await reading).endswith(b"\0e")
        await three.server.write(b"tail")
        assert await read_exactly(three.client, 4) == b"tail"
        assert pieces[LARGE_SIZE], pieces


async def test_without_a_handle(make: Make) -> None:
    three = await make()
    task = asyncio.create_task(relay(three.inner_client, three.inner_server, idle=10))
    await three.client.write(b"hello")
    assert await three.server.read() == b"hello"
    await three.client.aclose()
    await three.server.aclose()
    assert (await task).upstream == 5


async def test_five_hundred_idle_sessions(make: Make) -> None:
    many = [await make() for _ in range(500)]
    tasks = [one.start() for one in many]
    await asyncio.sleep(0)
    for one in many:
        await one.client.write(b"still here")
    for one in many:
        assert await one.server.read() == b"still here"
    for one in many:
        await one.client.aclose()
        await one.server.aclose()
    assert {(await task).upstream for task in tasks} == {10}
