"""Dialling: who answers, who refuses, who is silent, and whose certificate is wrong."""

from __future__ import annotations

import asyncio
import datetime
import socket
from typing import Any

import pytest

from onedomain.model.failure import Kind
from onedomain.model.health import Seen
from onedomain.model.server import Endpoint, TlsMode
from onedomain.net import dial as dialling
from onedomain.net.dial import DialFailed, begin_dial, dial, secure
from onedomain.net.names import KNOWN_SECONDS, Names, Place
from onedomain.net.poller import Poller
from onedomain.net.stream import Stream
from onedomain.net.tls import CertificateFiles, ClientContexts, ServerContexts
from onedomain.protocol.proxy import ProxyHeader, ProxyParser
from tests.lab.ports import free_port
from tests.lab.tls import Authority, Certificate
from tests.net.conftest import endpoint, listening, read_exactly


class Told(Names):
    """Every name leads to these places."""

    def __init__(self, *places: Place) -> None:
        super().__init__()
        self.places = list(places)

    async def look_up(self, host: str, port: int) -> list[Place]:
        return self.places


async def greet(stream: Stream) -> None:
    await stream.write(b"* OK ready\r\n")
    await stream.read()


async def test_an_address(client_tls: ClientContexts) -> None:
    async with listening(greet) as listener:
        stream = await dial(endpoint(listener), timeout=5, contexts=client_tls)
        assert await stream.read() == b"* OK ready\r\n"
        assert stream.peer == listener.address
        assert stream.deadline is None
        assert stream.wire.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        stream.close()


async def test_a_name_and_quick_acknowledgements(client_tls: ClientContexts) -> None:
    async with listening(greet) as listener:
        far = Endpoint("localhost", listener.address[1])
        stream = await dial(far, timeout=5, contexts=client_tls, quick_ack=True)
        assert await stream.read() == b"* OK ready\r\n"
        stream.close()


async def test_what_can_begin_without_a_wait(client_tls: ClientContexts) -> None:
    """An address; a name that somebody has just answered to. Not TLS, and no PROXY header."""
    poller, heard = Poller.running(), asyncio.Event()

    def begin(host: str, **options: Any) -> Stream | None:
        far = Endpoint(host, listener.address[1], **options)
        return begin_dial(far, client_tls.names, poller, lambda mask: heard.set())

    async with listening(greet) as listener:
        assert begin("localhost") is None
        (await dial(Endpoint("localhost", listener.address[1]), timeout=5, contexts=client_tls)).close()
        for host in ("localhost", "127.0.0.1"):
            heard.clear()
            stream = begin(host)
            assert stream is not None and stream.peer[1] == listener.address[1]
            await asyncio.wait_for(heard.wait(), 5)
            stream.give_back()
            assert await stream.read() == b"* OK ready\r\n"
            stream.close()
        assert begin("127.0.0.1", tls=TlsMode.IMPLICIT) is None
        assert begin("127.0.0.1", proxy_protocol=True) is None
        poller.now += KNOWN_SECONDS + 1
        assert begin("localhost") is None


async def test_nobody_there(client_tls: ClientContexts) -> None:
    with pytest.raises(DialFailed) as caught:
        await dial(Endpoint("127.0.0.1", free_port()), timeout=5, contexts=client_tls)
    assert caught.value.seen is Seen.REFUSED
    assert (caught.value.failure.kind, caught.value.failure.code, caught.value.failure.enhanced) == (
        Kind.AGAIN, 451, "4.4.1",
    )  # fmt: skip
    assert "connection refused" in caught.value.failure.reason


async def test_an_address_that_never_answers(client_tls: ClientContexts) -> None:
    # A full accept queue: the kernel drops further SYNs.
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(door.getsockname())
        host, port = door.getsockname()
        with pytest.raises(DialFailed) as caught:
            await dial(Endpoint(host, port), timeout=0.3, contexts=client_tls)
        for filler in fillers:
            filler.close()
    assert caught.value.seen is Seen.SILENT
    assert "timed out" in caught.value.failure.reason


async def test_a_dead_address_leaves_time_for_the_next(
    client_tls: ClientContexts
) -> None:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(door.getsockname())
        async with listening(greet) as listener:

            client_tls.names = Told((socket.AF_INET, door.getsockname()), (socket.AF_INET, listener.address))
            stream = await dial(Endpoint("mail.example", 25), timeout=1, contexts=client_tls)
            assert stream.peer == listener.address
            stream.close()
        for filler in fillers:
            filler.close()


async def test_the_next_address_is_tried(client_tls: ClientContexts) -> None:
    async with listening(greet) as listener:
        port = listener.address[1]

        client_tls.names = Told(
            (socket.AF_INET, ("127.0.0.9", free_port())),
            (socket.AF_INET, ("127.0.0.1", port)),
            (socket.AF_INET6, ("::1", free_port(), 0, 0)),
        )
        places = await dialling._resolve(Endpoint("mail.example", port), 1e12, client_tls.names)
        assert [place[0] for place in places] == [socket.AF_INET, socket.AF_INET6, socket.AF_INET]
        stream = await dial(Endpoint("mail.example", port), timeout=5, contexts=client_tls)
        assert stream.peer == ("127.0.0.1", port)
        stream.close()


async def test_a_name_nobody_has(client_tls: ClientContexts) -> None:
    for name in ("nobody.invalid", "a" * 70 + ".example"):
        with pytest.raises(DialFailed, match="can't be reached") as caught:
            await dial(Endpoint(name, 25), timeout=5, contexts=client_tls)
        assert name in caught.value.failure.reason


async def test_implicit_tls(client_tls: ClientContexts, server_tls: ServerContexts, certificate: Certificate) -> None:
    async with listening(greet, tls=server_tls.context) as listener:
        stream = await dial(endpoint(listener, certificate), timeout=5, contexts=client_tls)
        assert stream.tls is not None and stream.tls.version == "TLSv1.3"
        assert await stream.read() == b"* OK ready\r\n"
        await stream.aclose()


async def test_the_second_session_is_resumed(
    client_tls: ClientContexts, server_tls: ServerContexts, certificate: Certificate
) -> None:
    resumed = []

    async def tell(stream: Stream) -> None:
        assert stream.tls is not None
        resumed.append(stream.tls.resumed)
        await greet(stream)

    async with listening(tell, tls=server_tls.context) as listener:
        for _ in range(3):
            stream = await dial(endpoint(listener, certificate), timeout=5, contexts=client_tls)
            await stream.read()
            await stream.aclose()
    assert resumed == [False, True, True]


@pytest.mark.parametrize("case", ["other name", "other authority", "expired"])
async def test_a_certificate_that_does_not_fit(
    case: str, client_tls: ClientContexts, authority: Authority, certificate: Certificate
) -> None:
    shown = certificate
    options: dict[str, object] = {}
    if case == "expired":
        shown = authority.issue("mail.example", lifetime=-datetime.timedelta(days=1), file="expired")
    elif case == "other name":
        options["tls_name"] = "other.example"
    else:
        options["ca_file"] = ""
    contexts = ServerContexts([CertificateFiles(str(shown.cert), str(shown.key))])
    async with listening(greet, tls=contexts.context) as listener:
        with pytest.raises(DialFailed) as caught:
            await dial(endpoint(listener, certificate, **options), timeout=5, contexts=client_tls)
    assert caught.value.seen is Seen.BROKEN
    assert caught.value.failure.enhanced == "4.7.5"
    assert "certificate not accepted" in caught.value.failure.reason


async def test_tls_with_a_server_that_speaks_none(client_tls: ClientContexts, certificate: Certificate) -> None:
    async with listening(greet) as listener:
        with pytest.raises(DialFailed) as caught:
            await dial(endpoint(listener, certificate), timeout=5, contexts=client_tls)
    assert caught.value.seen is Seen.BROKEN


async def test_tls_with_a_server_that_says_nothing(client_tls: ClientContexts, certificate: Certificate) -> None:
    async def wait(stream: Stream) -> None:
        while await stream.read():
            pass

    async with listening(wait) as listener:
        with pytest.raises(DialFailed) as caught:
            await dial(endpoint(listener, certificate), timeout=0.2, contexts=client_tls)
    assert caught.value.seen is Seen.SILENT


async def test_a_ca_file_that_is_not_there(
    client_tls: ClientContexts, server_tls: ServerContexts, certificate: Certificate
) -> None:
    async with listening(greet, tls=server_tls.context) as listener:
        with pytest.raises(DialFailed) as caught:
            far = endpoint(listener, certificate, ca_file="/nowhere/ca.pem")
            await dial(far, timeout=5, contexts=client_tls)
    assert "/nowhere/ca.pem" in caught.value.failure.reason


@pytest.mark.parametrize("mode", [TlsMode.STARTTLS, TlsMode.OPPORTUNISTIC])
async def test_starttls_is_said_by_the_protocol(
    mode: TlsMode, client_tls: ClientContexts, server_tls: ServerContexts, certificate: Certificate
) -> None:
    async def serve(stream: Stream) -> None:
        assert await stream.read() == b"STARTTLS\r\n"
        await stream.write(b"220 go\r\n")
        await stream.start_tls(server_tls.context, server_side=True)
        await greet(stream)

    async with listening(serve) as listener:
        far = endpoint(listener, certificate, tls=mode, ca_file=str(certificate.ca))
        stream = await dial(far, timeout=5, contexts=client_tls)
        assert stream.tls is None
        await stream.write(b"STARTTLS\r\n")
        assert await stream.read() == b"220 go\r\n"
        await secure(stream, far, client_tls)
        assert await stream.read() == b"* OK ready\r\n"
        await stream.aclose()


async def test_opportunistic_takes_any_certificate(
    client_tls: ClientContexts, server_tls: ServerContexts
) -> None:
    async with listening(greet, tls=server_tls.context) as listener:
        far = endpoint(listener, tls=TlsMode.OPPORTUNISTIC)
        stream = await dial(far, timeout=5, contexts=client_tls)
        await secure(stream, far, client_tls)
        assert await stream.read() == b"* OK ready\r\n"
        await stream.aclose()


@pytest.mark.parametrize("client", [("192.0.2.1", 40000), None])
@pytest.mark.parametrize("encrypted", [False, True])
async def test_the_proxy_header_goes_first(
    client: tuple[str, int] | None, encrypted: bool, client_tls: ClientContexts, server_tls: ServerContexts,
    certificate: Certificate,
) -> None:  # fmt: skip
    async def serve(stream: Stream) -> None:
        parser = ProxyParser()
        while parser.wanted:
            parser.receive(await read_exactly(stream, parser.wanted))
        assert parser.header == ProxyHeader(2, client, stream.local if client else None)
        if encrypted:
            await stream.start_tls(server_tls.context, server_side=True)
        await greet(stream)

    async with listening(serve) as listener:
        far = endpoint(listener, certificate if encrypted else None, proxy_protocol=True)
        stream = await dial(far, timeout=5, contexts=client_tls, client=client)
        assert await stream.read() == b"* OK ready\r\n"
        await stream.aclose()


async def test_a_cancelled_dial_leaves_nothing(client_tls: ClientContexts, certificate: Certificate) -> None:
    async def wait(stream: Stream) -> None:
        await stream.read()
        await stream.read()

    async with listening(wait) as listener:
        task = asyncio.create_task(dial(endpoint(listener, certificate), timeout=5, contexts=client_tls))
        while not listener.sessions:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
