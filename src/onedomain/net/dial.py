"""Reach a server: resolve, connect, PROXY header, TLS from the first byte where the endpoint says so.

Knows addresses and waits. Does not know what is spoken then; STARTTLS is said by the protocol above, which then calls
`secure`.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from functools import lru_cache, partial

from onedomain.model.failure import Failed, again
from onedomain.model.health import Seen
from onedomain.model.server import Endpoint, TlsMode
from onedomain.net.channel import Channel, set_keepalive
from onedomain.net.names import Names, NoSuchName, Place
from onedomain.net.poller import Callback, Poller
from onedomain.net.stream import Stream
from onedomain.net.tls import CertificateError, ClientContexts
from onedomain.net.wire import TlsError
from onedomain.protocol.proxy import build_v2

Address = tuple[str, int] | tuple[str, int, int, int]


class DialFailed(Failed):
    """`seen` is for health: REFUSED, SILENT (time ran out, no route) or BROKEN (TLS, name, configuration)."""

    def __init__(self, endpoint: Endpoint, seen: Seen, reason: str, enhanced: str = "4.4.1") -> None:
        super().__init__(again(451, enhanced, "The mail server can't be reached now", f"{endpoint}: {reason}"))
        self.seen = seen


async def dial(
    endpoint: Endpoint,
    *,
    timeout: float,
    contexts: ClientContexts,
    client: tuple[str, int] | None = None,
    quick_ack: bool = False,
    greeted: bool = False,
) -> Stream:
    """A connected Stream within `timeout` seconds, TLS on it if the endpoint is IMPLICIT. DialFailed.

    `client` is what the PROXY header says, if the endpoint wants one. `greeted`: the server is the first to speak.
    """
    limit = asyncio.get_running_loop().time() + timeout
    we_begin = endpoint.proxy_protocol or endpoint.tls is TlsMode.IMPLICIT
    stream = await _connect(endpoint, limit, quick_ack, greeted and not we_begin, contexts.names)
    if not we_begin:
        return stream
    try:
        stream.deadline = limit
        if endpoint.proxy_protocol:
            await stream.write(build_v2(client, stream.peer if client else None))
        if endpoint.tls is TlsMode.IMPLICIT:
            await secure(stream, endpoint, contexts)
    except TimeoutError:
        stream.close()
        raise DialFailed(endpoint, Seen.SILENT, "time ran out during TLS", "4.4.2") from None
    except ConnectionError as error:
        stream.close()
        raise DialFailed(endpoint, Seen.REFUSED, str(error), "4.4.2") from None
    except BaseException:
        stream.close()
        raise
    stream.deadline = None
    return stream


def begin_dial(
    endpoint: Endpoint, names: Names, poller: Poller, callback: Callback, *, quick_ack: bool = False
) -> Stream | None:
    """A connect that is under way, where nothing has to be waited for before: `callback` is told when the server has
    said something, or the connect has failed. None: `dial` has to do it.

    A Relay sets keepalive, once it has lasted.
    """
    if endpoint.tls is not TlsMode.NONE or endpoint.proxy_protocol:
        return None
    place = _numeric(endpoint.host, endpoint.port) or names.known(endpoint.host, endpoint.port, poller.now)
    if place is None:
        return None
    family, address = place
    try:
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError:
        return None
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = sock.connect_ex(address)
    except OSError as error:
        code = error.errno or errno.EINVAL
    if code not in (0, errno.EINPROGRESS):
        sock.close()
        return None
    stream = Stream(sock, peer=address[:2], quick_ack=quick_ack, poller=poller, callback=callback)
    stream.ask(reading=True)
    return stream


async def secure(stream: Stream, endpoint: Endpoint, contexts: ClientContexts) -> None:
    """TLS as the endpoint demands it, now: from the first byte, or after STARTTLS was agreed upon.

    OPPORTUNISTIC is unverified. DialFailed where the certificate or TLS itself fails; TimeoutError, ConnectionError.
    """
    name = endpoint.tls_name or endpoint.host
    try:
        context = contexts.get(endpoint.ca_file, verify=endpoint.tls is not TlsMode.OPPORTUNISTIC)
        session = contexts.session(context, str(endpoint), name)
        await stream.start_tls(context, server_side=False, server_hostname=name, session=session)
    except CertificateError as error:
        stream.close()
        raise DialFailed(endpoint, Seen.BROKEN, str(error), "4.7.5") from None
    except TlsError as error:
        stream.close()
        raise DialFailed(endpoint, Seen.BROKEN, f"TLS: {error}", "4.7.5") from None
    # TLS 1.3 hands out tickets after the handshake: the session is worth keeping only at the end.
    stream.on_close = partial(_keep_session, contexts, context, str(endpoint), name)


def _keep_session(contexts: ClientContexts, context: ssl.SSLContext, server: str, name: str, channel: Channel) -> None:
    sock = channel.wire.sock
    if isinstance(sock, ssl.SSLSocket):
        contexts.keep(context, server, name, sock.session)


async def _connect(endpoint: Endpoint, limit: float, quick_ack: bool, greeted: bool, names: Names) -> Stream:
    loop = asyncio.get_running_loop()
    places = await _resolve(endpoint, limit, names)
    reasons: list[str] = []
    seen = Seen.SILENT
    for position, (family, address) in enumerate(places):
        left = limit - loop.time()
        # A dead address must not eat the time of those after it.
        patience = left / (len(places) - position)
        try:
            if left <= 0:
                raise TimeoutError
            stream = await _connect_one(family, address, loop.time() + patience, quick_ack, greeted)
            names.worked(endpoint.host, endpoint.port, (family, address), loop.time())
            return stream
        except TimeoutError:
            reasons.append(f"{address[0]}: timed out")
        except OSError as error:
            if error.errno in (errno.ECONNREFUSED, errno.ECONNRESET):
                seen = Seen.REFUSED
            reasons.append(f"{address[0]}: {os.strerror(error.errno).lower() if error.errno else error}")
    raise DialFailed(endpoint, seen, "; ".join(reasons))


async def _resolve(endpoint: Endpoint, limit: float, names: Names) -> list[Place]:
    """Addresses to try, families taking turns (RFC 8305 section 4)."""
    if place := _numeric(endpoint.host, endpoint.port):
        return [place]
    try:
        async with asyncio.timeout_at(limit):
            found = await names.look_up(endpoint.host, endpoint.port)
    except TimeoutError:
        raise DialFailed(endpoint, Seen.SILENT, f"the name {endpoint.host} was not resolved in time", "4.4.3") from None
    except NoSuchName as error:
        raise DialFailed(endpoint, Seen.BROKEN, f"the name {endpoint.host}: {error}", "4.4.3") from None
    first = found[0][0]
    ours = [place for place in found if place[0] is first]
    others = [place for place in found if place[0] is not first]
    mixed: list[Place] = []
    while ours or others:
        mixed += ours[:1] + others[:1]
        del ours[:1], others[:1]
    return mixed


@lru_cache(1024)
def _numeric(host: str, port: int) -> Place | None:
    """Of an address that is written as one; None: a name."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return family, (host, port)
    return None


async def _connect_one(
    family: socket.AddressFamily, address: Address, limit: float, quick_ack: bool, greeted: bool
) -> Stream:
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        set_keepalive(sock)
        code = sock.connect_ex(address)
    except BaseException:
        sock.close()
        raise
    stream = Stream(sock, peer=(address[0], address[1]), quick_ack=quick_ack)
    try:
        stream.deadline = limit
        if greeted and code == errno.EINPROGRESS:
            # Its first words say that we are connected: one event less to wait for.
            code = await _first_words(stream, sock, address)
        # Events are hints: only a second connect tells for certain.
        while code in (errno.EINPROGRESS, errno.EALREADY):
            await stream.writable()
            code = sock.connect_ex(address)
        if code not in (0, errno.EISCONN):
            raise OSError(code, os.strerror(code))
    except BaseException:
        stream.close()
        raise
    stream.deadline = None
    return stream


async def _first_words(stream: Stream, sock: socket.socket, address: Address) -> int:
    """Leaves them to be read; as connect_ex does, but that it also ends when time runs out on an open connection."""
    try:
        stream.unread(await stream.read())
    except TimeoutError:
        code = sock.connect_ex(address)
        if code in (errno.EINPROGRESS, errno.EALREADY):
            raise
        return code
    return 0
