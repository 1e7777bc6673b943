"""What the tests of net share: certificates, a pair of connected streams, a listener on a free port, both loops."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from onedomain.model.server import Endpoint, TlsMode
from onedomain.net.listen import Listener, bind
from onedomain.net.poller import Poller
from onedomain.net.stream import Stream
from onedomain.net.tls import CertificateFiles, ClientContexts, ServerContexts
from tests.lab.tls import Authority, Certificate


class Notes:
    """A trace that tests can read."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def note(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))

    def reasons(self, event: str) -> list[str]:
        return [fields["reason"] for name, fields in self.events if name == event]


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def certificate(authority: Authority) -> Certificate:
    return authority.issue("mail.example")


@pytest.fixture
def server_tls(certificate: Certificate) -> ServerContexts:
    return ServerContexts([CertificateFiles(str(certificate.cert), str(certificate.key))])


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def client_tls() -> ClientContexts:
    return ClientContexts()


Handler = Callable[[Stream], Awaitable[None]]


@asynccontextmanager
async def listening(handler: Handler, notes: Notes | None = None, **options: Any) -> AsyncIterator[Listener]:
    listener = Listener(bind("127.0.0.1", 0), handler, trace=notes or Notes(), **options)
    listener.start()
    try:
        yield listener
    finally:
        await listener.drain(0)


def endpoint(listener: Listener, certificate: Certificate | None = None, **options: Any) -> Endpoint:
    if certificate is not None:
        options = {"tls": TlsMode.IMPLICIT, "tls_name": "mail.example", "ca_file": str(certificate.ca), **options}
    return Endpoint(listener.address[0], listener.address[1], **options)


def stream_pair(**options: Any) -> tuple[Stream, Stream]:
    """Two ends of one TCP connection. `receive` and `send` set the kernel's buffers."""
    with socket.socket() as door:
        if size := options.get("receive"):
            door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        door.bind(("127.0.0.1", 0))
        door.listen()
        near = socket.socket()
        if size := options.get("send"):
            near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
        near.connect(door.getsockname())
        far, _ = door.accept()
    return Stream(near), Stream(far)


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Stream, Stream]]:
    near, far = stream_pair()
    yield near, far
    near.close()
    far.close()


async def both_tls(near: Stream, far: Stream, client_tls: ClientContexts, server_tls: ServerContexts, ca: str) -> None:
    """Handshake on a pair, `near` the client."""
    await asyncio.gather(
        near.start_tls(client_tls.get(ca), server_side=False, server_hostname="mail.example"),
        far.start_tls(server_tls.context, server_side=True),
    )


async def read_exactly(stream: Stream, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        data = await stream.read(min(65536, size - len(parts)))
        assert data, f"ended after {len(parts)} of {size} bytes"
        parts += data
    return bytes(parts)


async def read_all(stream: Stream) -> bytes:
    parts = bytearray()
    while data := await stream.read():
        parts += data
    return bytes(parts)


@pytest.fixture(autouse=True)
async def no_stream_left(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Every test ends with nothing in the poller: what is opened is closed. Deadlines are looked at more often."""
    monkeypatch.setattr("onedomain.net.poller.SWEEP_SECONDS", 0.05)
    monkeypatch.setattr("onedomain.net.linger.LINGER_SECONDS", 0.2)
    yield
    poller = Poller.running()
    for _ in range(100):
        if not poller.open:
            break
        await asyncio.sleep(0.01)
    left = poller.open
    poller.close()
    assert not left, f"{left} descriptors are still watched"

