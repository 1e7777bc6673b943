"""Host names to addresses: the system's way, or by resolvers that the configuration names.

Knows DNS through its library. Does not know what is dialled then.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

import dns.asyncresolver
import dns.exception
import dns.resolver

KNOWN_SECONDS = 5.0
"""How long a name is taken for the address that answered to it last, where nobody can wait for a question."""

KNOWN = 1000

Place = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int]]


class NoSuchName(Exception):
    """The name has no address, or the question could not be asked; the text says which."""


class Names:
    """`servers` are addresses of resolvers; none: the system's way, so that /etc/hosts and nsswitch count.

    `timeout` in seconds for one question. Answers of our own resolvers are kept as long as they say (TTL).
    """

    def __init__(self, servers: Sequence[str] = (), timeout: float = 5.0) -> None:
        self._resolver: dns.asyncresolver.Resolver | None = None
        self._worked: dict[tuple[str, int], tuple[Place, float]] = {}
        if servers:
            self._resolver = dns.asyncresolver.Resolver(configure=False)
            self._resolver.nameservers = list(servers)
            self._resolver.lifetime = timeout
            self._resolver.cache = dns.resolver.LRUCache(1000)

    def worked(self, host: str, port: int, place: Place, now: float) -> None:
        """Somebody answered there."""
        if len(self._worked) >= KNOWN:
            self._worked.clear()
        self._worked[host, port] = (place, now + KNOWN_SECONDS)

    def known(self, host: str, port: int, now: float) -> Place | None:
        """Where somebody has just answered."""
        place, until = self._worked.get((host, port), (None, 0.0))
        return place if now < until else None

    async def look_up(self, host: str, port: int) -> list[Place]:
        """In the order to be tried; one at least. Raises NoSuchName."""
        if self._resolver is None or "." not in host.rstrip("."):
            return await _system(host, port)
        answers = await asyncio.gather(
            _ask(self._resolver, host, "A"), _ask(self._resolver, host, "AAAA"), return_exceptions=True)
        found: list[Place] = [(socket.AF_INET, (address, port)) for address in _good(answers[0])]
        found += [(socket.AF_INET6, (address, port, 0, 0)) for address in _good(answers[1])]
        if not found:
            why = next((str(answer) for answer in answers if isinstance(answer, BaseException)), "no address")
            raise NoSuchName(why)
        return found


async def _system(host: str, port: int) -> list[Place]:
    """In a thread, as the system has no other way."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        why = error.strerror if isinstance(error, socket.gaierror) else None
        raise NoSuchName(why or "not a host name") from None
    return [(socket.AddressFamily(family), address) for family, _, _, _, address in found]  # type: ignore[misc]


async def _ask(resolver: dns.asyncresolver.Resolver, host: str, kind: str) -> list[str]:
    try:
        answer = await resolver.resolve(host, kind, search=False)
    except dns.resolver.NoAnswer:
        return []
    except (dns.exception.DNSException, OSError, UnicodeError) as error:
        raise NoSuchName(str(error)) from None
    return [record.to_text() for record in answer]


def _good(answer: list[str] | BaseException) -> list[str]:
    return [] if isinstance(answer, BaseException) else answer
