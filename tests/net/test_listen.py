"""Listeners: limits, PROXY headers, exhaustion, failing handlers, the end."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import ssl
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from onedomain.net.listen import Limits, Listener, address_key, bind, network_key
from onedomain.net.poller import IN, Poller
from onedomain.net.shared import SharedTable
from onedomain.net.stream import Stream
from onedomain.net.tls import ClientContexts, ServerContexts
from onedomain.net.visit import Visit
from onedomain.protocol.proxy import build_v2
from tests.lab.tls import Certificate
from tests.net.conftest import Notes, listening, read_all

T = TypeVar("T")
LOOPBACK = [ipaddress.ip_network("127.0.0.0/8")]
CLIENT, EDGE = ("192.0.2.7", 50000), ("198.51.100.1", 993)
V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 993\r\n"


async def connect(listener: Listener) -> Stream:
    sock = socket.create_connection(listener.address)
    return Stream(sock)


async def greet(stream: Stream) -> None:
    await stream.write(f"* OK {stream.peer[0]} {stream.local[0]}\r\n".encode())
    while data := await stream.read():
        if data == b"QUIT\r\n":
            await stream.write(b"* BYE\r\n")
            return


async def test_a_session_from_hello_to_bye(notes: Notes) -> None:
    async with listening(greet, notes) as listener:
        stream = await connect(listener)
        assert await stream.read() == b"* OK 127.0.0.1 127.0.0.1\r\n"
        assert listener.sessions == 1
        await stream.write(b"QUIT\r\n")
        assert await read_all(stream) == b"* BYE\r\n"
        stream.close()
    assert listener.sessions == 0
    assert notes.events == []


async def test_accepted_sockets_inherit_what_was_set_once() -> None:
    options: list[int] = []

    async def look(stream: Stream) -> None:
        sock = stream.wire.sock
        options.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        options.append(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
        options.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE))

    async with listening(look) as listener:
        stream = await connect(listener)
        assert await stream.read() == b""
        stream.close()
    assert options == [1, 1, 120]


async def test_two_sockets_share_a_port() -> None:
    with bind("127.0.0.1", 0) as first, bind("127.0.0.1", first.getsockname()[1]) as second:
        assert first.getsockname() == second.getsockname()


async def test_one_session_too_many_is_told(notes: Notes) -> None:
    limits = Limits(sessions=2, farewell=b"* BYE too many\r\n")
    async with listening(greet, notes, limits=limits) as listener:
        good = [await connect(listener) for _ in range(2)]
        for stream in good:
            assert (await stream.read()).startswith(b"* OK")
        third = await connect(listener)
        assert await read_all(third) == b"* BYE too many\r\n"
        await good[0].aclose()
        while listener.sessions == 2:
            await asyncio.sleep(0.01)
        fourth = await connect(listener)
        assert (await fourth.read()).startswith(b"* OK")
        for stream in (*good, third, fourth):
            stream.close()
    assert notes.reasons("connection refused") == ["too many sessions"]


async def test_one_address_has_its_share_over_all_workers(notes: Notes) -> None:
    counts = SharedTable(1024, 2)
    counts.start(1)
    counts.add("127.0.0.1", 1)  # the other worker has one already
    counts.start(0)
    limits = Limits(per_address=3, farewell=b"421 too many\r\n")
    async with listening(greet, notes, limits=limits, counts=counts) as listener:
        good = [await connect(listener) for _ in range(2)]
        for stream in good:
            assert (await stream.read()).startswith(b"* OK")
        third = await connect(listener)
        assert await read_all(third) == b"421 too many\r\n"
        assert counts.total("127.0.0.1") == 3
        for stream in (*good, third):
            stream.close()
    assert counts.total("127.0.0.1") == 1
    assert notes.reasons("connection refused") == ["too many connections from this address"]


def test_what_counts_as_one_address() -> None:
    assert address_key("192.0.2.7") == address_key("::ffff:192.0.2.7") == "192.0.2.7"
    assert address_key("2001:db8:1:2:3:4:5:6") == address_key("2001:db8:1:2::1") == "2001:db8:1:2::"
    assert address_key("fe80::1%eth0") == "fe80::"
    assert address_key("/run/socket") == "/run/socket"
    assert network_key("2001:db8:1:2:3:4:5:6") == network_key("2001:db8:1:ffff::1%eth0") == "2001:db8:1::/48"
    assert network_key("192.0.2.7") == network_key("::ffff:192.0.2.7") == network_key("/run/socket") == ""


@pytest.mark.parametrize("header", [V1, build_v2(CLIENT, EDGE)])
async def test_a_trusted_peer_tells_who_the_client_is(header: bytes) -> None:
    async with listening(greet, proxy_from=LOOPBACK) as listener:
        stream = await connect(listener)
        await stream.write(header + b"QUIT\r\n")
        assert await read_all(stream) == b"* OK 192.0.2.7 198.51.100.1\r\n* BYE\r\n"
        stream.close()


async def test_a_proxy_header_byte_by_byte() -> None:
    async with listening(greet, proxy_from=LOOPBACK) as listener:
        stream = await connect(listener)
        for byte in V1:
            await stream.write(bytes([byte]))
            await asyncio.sleep(0)
        assert await stream.read() == b"* OK 192.0.2.7 198.51.100.1\r\n"
        stream.close()


async def test_a_health_check_of_the_proxy_has_its_own_address() -> None:
    async with listening(greet, proxy_from=LOOPBACK) as listener:
        stream = await connect(listener)
        await stream.write(build_v2(None, None))
        assert await stream.read() == b"* OK 127.0.0.1 127.0.0.1\r\n"
        stream.close()


async def test_tls_behind_a_proxy_header_in_one_packet(
    server_tls: ServerContexts, client_tls: ClientContexts, certificate: Certificate
) -> None:
    """Not one byte of the handshake may be read with the header."""
    async with listening(greet, proxy_from=LOOPBACK, tls=server_tls.context) as listener:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = client_tls.get(str(certificate.ca)).wrap_bio(incoming, outgoing, server_hostname="mail.example")
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        stream = await connect(listener)
        await stream.write(build_v2(CLIENT, EDGE) + outgoing.read())
        while True:
            incoming.write(await stream.read())
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                continue
        await stream.write(outgoing.read())
        text = b""
        while not text:
            try:
                text = tls.read(100)
            except ssl.SSLWantReadError:
                incoming.write(await stream.read())
        assert text == b"* OK 192.0.2.7 198.51.100.1\r\n"
        stream.close()


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"EHLO liar\r\n" * 2, "no PROXY header"),
        (b"PROXY TCP4 1.2.3.4\r\n", "PROXY line is not"),
        (b"", "closed before the PROXY header"),
        (None, "no PROXY header in time"),
    ],
)
async def test_a_trusted_peer_without_a_header_is_not_believed(
    sent: bytes | None, reason: str, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onedomain.net.listen.PROXY_SECONDS", 0.2)
    async with listening(greet, notes, proxy_from=LOOPBACK) as listener:
        stream = await connect(listener)
        if sent is not None:
            await stream.write(sent)
            stream.wire.half_close()
        assert await read_all(stream) == b""
        stream.close()
    assert notes.reasons("connection refused")[0].startswith(reason)


async def test_anybody_else_s_header_is_just_bytes() -> None:
    async def echo(stream: Stream) -> None:
        await stream.write(stream.peer[0].encode() + b" " + await stream.read())

    async with listening(echo, proxy_from=[ipaddress.ip_network("10.0.0.0/8")]) as listener:
        stream = await connect(listener)
        await stream.write(V1)
        assert await read_all(stream) == b"127.0.0.1 " + V1
        stream.close()


async def test_a_failing_handler_is_told_and_hurts_nobody(notes: Notes) -> None:
    async def fail(stream: Stream) -> None:
        if await stream.read() == b"fail\r\n":
            raise ZeroDivisionError("bug")
        await greet(stream)

    loud: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: loud.append(context))
    async with listening(fail, notes) as listener:
        other, bad = await connect(listener), await connect(listener)
        await bad.write(b"fail\r\n")
        assert await read_all(bad) == b""
        await other.write(b"go\r\n")
        assert (await other.read()).startswith(b"* OK")
        other.close()
        bad.close()
    assert notes.reasons("session failed") == ["ZeroDivisionError: bug"]
    assert isinstance(loud[0]["exception"], ZeroDivisionError)


async def test_a_lost_connection_is_a_note_and_no_alarm(notes: Notes, server_tls: ServerContexts) -> None:
    async with listening(greet, notes, tls=server_tls.context) as listener:
        stream = await connect(listener)
        await stream.write(b"EHLO plain\r\n")
        await read_all(stream)
        stream.close()
    assert len(notes.reasons("connection lost")) == 1


class Exhausted:
    """A listening socket whose accept fails for a while, as it does when the process has no descriptor left."""

    def __init__(self, sock: socket.socket, times: int, code: int) -> None:
        self._sock, self._times, self._code = sock, times, code

    def accept(self) -> Any:
        if self._times:
            self._times -= 1
            raise OSError(self._code, "too many open files")
        return self._sock.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


async def test_out_of_descriptors_accepting_pauses(notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onedomain.net.listen.PAUSE_SECONDS", 0.1)
    listener = Listener(Exhausted(bind("127.0.0.1", 0), 2, errno.EMFILE), greet, trace=notes)  # type: ignore[arg-type]
    listener.start()
    started = asyncio.get_running_loop().time()
    stream = await connect(listener)
    assert (await stream.read()).startswith(b"* OK")
    assert asyncio.get_running_loop().time() - started > 0.15
    assert len(notes.reasons("accept paused")) == 2
    stream.close()
    await listener.drain(1)


async def test_a_connection_that_is_gone_before_it_is_accepted(notes: Notes) -> None:
    listener = Listener(Exhausted(bind("127.0.0.1", 0), 1, errno.ECONNABORTED), greet, trace=notes)  # type: ignore[arg-type]
    listener.start()
    stream = await connect(listener)
    assert (await stream.read()).startswith(b"* OK")
    assert notes.events == []
    stream.close()
    await listener.drain(1)


async def test_drain_waits_for_sessions_and_takes_no_more() -> None:
    async with listening(greet) as listener:
        stream = await connect(listener)
        await stream.read()
        waiting = await connect(listener)
        listener.stop()
        draining = asyncio.create_task(listener.drain(10))
        await asyncio.sleep(0.05)
        with pytest.raises(ConnectionRefusedError):
            await connect(listener)
        assert (await waiting.read()).startswith(b"* OK"), "who stood in the queue is served"
        for one in (stream, waiting):
            await one.write(b"QUIT\r\n")
            assert await read_all(one) == b"* BYE\r\n"
            one.close()
        assert await draining == 0


async def test_drain_cuts_who_stays() -> None:
    async with listening(greet) as listener:
        streams = [await connect(listener) for _ in range(3)]
        for stream in streams:
            await stream.read()
        assert await listener.drain(0.1) == 3
        for stream in streams:
            assert await read_all(stream) == b""
            stream.close()


async def test_drain_ends_who_rests_at_once_and_others_when_they_come_to_rest() -> None:
    ended: list[bytes] = []

    async def work_and_rest(stream: Stream) -> None:
        """Works from `W` to `R`, and rests otherwise."""
        said = b"?"
        try:
            while said:
                await stream.write(said)
                said = await (stream.read() if said == b"W" else stream.rest())
        except asyncio.CancelledError:
            ended.append(said)
            raise

    async with listening(work_and_rest) as listener:
        resting, working = [await connect(listener) for _ in range(2)]
        for stream in (resting, working):
            assert await stream.read() == b"?"
        await working.write(b"W")
        assert await working.read() == b"W"
        draining = asyncio.create_task(listener.drain(30))
        assert await read_all(resting) == b""
        assert ended == [b"?"] and not draining.done()
        await working.write(b"R")
        assert await read_all(working) == b"R"
        assert await draining == 0 and ended == [b"?", b"R"]
        for stream in (resting, working):
            stream.close()


async def test_a_thousand_connections_at_once() -> None:
    async def one(listener: Listener, number: int) -> bytes:
        sock = socket.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, listener.address)
        stream = Stream(sock, peer=listener.address)
        await stream.read()
        await stream.write(b"QUIT\r\n")
        answer = await read_all(stream)
        stream.close()
        return answer

    async with listening(greet) as listener:
        answers = await asyncio.gather(*(one(listener, number) for number in range(1000)))
    assert set(answers) == {b"* BYE\r\n"}


class Echo(Visit):
    """Says what it hears; `Q` ends it, `T` makes it a task, which says it once more."""

    def begin(self) -> None:
        self.stream.push(b"?")
        self.stream.ask(reading=True)

    def heard(self, mask: int) -> None:
        data = self.stream.receive(10)
        if data is None:  # some of a TLS record
            return
        if not data or data == b"Q":
            self.end(done=data == b"Q")
        elif data == b"T":
            self.go_on(greet(self.stream))
        elif data == b"E":
            self.end(ValueError("as told"))
        else:
            self.stream.push(data)

    def leave(self) -> None:
        self.go_on(greet(self.stream))

    def abort(self) -> None:
        self.end()


async def test_visits_are_sessions_without_a_task(notes: Notes) -> None:
    counts = SharedTable(1024, 1)
    counts.start(0)
    limits = Limits(sessions=3, per_address=2, farewell=b"too many\r\n")
    async with listening(greet, notes, limits=limits, counts=counts, visits=Echo) as listener:
        tasks = len(asyncio.all_tasks())
        one, two = [await connect(listener) for _ in range(2)]
        for stream in (one, two):
            assert await stream.read() == b"?"
            await stream.write(b"x")
            assert await stream.read() == b"x"
        assert (listener.sessions, counts.total("127.0.0.1"), len(asyncio.all_tasks())) == (2, 2, tasks)
        third = await connect(listener)
        assert await read_all(third) == b"too many\r\n"
        await one.write(b"Q")
        assert await read_all(one) == b""
        assert (listener.sessions, counts.total("127.0.0.1")) == (1, 1)
        await two.write(b"T")
        assert (await two.read()).startswith(b"* OK")
        assert (listener.sessions, counts.total("127.0.0.1")) == (1, 1)
        await two.write(b"QUIT\r\n")
        assert await read_all(two) == b"* BYE\r\n"
        while listener.sessions:
            await asyncio.sleep(0.005)
        assert counts.total("127.0.0.1") == 0
        for stream in (one, two, third):
            stream.close()
    assert notes.reasons("connection refused") == ["too many connections from this address"]


@pytest.fixture
def counts() -> SharedTable:
    counts = SharedTable(1024, 1)
    counts.start(0)
    return counts


@pytest.mark.parametrize("size", [1, 100, 10_000])
async def test_a_handshake_takes_no_task(
    server_tls: ServerContexts, client_tls: ClientContexts, counts: SharedTable, size: int
) -> None:
    """In pieces of any size."""
    limits = Limits(per_address=1)
    async with listening(greet, limits=limits, counts=counts, visits=Echo, tls=server_tls.context) as listener:
        tasks = len(asyncio.all_tasks())
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = client_tls.get("", verify=False).wrap_bio(incoming, outgoing, server_hostname="mail.example")
        stream = await connect(listener)

        async def say(what: Callable[[], T]) -> T:
            """And hear what is needed for it."""
            while True:
                try:
                    return what()
                except ssl.SSLWantReadError:
                    said = outgoing.read()
                    for place in range(0, len(said), size):
                        await stream.write(said[place:place + size])
                        await asyncio.sleep(0)
                    incoming.write(await stream.read())

        await say(tls.do_handshake)
        assert await say(lambda: tls.read(10)) == b"?"
        assert (listener.sessions, counts.total("127.0.0.1"), len(asyncio.all_tasks())) == (1, 1, tasks)
        tls.write(b"x")
        assert await say(lambda: tls.read(10)) == b"x"
        stream.close()
        while listener.sessions or counts.total("127.0.0.1"):
            await asyncio.sleep(0.001)


async def test_a_handshake_that_fails_is_told(notes: Notes, server_tls: ServerContexts, counts: SharedTable) -> None:
    limits = Limits(per_address=1)
    async with listening(greet, notes, limits=limits, counts=counts, visits=Echo, tls=server_tls.context) as listener:
        for said in (b"EHLO plain\r\n", b"\x16\x03\x01\x00\x02\x01\x00", b""):
            stream = await connect(listener)
            await stream.write(said)
            stream.wire.half_close()
            await read_all(stream)
            stream.close()
            while listener.sessions or counts.total("127.0.0.1"):
                await asyncio.sleep(0.001)
    assert len(notes.reasons("connection lost")) == 3


async def test_a_handshake_without_end_is_ended(
    notes: Notes, server_tls: ServerContexts, client_tls: ClientContexts, counts: SharedTable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("onedomain.net.handshake.HANDSHAKE_SECONDS", 0.2)
    limits = Limits(per_address=2)
    async with listening(greet, notes, limits=limits, counts=counts, visits=Echo, tls=server_tls.context) as listener:
        good = await connect(listener)
        await good.start_tls(client_tls.get("", verify=False), server_side=False, server_hostname="mail.example")
        assert await good.read() == b"?"
        stream = await connect(listener)
        await stream.write(b"\x16\x03\x01")
        assert await read_all(stream) == b""
        stream.close()
        assert (listener.sessions, counts.total("127.0.0.1")) == (1, 1)
        await good.write(b"x")
        assert await good.read() == b"x"
        good.close()
    assert notes.reasons("connection lost") == ["the peer took too long"]


async def test_a_handshake_is_not_waited_for_at_the_end(server_tls: ServerContexts) -> None:
    async with listening(greet, visits=Echo, tls=server_tls.context) as listener:
        stream = await connect(listener)
        while not listener.sessions:
            await asyncio.sleep(0.001)
        assert await listener.drain(0.05) == 1
        assert await read_all(stream) == b""
        stream.close()


async def test_a_visit_that_fails_is_told(notes: Notes) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    async with listening(greet, notes, visits=Echo) as listener:
        stream = await connect(listener)
        assert await stream.read() == b"?"
        await stream.write(b"E")
        assert await read_all(stream) == b""
        stream.close()
    assert notes.reasons("session failed") == ["ValueError: as told"]


class Ends(Visit):
    """With words that the kernel has not taken."""

    heards = 0

    def begin(self) -> None:
        self.stream.keep(b"last words", 0)
        self.end(done=True)
        Poller.running()._callbacks[self.stream.fd](IN)  # an event of the same batch

    def heard(self, mask: int) -> None:
        Ends.heards += 1


async def test_a_visit_that_has_ended_hears_nothing_more(notes: Notes) -> None:
    async with listening(greet, notes, visits=Ends) as listener:
        stream = await connect(listener)
        assert await read_all(stream) == b"last words"
        stream.close()
    assert not Ends.heards


class Defect(Echo):
    """What it is told to fail at, it fails at."""

    def leave(self) -> None:
        if failing == "leave":
            raise ValueError("leave")
        if failing != "abort":
            super().leave()

    def abort(self) -> None:
        raise ValueError("abort")


failing = ""


@pytest.mark.parametrize("at", ["leave", "abort"])
async def test_a_visit_that_can_not_leave_keeps_nobody(at: str, notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor the spool from being closed, which comes after."""
    monkeypatch.setattr(sys.modules[__name__], "failing", at)
    async with listening(greet, notes, visits=Defect) as listener:
        streams = [await connect(listener) for _ in range(2)]
        for stream in streams:
            assert await stream.read() == b"?"
        async with asyncio.timeout(10):
            assert await listener.drain(0.1 if at == "abort" else 30) == (2 if at == "abort" else 0)
            for stream in streams:
                assert await read_all(stream) == b""
                stream.close()
        assert listener.sessions == 0
    assert notes.reasons("session failed") == [f"ValueError: {at}"] * 2


async def test_visits_leave_when_the_listener_stops(server_tls: ServerContexts, client_tls: ClientContexts) -> None:
    """By way of a task; over TLS and behind a PROXY header, too, where a task came before."""
    async with listening(greet, visits=Echo) as listener:
        stream = await connect(listener)
        assert await stream.read() == b"?"
        draining = asyncio.create_task(listener.drain(10))
        assert (await stream.read()).startswith(b"* OK")
        await stream.write(b"QUIT\r\n")
        assert await read_all(stream) == b"* BYE\r\n"
        assert await draining == 0
        stream.close()
    async with listening(greet, visits=Echo, proxy_from=LOOPBACK, tls=server_tls.context) as listener:
        stream = await connect(listener)
        await stream.write(build_v2(CLIENT, EDGE))
        context = client_tls.get("", verify=False)
        await stream.start_tls(context, server_side=False, server_hostname="mail.example")
        assert await stream.read() == b"?"
        await stream.write(b"x")
        assert await stream.read() == b"x" and listener.sessions == 1
        await stream.write(b"T")
        assert (await stream.read()).startswith(b"* OK 192.0.2.7 ")
        stream.close()
