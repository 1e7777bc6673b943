"""Accept connections and start sessions: limits, PROXY header, TLS from the first byte, an orderly end.

Knows sockets and how many sessions there are. Does not know what is spoken: a handler gets a Stream ready for use.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from onedomain.model.failure import Failed
from onedomain.model.ports import Trace
from onedomain.net.channel import set_keepalive
from onedomain.net.handshake import Handshake
from onedomain.net.poller import IN, Poller
from onedomain.net.shared import SharedTable
from onedomain.net.stream import Stream
from onedomain.net.visit import Host, Visit
from onedomain.protocol.proxy import ProxyError, ProxyParser

BATCH = 32
"""Connections accepted at one go, where they come faster than one by one; the sessions there are come next."""

PAUSE_SECONDS = 1.0
"""How long nothing is accepted after the kernel ran out of descriptors or memory."""

PROXY_SECONDS = 5.0
DRAIN_SECONDS = 30.0

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Handler = Callable[[Stream], Awaitable[None]]
Visits = Callable[[Host, str], Visit]


@dataclass(frozen=True, slots=True)
class Limits:
    """`sessions` for this listener in this worker; `per_address` over all workers, IPv6 by /64; 0 is none.

    `farewell` is what one too many is told, such as b"421 4.3.2 Too many connections\\r\\n" (nothing on TLS ports).
    """

    sessions: int = 10_000
    per_address: int = 0
    farewell: bytes = b""


def bind(host: str, port: int, *, reuse_port: bool = True, backlog: int = 1024) -> socket.socket:
    """A listening socket, made before the fork, one per worker with `reuse_port`. `port` 0 takes any. OSError.

    What accepted sockets inherit is set here, once.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # "::" is IPv6 alone: an IPv4 peer would else look like ::ffff:a.b.c.d, and there is "0.0.0.0" to ask for.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        set_keepalive(sock)
        sock.bind((host, port))
        sock.listen(backlog)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


@lru_cache(4096)
def address_key(address: str) -> str:
    """What counts as one peer: an IPv4 address, or an IPv6 /64, which is what one subscriber has."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.IPv6Address(int(ip) >> 64 << 64))


def network_key(address: str) -> str:
    """The IPv6 /48, which is what anybody gets who asks for some more; "" for any other address."""
    key = address_key(address)
    if ":" not in key:
        return ""
    return str(ipaddress.IPv6Address(int(ipaddress.IPv6Address(key)) >> 80 << 80)) + "/48"


class Listener:
    """`handler` runs as one task per connection. The stream is closed in an orderly way when it returns.

    With `visits` sessions begin as visits, which need no task.
    `tls` is for ports with TLS from the first byte. Peers in `proxy_from` must begin with a PROXY header (v1 or v2),
    whose addresses then stand in `stream.peer` and `stream.local`; nobody else may. `name` stands in the trace.
    """

    def __init__(
        self,
        sock: socket.socket,
        handler: Handler,
        *,
        trace: Trace,
        name: str = "",
        tls: ssl.SSLContext | None = None,
        proxy_from: Sequence[Network] = (),
        limits: Limits = Limits(),
        counts: SharedTable | None = None,
        visits: Visits | None = None,
    ) -> None:
        self._sock = sock
        self._handler = handler
        self._trace = trace
        self._tls = tls
        self._proxy_from = tuple(proxy_from)
        self._limits = limits
        self._counts = counts if limits.per_address else None
        self._make_visit = visits
        self._sessions: dict[asyncio.Task[None], Stream] = {}
        self._visits: dict[Stream, Visit] = {}
        self._handed_on: set[Stream] = set()  # to a visit, by a task that is about to end
        self._emptied: asyncio.Event | None = None
        self._poller: Poller | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._mask = 0
        self._round = 0  # of the poller, in which the last connection was accepted
        self._batch = 1
        self._resume: asyncio.TimerHandle | None = None
        self.address = sock.getsockname()[:2]
        self.name = name or f"{self.address[0]}:{self.address[1]}"

    @property
    def sessions(self) -> int:
        return len(self._sessions) + len(self._visits)

    def start(self) -> None:
        """To be called with the loop running."""
        self._sock.setblocking(False)
        self._poller = Poller.running()
        self._loop = self._poller.loop
        self._poller.attach(self._sock.fileno(), self._acceptable)
        self._ask(IN)

    def stop(self) -> None:
        """Accept nothing more, after what already stands in the queue; sessions go on."""
        if self._poller is None:
            return
        if self._mask:
            self._batch = BATCH
            self._accept()  # a connection left in the queue would be reset
        if self._resume is not None:
            self._resume.cancel()
        self._ask(0)
        self._poller.detach(self._sock.fileno())
        self._poller = None
        self._sock.close()

    async def drain(self, seconds: float = DRAIN_SECONDS) -> int:
        """Stop, end the sessions that rest, wait until the others have ended, cancel those that have not after
        `seconds`; how many those were.
        """
        self.stop()
        self._visit(lambda visit: visit.leave())
        await asyncio.sleep(0)  # the first step of what goes on as a task
        for task, stream in self._sessions.items():
            stream.leaving = True
            if stream.resting:
                task.cancel()
        self._emptied = asyncio.Event()
        self._look_if_empty()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._emptied.wait(), seconds)
        left = self.sessions
        self._visit(lambda visit: visit.abort())
        await asyncio.sleep(0)
        for task in tuple(self._sessions):
            task.cancel()
        if self.sessions:
            self._emptied.clear()
            await self._emptied.wait()
        return left

    def _visit(self, say: Callable[[Visit], None]) -> None:
        for stream, visit in tuple(self._visits.items()):
            try:
                say(visit)
            except Exception as error:  # noqa: BLE001  one's bug must not keep the others here, and with them the process
                stream.close()
                if stream in self._visits:
                    self.visit_ended(visit, error)

    def _ask(self, mask: int) -> None:
        if self._poller is not None:
            self._poller.interest(self._sock.fileno(), self._mask, mask)
            self._mask = mask

    def _acceptable(self, _: int) -> None:
        # To look whether there is another costs as much as to be told so; but not where a queue has grown.
        assert self._poller is not None
        queued = self._poller.rounds == self._round + 1
        self._round = self._poller.rounds
        self._batch = min(BATCH, self._batch * 2) if queued else 1
        self._accept()

    def _accept(self) -> None:
        for _turn in range(self._batch):
            try:
                sock, address = self._sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._pause(error)
                    return
                continue  # accept(2): an error of the new connection, which is gone already
            self._begin(sock, (address[0], address[1]))

    def _pause(self, error: OSError) -> None:
        """The connection stays in the queue and would wake us again and again."""
        self._trace.note("accept paused", listener=self.name, reason=str(error), sessions=self.sessions)
        self._ask(0)
        assert self._poller is not None
        self._resume = self._poller.loop.call_later(PAUSE_SECONDS, self._ask, IN)

    def _begin(self, sock: socket.socket, peer: tuple[str, int]) -> None:
        if self.sessions >= self._limits.sessions:
            self._trace.note("connection refused", listener=self.name, client=peer[0], reason="too many sessions")
            self._turn_away(sock)
            return
        assert self._poller is not None
        if self._make_visit is not None and not self._proxy_from:
            place = self._place(peer[0])
            if place is None:
                self._turn_away(sock)
                return
            visit = self._make_visit(self, place)
            if self._tls is not None:
                visit = Handshake(self, place, self._tls, visit)
            visit.stream = stream = Stream(sock, peer=peer, poller=self._poller, callback=visit.heard)
            self._visits[stream] = visit
            visit.begin()
            return
        self._run(Stream(sock, peer=peer, poller=self._poller))

    def _run(self, stream: Stream, visit: Visit | None = None, work: Coroutine[Any, Any, None] | None = None) -> None:
        session = self._session(stream) if visit is None or work is None else self._rest(visit, work)
        assert self._loop is not None
        task = self._loop.create_task(session)
        self._sessions[task] = stream
        task.add_done_callback(self._ended)

    # -- what visits say

    def visit_ended(self, visit: Visit, error: BaseException | None) -> None:
        del self._visits[visit.stream]
        self._leave_place(visit.place)
        if error is not None:
            self._explain(visit.stream, error)
        self._look_if_empty()

    def visit_becomes(self, visit: Visit, then: Visit) -> None:
        then.stream = stream = visit.stream
        self._visits[stream] = then
        stream.take_over(then.heard)
        then.begin()

    def visit_goes_on(self, visit: Visit, work: Coroutine[Any, Any, None]) -> None:
        del self._visits[visit.stream]
        self._run(visit.stream, visit, work)

    async def _rest(self, visit: Visit, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001  as in _session
            self._explain(visit.stream, error)
        finally:
            self._leave_place(visit.place)
            await visit.stream.aclose()

    def _turn_away(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        with suppress(OSError):
            if self._limits.farewell and self._tls is None:
                sock.send(self._limits.farewell)
                sock.shutdown(socket.SHUT_WR)
        sock.close()

    def _ended(self, task: asyncio.Task[None]) -> None:
        stream = self._sessions.pop(task)
        if stream in self._handed_on:
            self._handed_on.discard(stream)
        else:
            stream.close()  # a task cancelled before its first step never saw it
        self._look_if_empty()

    def _look_if_empty(self) -> None:
        if self._emptied is not None and not self.sessions:
            self._emptied.set()

    async def _session(self, stream: Stream) -> None:
        place: str | None = ""
        try:
            if self._proxy_from and self._may_proxy(stream.peer[0]):
                await _read_proxy_header(stream)
            place = self._place(stream.peer[0])
            if place is None:
                if self._tls is None:
                    stream.write_nowait(self._limits.farewell)
                return
            if self._tls is not None:
                await stream.start_tls(self._tls, server_side=True)
            if self._make_visit is None:
                await self._handler(stream)
                return
            visit = self._make_visit(self, place)
            place = None
            visit.stream = stream
            self._visits[stream] = visit
            self._handed_on.add(stream)
            stream.take_over(visit.heard)
            visit.begin()
        except Exception as error:  # noqa: BLE001  a bug in one session must be told, and hurt no other
            self._explain(stream, error)
        finally:
            if place is not None:
                self._leave_place(place)
            if stream not in self._handed_on:
                await stream.aclose()

    def _explain(self, stream: Stream, error: BaseException) -> None:
        match error:
            case ProxyError():
                self._note(stream, str(error))
            case ConnectionError() | TimeoutError():
                self._note(stream, str(error) or type(error).__name__, event="connection lost")
            case Failed():
                self._note(stream, error.failure.reason or str(error), event="connection lost")
            case Exception():
                self._note(stream, f"{type(error).__name__}: {error}", event="session failed")
                asyncio.get_running_loop().call_exception_handler(
                    {"message": f"session on {self.name} failed", "exception": error}
                )

    def _place(self, address: str) -> str | None:
        """Room for one more of this address; None, and told: there is none. Any other has to be left again."""
        if self._counts is None:
            return ""
        key = address_key(address)
        if self._counts.enter(key, self._limits.per_address):
            return key
        self._trace.note("connection refused", listener=self.name, client=address,
                         reason="too many connections from this address")
        return None

    def _leave_place(self, key: str) -> None:
        if key and self._counts is not None:
            self._counts.add(key, -1)

    def _may_proxy(self, host: str) -> bool:
        address = ipaddress.ip_address(host.partition("%")[0])
        return any(address in network for network in self._proxy_from)

    def _note(self, stream: Stream, reason: str, event: str = "connection refused") -> None:
        self._trace.note(event, listener=self.name, client=stream.peer[0], reason=reason)


async def _read_proxy_header(stream: Stream) -> None:
    """Not one byte more than the header: what follows may be a TLS handshake. ProxyError, ConnectionError."""
    parser = ProxyParser()
    stream.deadline = asyncio.get_running_loop().time() + PROXY_SECONDS
    try:
        while wanted := parser.wanted:
            data = await stream.read(wanted)
            if not data:
                raise ProxyError("closed before the PROXY header")
            parser.receive(data)
    except TimeoutError:
        raise ProxyError("no PROXY header in time") from None
    finally:
        stream.deadline = None
    header = parser.header
    if header is not None and header.source is not None:
        stream.peer = header.source
        stream.local = header.destination or stream.local
