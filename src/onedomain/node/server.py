"""The node as a process: opens the store, listens, serves, ends in order.

Knows how the parts are put together. Does not know what they do.
"""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import ssl

from onedomain.model.ports import Clock, Trace
from onedomain.net.listen import Limits, Listener, bind
from onedomain.net.stream import Stream
from onedomain.net.tls import CertificateFiles, ServerContexts
from onedomain.node.imap.session import ImapSession
from onedomain.node.lmtp import LmtpSession
from onedomain.node.services import Passwords, Services
from onedomain.node.settings import NodeSettings, endpoint
from onedomain.node.store.store import Store

DRAIN_SECONDS = 5.0
"""For those that are in the middle of something; all others are told at once."""

Session = ImapSession | LmtpSession


class Node:
    """One running node. `addresses` says where it listens, by protocol."""

    def __init__(
        self,
        services: Services,
        listeners: list[tuple[str, Listener]],
        tls: ServerContexts | None,
        sessions: set[Session],
    ) -> None:
        self._services = services
        self._listeners = listeners
        self._tls = tls
        self._sessions = sessions
        self._stopping = asyncio.Event()

    @classmethod
    async def start(cls, settings: NodeSettings, *, clock: Clock, trace: Trace, passwords: Passwords) -> Node:
        """Raises InUse, WrongVersion, CertificateError, OSError, sqlite3.Error."""
        tls: ServerContexts | None = None
        if settings.certificate is not None and settings.key is not None:
            tls = ServerContexts([CertificateFiles(str(settings.certificate), str(settings.key))])
        store = await Store.open(settings.data, clock, trace)
        context = tls.context if tls is not None else None
        services = Services(settings, store, passwords, trace, context)
        listeners: list[tuple[str, Listener]] = []
        sessions: set[Session] = set()
        try:
            for protocol, places in (("lmtp", settings.lmtp), ("imap", settings.imap), ("imaps", settings.imaps)):
                for place in places:
                    listeners.append((protocol, _listener(services, protocol, place, context, sessions)))
        except BaseException:
            for _, listener in listeners:
                listener.stop()
            await store.close()
            raise
        for protocol, listener in listeners:
            listener.start()
            trace.note("listening", protocol=protocol, address=f"{listener.address[0]}:{listener.address[1]}")
        return cls(services, listeners, tls, sessions)

    @property
    def store(self) -> Store:
        return self._services.store

    @property
    def addresses(self) -> dict[str, list[tuple[str, int]]]:
        found: dict[str, list[tuple[str, int]]] = {}
        for protocol, listener in self._listeners:
            found.setdefault(protocol, []).append(listener.address)
        return found

    def stop(self) -> None:
        self._stopping.set()

    def reload(self) -> None:
        """Certificates only; sessions go on."""
        if self._tls is not None:
            self._tls.reload()

    async def serve(self) -> None:
        """Until `stop`, or SIGTERM or SIGINT. SIGHUP reads the certificates again."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        await self._stopping.wait()
        await self.close()

    async def close(self) -> None:
        for _, listener in self._listeners:
            listener.stop()
        for session in tuple(self._sessions):
            session.shut_down()
        await asyncio.gather(*(listener.drain(DRAIN_SECONDS) for _, listener in self._listeners))
        await self.store.close()


def _listener(
    services: Services, protocol: str, place: str, tls: ssl.SSLContext | None, sessions: set[Session]
) -> Listener:
    settings = services.settings

    kind = LmtpSession if protocol == "lmtp" else ImapSession

    async def serve(stream: Stream) -> None:
        session = kind(services, stream)
        sessions.add(session)
        try:
            await session.run()
        finally:
            sessions.discard(session)

    farewell = b"* BYE Too many sessions\r\n" if protocol != "lmtp" else b"421 4.3.2 too many sessions\r\n"
    host, port = endpoint(place)
    return Listener(
        bind(host, port, reuse_port=False),
        serve,
        trace=services.trace,
        name=protocol,
        tls=tls if protocol == "imaps" else None,
        proxy_from=[ipaddress.ip_network(network) for network in settings.proxy_protocol_from],
        limits=Limits(settings.max_sessions, farewell=farewell),
    )
