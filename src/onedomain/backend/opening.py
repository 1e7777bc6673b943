"""A log-in at a home without a task, as long as all goes as usual: greeting, one packet with ID and AUTHENTICATE, OK.

Knows what the home has said so far. Does not know grammar (protocol/imap), how a log-in is written (login.py), nor how
long anybody waits: whoever began it may at any time, and has to where it says so, let `finish` go on in the ordinary
way with the same connection, which reads again what was said.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, Protocol

from onedomain.backend.base import ClientInfo, Session
from onedomain.backend.imap_session import capabilities_in
from onedomain.backend.login import Login, together
from onedomain.model.account import Account
from onedomain.net.stream import Stream
from onedomain.protocol.imap.response import ResponseError, ResponseParser, Tagged, Untagged

READ = 16_384
LONGEST = 4096
"""Octets of a greeting, or of an answer to a log-in: what is longer is not usual."""

Done = Callable[[Session | None], None]
"""None: `finish` has to go on."""


class Server(Protocol):
    """The one that it is for (mailserver.py)."""

    def opened(self, opening: Opening, welcome: Welcome, seconds: float) -> Session: ...
    def given_up(self, opening: Opening) -> None: ...
    async def finish(self, opening: Opening, account: Account, password: str | None) -> Session: ...


class Welcome(NamedTuple):
    """No capabilities: something else than a welcome; `rest` is what came behind it."""

    capabilities: tuple[str, ...]
    text: str = ""
    rest: bytes = b""


class Opening:
    """`sent` is what the home was told; `client` is whom it was told it is for; `account` as it is when it begins."""

    __slots__ = ("_began", "_done", "_greeting", "_said", "_server", "account", "client", "login", "sent", "stream")

    def __init__(
        self, server: Server, account: Account, login: Login, client: ClientInfo | None, done: Done
    ) -> None:
        self._server = server
        self.account = account
        self._done: Done | None = done
        self._greeting = self._said = b""
        self.login = login
        self.client = client
        self.sent = b""
        self.stream: Stream

    def begin(self, stream: Stream) -> None:
        self.stream = stream
        self._began = stream.poller.now

    def heard(self, mask: int) -> None:
        """An event of the stream."""
        try:
            data = self.stream.receive(READ)
            if data is None:
                return
            self._said += data
            if not data or len(self._said) > LONGEST:
                self._tell(None)
            elif self.sent:
                self._answered()
            elif data.endswith(b"\n"):
                self._greeted()
        except ConnectionError:
            if not self._said and not self.sent:
                self.stream.close()  # nothing was lost: the ordinary way dials anew, and says what is the matter
            self._tell(None)

    def _greeted(self) -> None:
        offered = _offered(self._said)
        words = together(offered, self.login, self.client) if offered is not None else None
        if words is None:
            self._tell(None)
            return
        self._greeting, self._said = self._said, b""
        self.sent = words
        self.stream.push(words)

    def _answered(self) -> None:
        welcome = _welcome(self._said, "a2" if self.sent.startswith(b"a1 ID") else "a1")
        if welcome is None:
            return  # more is to come
        if not welcome.capabilities:
            self._tell(None)
            return
        if welcome.rest:
            self.stream.unread(welcome.rest)
        self._tell(self._server.opened(self, welcome, self.stream.poller.now - self._began))

    def _tell(self, session: Session | None) -> None:
        done = self._done
        if done is not None:
            self._done = None
            self._server.given_up(self)
            if session is None:
                self.stream.ask(reading=False)
            done(session)

    def stop(self) -> Opening:
        """Nothing is told any more: `finish` or `close` comes next."""
        if self._done is not None:
            self._done = None
            self._server.given_up(self)
            self.stream.ask(reading=False)
        return self

    def close(self) -> None:
        self.stop()
        self.stream.close()

    async def finish(self, account: Account, password: str | None) -> Session:
        """As Backend.log_in."""
        if not self.stream.closed:
            self.stream.unread(self._greeting + self._said)
            self.stream.give_back()
        try:
            return await self._server.finish(self, account, password)
        except asyncio.CancelledError:
            self.stream.close()
            raise


@lru_cache(64)
def _offered(greeting: bytes) -> frozenset[str] | None:
    """Capabilities in a greeting; None for one that is not as usual. Servers greet everybody alike."""
    parser = ResponseParser()
    parser.receive(greeting)
    try:
        response = parser.next_event()
    except ResponseError:
        return None
    if not isinstance(response, Untagged) or response.name != "OK" or parser.take_rest():
        return None
    return capabilities_in(response)


@lru_cache(64)
def _welcome(said: bytes, tag: str) -> Welcome | None:
    """The answer to what was sent together, `tag` being the last; None as long as it is not there."""
    parser = ResponseParser()
    parser.receive(said)
    capabilities: frozenset[str] = frozenset()
    try:
        while (response := parser.next_event()) is not None:
            if not isinstance(response, Untagged | Tagged):
                return Welcome(())
            capabilities = capabilities_in(response) or capabilities
            if isinstance(response, Tagged):
                if response.tag == tag:
                    right = response.status == "OK"
                    return Welcome(tuple(sorted(capabilities)) if right else (), response.text, parser.take_rest())
                if response.tag != "a1":
                    return Welcome(())
    except ResponseError:
        return Welcome(())
    return None
