"""What the relay costs: CPU per session, command and gigabyte, memory per idle session, of the relaying process alone.

    python bench/net_pump.py [--loop asyncio] [--sessions 2000]

Three processes: clients | relay | a stub of an IMAP server. TLS is on the client's side, as at an edge. Figures are
CPU-seconds, which a busy machine disturbs least; the best of three runs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import resource
import socket
import ssl
import sys
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.lab.tls import Authority

from onedomain.model.server import Endpoint
from onedomain.net.dial import dial
from onedomain.net.listen import Listener, bind
from onedomain.net.pump import relay
from onedomain.net.stream import Stream
from onedomain.net.tls import CertificateFiles, ClientContexts, ServerContexts

BULK = 100 << 20
NOOPS = 2000
CHUNK = bytes(65536)
STATM = Path("/proc/self/statm")


class Silent:
    def note(self, event: str, **fields: Any) -> None:
        if "reason" in fields:
            print(event, fields, file=sys.stderr)


async def stub(stream: Stream) -> None:
    """Enough of IMAP: LOGIN, NOOP, FETCH (a large body), LOGOUT."""
    await stream.write(b"* OK stub\r\n")
    while data := await stream.read():
        tag, _, command = data.partition(b" ")
        if command.startswith(b"FETCH"):
            for _ in range(BULK // len(CHUNK)):
                await stream.write(CHUNK)
        elif command.startswith(b"LOGOUT"):
            await stream.write(b"* BYE\r\n" + tag + b" OK\r\n")
            return
        await stream.write(tag + b" OK\r\n")


def edge(server: Endpoint) -> Callable[[Stream], Awaitable[None]]:
    contexts = ClientContexts()

    async def serve(client: Stream) -> None:
        await client.write(b"* OK edge\r\n")
        login = await client.read()
        behind = await dial(server, timeout=10, contexts=contexts)
        await behind.read()
        await behind.write(login)
        await client.write(await behind.read())
        await relay(client, behind, upstream=lambda data: None, idle=1800)

    return serve


def fork(loop: Callable[..., Any], main: Callable[[], Coroutine[Any, Any, None]]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            loop(main())
        finally:
            os._exit(0)
    return pid


def spent() -> bytes:
    """CPU seconds and resident bytes of this process, as a line."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    memory = int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return f"{usage.ru_utime + usage.ru_stime} {memory}\n".encode()


async def listen(sockets: list[tuple[socket.socket, ssl.SSLContext | None]], handler: Any, orders: int) -> None:
    for sock, context in sockets:
        Listener(sock, handler, trace=Silent(), tls=context).start()
    asked = asyncio.Event()
    asyncio.get_running_loop().add_reader(orders, asked.set)
    while True:
        await asked.wait()
        if not os.read(orders, 1):
            return
        asked.clear()
        gc.collect()
        os.write(orders, spent())


class Measured:
    """The relaying process, asked for its CPU time and memory."""

    def __init__(self, pipe: socket.socket) -> None:
        self._pipe = pipe

    def look(self) -> tuple[float, int]:
        self._pipe.send(b"?")
        cpu, memory = self._pipe.recv(100).split()
        return float(cpu), int(memory)


async def log_in(port: int, context: ssl.SSLContext | None, session: ssl.SSLSession | None = None) -> Stream:
    sock = socket.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream = Stream(sock)
    if context is not None:
        await stream.start_tls(context, server_side=False, server_hostname="mail.example", session=session)
    await stream.read()
    await stream.write(b"a LOGIN u p\r\n")
    await stream.read()
    return stream


async def sessions(port: int, context: ssl.SSLContext | None, count: int, session: ssl.SSLSession | None) -> None:
    async def some(number: int) -> None:
        for _ in range(number):
            stream = await log_in(port, context, session)
            await stream.write(b"b NOOP\r\n")
            await stream.read()
            await stream.write(b"c LOGOUT\r\n")
            while await stream.read():
                pass
            stream.close()

    await asyncio.gather(*(some(count // 10) for _ in range(10)))


async def noops(port: int, context: ssl.SSLContext | None) -> None:
    async def one() -> None:
        stream = await log_in(port, context)
        for _ in range(NOOPS):
            await stream.write(b"b NOOP\r\n")
            await stream.read()
        stream.close()

    await asyncio.gather(*(one() for _ in range(10)))


async def bulk(port: int, context: ssl.SSLContext | None) -> None:
    stream = await log_in(port, context)
    await stream.write(b"b FETCH\r\n")
    left = BULK + len(b"b OK\r\n")
    while left:
        left -= len(await stream.read(262144))
    stream.close()


async def idle(port: int, context: ssl.SSLContext | None, measured: Measured, count: int) -> float:
    warm = [await log_in(port, context) for _ in range(50)]
    _, before = measured.look()
    streams = [await log_in(port, context) for _ in range(count)]
    _, after = measured.look()
    for stream in (*warm, *streams):
        stream.close()
    await asyncio.sleep(1)
    return (after - before) / count / 1024


async def ticket(port: int, context: ssl.SSLContext) -> ssl.SSLSession | None:
    stream = await log_in(port, context)
    assert isinstance(stream.wire.sock, ssl.SSLSocket)
    session = stream.wire.sock.session
    stream.close()
    return session


async def measure(plain: int, tls: int, context: ssl.SSLContext, measured: Measured, count: int) -> None:
    async def best(work: Callable[[], Coroutine[Any, Any, None]]) -> float:
        found = []
        for _ in range(3):
            before, _ = measured.look()
            await work()
            await asyncio.sleep(0.05)
            found.append(measured.look()[0] - before)
        return min(found)

    resumed = await ticket(tls, context)
    for name, port, its, session in (
        ("plain", plain, None, None), ("TLS", tls, context, None), ("TLS resumed", tls, context, resumed),
    ):  # fmt: skip
        spent = await best(lambda port=port, its=its, session=session: sessions(port, its, count, session))  # type: ignore[misc]
        print(f"session, {name:12} {spent / count * 1000:7.3f} CPU-s per 1000")
    for name, port, its in (("plain", plain, None), ("TLS", tls, context)):
        spent = await best(lambda port=port, its=its: noops(port, its))  # type: ignore[misc]
        print(f"NOOP,    {name:12} {spent / NOOPS / 10 * 1e6:7.1f} us")
        spent = await best(lambda port=port, its=its: bulk(port, its))  # type: ignore[misc]
        print(f"bulk,    {name:12} {spent / BULK * (1 << 30):7.3f} CPU-s per GB")
        print(f"idle,    {name:12} {await idle(port, its, measured, 500):7.1f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loop", choices=["uvloop", "asyncio"], default="uvloop")
    parser.add_argument("--sessions", type=int, default=2000)
    options = parser.parse_args()
    run = uvloop.run if options.loop == "uvloop" else asyncio.run
    with tempfile.TemporaryDirectory() as folder:
        certificate = Authority(Path(folder)).issue("mail.example")
        contexts = ServerContexts([CertificateFiles(str(certificate.cert), str(certificate.key))])
        client = ClientContexts().get(str(certificate.ca))
    behind, plain, tls = (bind("127.0.0.1", 0) for _ in range(3))
    ours, theirs = socket.socketpair()
    quiet, unused = socket.socketpair()
    server = Endpoint("127.0.0.1", behind.getsockname()[1])
    children = [
        fork(run, lambda: listen([(behind, None)], stub, unused.fileno())),
        fork(run, lambda: listen([(plain, None), (tls, contexts.context)], edge(server), theirs.fileno())),
    ]
    work = measure(plain.getsockname()[1], tls.getsockname()[1], client, Measured(ours), options.sessions)
    try:
        run(work)
    finally:
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 15)
            os.waitpid(pid, 0)
        quiet.close()


if __name__ == "__main__":
    main()
