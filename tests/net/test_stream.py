"""Streams on loopback: reading, writing, deadlines, ends, plain and TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl

import pytest

from onedomain.model.failure import Failed
from onedomain.net.stream import Stream
from onedomain.net.tls import ClientContexts, ServerContexts
from onedomain.net.wire import Bytes, PlainWire
from tests.lab.tls import Certificate
from tests.net.conftest import both_tls, read_all, read_exactly, stream_pair

Pair = tuple[Stream, Stream]


@pytest.fixture(params=["plain", "tls"])
async def two(
    request: pytest.FixtureRequest,
    pair: Pair,
    client_tls: ClientContexts,
    server_tls: ServerContexts,
    certificate: Certificate,
) -> Pair:
    if request.param == "tls":
        await both_tls(*pair, client_tls, server_tls, str(certificate.ca))
    return pair


async def test_words_go_both_ways(two: Pair) -> None:
    near, far = two
    await near.write(b"EHLO a\r\n")
    assert await far.read() == b"EHLO a\r\n"
    far.write_nowait(b"250 b\r\n")
    assert await near.read() == b"250 b\r\n"


async def test_bytes_come_one_by_one(two: Pair) -> None:
    near, far = two
    for byte in b"a NOOP\r\n":
        await near.write(bytes([byte]))
        assert await far.read() == bytes([byte])


async def test_a_small_limit_leaves_the_rest(two: Pair) -> None:
    near, far = two
    await near.write(b"0123456789")
    assert await far.read(4) == b"0123"
    assert await far.read(4) == b"4567"
    assert await far.read(4) == b"89"


async def test_unread_comes_first(two: Pair) -> None:
    near, far = two
    await near.write(b"new")
    far.unread(b"old")
    far.unread(b"very ")
    assert await far.read() == b"very old"
    assert await far.read() == b"new"


async def test_many_megabytes_to_a_slow_reader(two: Pair) -> None:
    near, far = two
    data = bytes(range(256)) * (16 << 12)
    writing = asyncio.create_task(near.write(data))
    received = bytearray()
    while len(received) < len(data):
        assert near.pending <= 65536
        received += await far.read(30_000)
        await asyncio.sleep(0)
    await writing
    assert received == data


async def test_both_write_more_than_the_kernel_holds(two: Pair) -> None:
    near, far = two
    data = b"x" * 8_000_000
    results = await asyncio.gather(
        near.write(data), far.write(data), read_exactly(near, len(data)), read_exactly(far, len(data))
    )
    assert results[2] == results[3] == data


async def test_write_nowait_keeps_what_the_kernel_did_not_take(two: Pair) -> None:
    near, far = two
    sent = 0
    while not near.pending:
        near.write_nowait(b"y" * 50_000)
        sent += 50_000
    near.write_nowait(b"end")
    assert await read_exactly(far, sent + 3) == b"y" * sent + b"end"
    assert near.pending == 0


async def test_write_nowait_has_a_bound(two: Pair) -> None:
    near, _ = two
    with pytest.raises(ConnectionError, match="does not read"):
        for _turn in range(1000):
            near.write_nowait(b"y" * 50_000)
    assert near.closed


async def test_the_end_is_empty_and_stays(two: Pair) -> None:
    near, far = two
    await near.write(b"QUIT\r\n")
    await near.aclose()
    assert await far.read() == b"QUIT\r\n"
    assert await far.read() == b""
    assert await far.read() == b""
    assert far.at_end


async def test_a_fin_without_close_notify_is_an_end(two: Pair) -> None:
    near, far = two
    await near.write(b"last")
    near.wire.half_close()
    assert await read_all(far) == b"last"
    await far.write(b"still heard")
    assert await near.read() == b"still heard"


async def test_a_reset_ends_reading_and_fails_writing(two: Pair) -> None:
    near, far = two
    near.wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    reading = asyncio.create_task(far.read())
    await asyncio.sleep(0)
    near.close()
    if far.tls is None:
        with pytest.raises(ConnectionError):
            await reading
    else:  # OpenSSL, told to take a bare FIN for the end, takes a reset for it too
        assert await reading == b""
    with pytest.raises(ConnectionError):
        for _ in range(2):
            await far.write(b"x")


async def test_after_a_failed_write_the_last_words_are_read(two: Pair) -> None:
    near, far = two
    await far.write(b"* BYE shutting down\r\n")
    far.wire.half_close()
    far.close()
    with pytest.raises(ConnectionError):
        for _ in range(2):  # the first is answered with a reset
            await near.write(b"a NOOP\r\n")
    assert await read_all(near) == b"* BYE shutting down\r\n"


async def test_last_words_reach_a_peer_that_is_still_talking(two: Pair) -> None:
    """Closing with unread input would send a reset, and cost the peer our last words."""
    near, far = two
    await near.write(b"a" * 10_000)
    await far.read(100)
    await far.write(b"421 bye\r\n")
    await far.aclose()
    await near.write(b"b" * 10_000)
    assert await read_all(near) == b"421 bye\r\n"


async def test_past_the_deadline_is_a_timeout(two: Pair) -> None:
    near, far = two
    loop = asyncio.get_running_loop()
    near.deadline = loop.time() + 0.1
    with pytest.raises(TimeoutError):
        await near.read()
    with pytest.raises(TimeoutError):
        await near.read()
    near.deadline = None
    await far.write(b"late")
    assert await near.read() == b"late"


async def test_a_writer_has_a_deadline_too(two: Pair) -> None:
    near, _ = two
    near.deadline = asyncio.get_running_loop().time() + 0.1
    with pytest.raises(TimeoutError):
        await near.write(b"z" * 50_000_000)


async def test_a_cancelled_goodbye_closes(two: Pair) -> None:
    near, _ = two
    while not near.pending:
        near.write_nowait(b"y" * 50_000)
    closing = asyncio.create_task(near.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert near.closed


async def test_a_goodbye_to_one_who_does_not_read_is_bounded(two: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onedomain.net.stream.CLOSE_SECONDS", 0.1)
    near, _ = two
    while not near.pending:
        near.write_nowait(b"y" * 50_000)
    await near.aclose()
    assert near.closed


async def test_close_wakes_reader_and_writer(two: Pair) -> None:
    near, _ = two
    reading = asyncio.create_task(near.read())
    writing = asyncio.create_task(near.write(b"z" * 50_000_000))
    while not near.pending:
        await asyncio.sleep(0)
    near.close()
    for task in (reading, writing):
        with pytest.raises(ConnectionAbortedError):
            await task
    with pytest.raises(ConnectionError):
        await near.read()
    with pytest.raises(ConnectionError):
        near.write_nowait(b"x")


async def test_a_cancelled_read_loses_nothing(two: Pair) -> None:
    near, far = two
    reading = asyncio.create_task(near.read())
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await far.write(b"kept")
    assert await near.read() == b"kept"


async def test_a_peer_that_talks_to_nobody_does_not_spin(two: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Level-triggered events nobody waits for have to be given back, hang-ups too."""
    near, far = two
    reading = asyncio.create_task(near.read())
    await asyncio.sleep(0)
    await far.write(b"one")
    assert await reading == b"one"
    await far.write(b"two")
    await far.aclose()
    events = 0
    count = near._event

    def counted(mask: int) -> None:
        nonlocal events
        events += 1
        count(mask)

    near.take_over(counted)
    await asyncio.sleep(0.1)
    assert events <= 2
    assert await read_all(near) == b"two"


async def test_one_busy_session_lets_others_speak(two: Pair) -> None:
    near, far = two
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    await near.write(b"n" * 64)
    task = asyncio.create_task(other())
    await far.read(1)
    before = turns
    for _ in range(63):
        await far.read(1)
    assert turns > before
    task.cancel()


async def test_a_writer_nobody_slows_down_lets_others_speak(pair: Pair) -> None:
    class Taker(PlainWire):
        def send(self, data: Bytes) -> int:
            return len(data)

    near, _ = pair
    near.wire = Taker(near.wire.sock)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(other())
    await near.write(bytes(64 << 20))
    assert turns > 10
    task.cancel()


class TestStartTls:
    async def test_tls_is_told(
        self, pair: Pair, client_tls: ClientContexts, server_tls: ServerContexts, certificate: Certificate
    ) -> None:
        near, far = pair
        await near.write(b"STARTTLS\r\n")
        assert await far.read() == b"STARTTLS\r\n"
        far.write_nowait(b"220 go\r\n")
        assert await near.read() == b"220 go\r\n"
        await both_tls(near, far, client_tls, server_tls, str(certificate.ca))
        assert far.tls is not None and near.tls is not None
        assert (far.tls.version, far.tls.sni, far.tls.resumed) == ("TLSv1.3", "mail.example", False)
        assert near.tls.cipher == far.tls.cipher

    async def test_plaintext_put_back_is_refused(self, pair: Pair, server_tls: ServerContexts) -> None:
        near, far = pair
        await near.write(b"STARTTLS\r\nMAIL FROM:<evil@example>\r\n")
        data = await far.read()
        far.unread(data[10:])
        with pytest.raises(Failed, match="before the handshake"):
            await far.start_tls(server_tls.context, server_side=True)

    async def test_plaintext_in_the_kernel_is_no_command(self, pair: Pair, server_tls: ServerContexts) -> None:
        near, far = pair
        await near.write(b"STARTTLS\r\nMAIL FROM:<evil@example>\r\n")
        assert await far.read(10) == b"STARTTLS\r\n"
        with pytest.raises(ssl.SSLError):
            await far.start_tls(server_tls.context, server_side=True)
        far.close()

    async def test_a_silent_peer_runs_out_of_time(self, pair: Pair, server_tls: ServerContexts) -> None:
        _, far = pair
        with pytest.raises(TimeoutError):
            await far.start_tls(server_tls.context, server_side=True, seconds=0.1)

    async def test_a_peer_that_leaves_is_a_connection_error(self, pair: Pair, server_tls: ServerContexts) -> None:
        near, far = pair
        await near.aclose()
        with pytest.raises(ConnectionError):
            await far.start_tls(server_tls.context, server_side=True)

    async def test_a_peer_that_was_reset_before(self, pair: Pair, server_tls: ServerContexts) -> None:
        near, far = pair
        near.wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        near.close()
        with pytest.raises(ConnectionError):
            await far.start_tls(server_tls.context, server_side=True)

    async def test_a_name_that_is_none_closes(self, pair: Pair, client_tls: ClientContexts) -> None:
        near, far = pair
        with pytest.raises(ssl.SSLError):
            await near.start_tls(client_tls.get(), server_side=False, server_hostname="")
        assert near.closed
        assert await far.read() == b""

    async def test_twice_is_refused(self, two: Pair, server_tls: ServerContexts) -> None:
        _, far = two
        if far.tls is not None:
            with pytest.raises(Failed, match="already"):
                await far.start_tls(server_tls.context, server_side=True)

    async def test_old_versions_are_refused(self, pair: Pair, server_tls: ServerContexts) -> None:
        near, far = pair
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname = False
        old.verify_mode = ssl.CERT_NONE
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning):
            old.minimum_version = ssl.TLSVersion.TLSv1
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        results = await asyncio.gather(
            near.start_tls(old, server_side=False), far.start_tls(server_tls.context, server_side=True),
            return_exceptions=True,
        )  # fmt: skip
        assert all(isinstance(result, ssl.SSLError) for result in results)


async def test_ipv6(client_tls: ClientContexts) -> None:
    with socket.socket(socket.AF_INET6) as door:
        try:
            door.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 here")
        door.listen()
        near = socket.create_connection(door.getsockname()[:2])
        far, _ = door.accept()
    stream, other = Stream(near), Stream(far)
    assert stream.peer[0] == "::1" == stream.local[0]
    assert other.peer == stream.local
    stream.close()
    other.close()


async def test_a_closed_number_is_not_mixed_up_with_its_successor() -> None:
    for _ in range(50):
        near, far = stream_pair()
        reading = asyncio.create_task(near.read())
        await asyncio.sleep(0)
        await far.write(b"x")
        near.close()
        far.close()
        again, other = stream_pair()
        await other.write(b"mine")
        assert await again.read() == b"mine"
        with pytest.raises(ConnectionAbortedError):
            await reading
        again.close()
        other.close()


async def test_who_leaves_is_not_the_first_to_end(two: Pair) -> None:
    """The peer's words after that are thrown away; when it ends, all is closed."""
    near, far = two
    near.write_nowait(b"z LOGOUT\r\n")
    sock = near.wire.sock
    near.leave()
    assert near.closed and await far.read() == b"z LOGOUT\r\n"
    if far.tls is None:
        with pytest.raises(TimeoutError):
            far.deadline = far.poller.loop.time() + 0.1
            await far.read()
        far.deadline = None
    await far.write(b"* BYE\r\n")
    assert sock.fileno() >= 0
    await far.aclose()
    while sock.fileno() >= 0:
        await asyncio.sleep(0.005)
