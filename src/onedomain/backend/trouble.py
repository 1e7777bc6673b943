"""What can go wrong between us and a server, as one exception that says both what to do and what was seen.

Knows how the errors of sockets, TLS and parsers translate. Does not know who asks, nor what happens next.
"""

from __future__ import annotations

import errno
import ssl
from asyncio import get_running_loop
from types import TracebackType

from onedomain.model.failure import Failed, Failure, Kind, again
from onedomain.model.health import Seen
from onedomain.net.dial import DialFailed

_SILENT = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENETDOWN}
"""A neighbour that answers no ARP is as silent as one that answers no SYN."""


class Trouble(Failed):
    """Raised by backends for everything that is the server's or the network's doing. `seconds`: the wait for it."""

    def __init__(self, failure: Failure, seen: Seen, seconds: float = 0.0) -> None:
        super().__init__(failure)
        self.seen = seen
        self.seconds = seconds


def closed(doing: str) -> Trouble:
    """The server ended the connection where an answer was due."""
    return Trouble(again(451, "4.4.2", "the connection to the mail server broke", f"{doing}: closed"), Seen.REFUSED)


class troubles:
    """Everything that the network, TLS or a parser raises within comes out as Trouble, timed.

    A class and no generator: a log-in goes through a dozen of them.
    """

    __slots__ = ("_began", "_doing")

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __enter__(self) -> None:
        self._began = get_running_loop().time()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is not None and isinstance(error, (OSError, Failed, ValueError)):
            result = _trouble(error, self._doing)
            result.seconds = get_running_loop().time() - self._began
            if result is not error:
                raise result from error


def _trouble(error: OSError | Failed | ValueError, doing: str) -> Trouble:
    if isinstance(error, Trouble):
        return error
    if isinstance(error, DialFailed):
        return Trouble(error.failure, error.seen)
    if isinstance(error, Failed):
        return Trouble(error.failure, Seen.REFUSED if error.failure.kind is Kind.REFUSE else Seen.BROKEN)
    reason = f"{doing}: {error or type(error).__name__}"
    if isinstance(error, TimeoutError) or (isinstance(error, OSError) and error.errno in _SILENT):
        return Trouble(again(451, "4.4.1", "the mail server does not answer", reason), Seen.SILENT)
    if isinstance(error, ssl.SSLError):
        return Trouble(again(451, "4.7.5", "no secure connection to the mail server", reason), Seen.BROKEN)
    if isinstance(error, OSError):
        return Trouble(again(451, "4.4.2", "the connection to the mail server broke", reason), Seen.REFUSED)
    return Trouble(again(451, "4.5.0", "the mail server cannot be understood", reason), Seen.BROKEN)
