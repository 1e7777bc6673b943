"""The real clock, dice and names, as the ports want them. The only place where parts get them from."""

from __future__ import annotations

import random
import secrets
import time

from onedomain.config import Config
from onedomain.net.names import Names


class RealClock:
    def monotonic(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time()


class RealNonce:
    def token(self, size: int) -> bytes:
        return secrets.token_bytes(size)

    def random(self) -> float:
        return random.random()


def names(config: Config) -> Names:
    """By the resolvers that the file names, or the system's way."""
    return Names(config.resolver.servers, config.resolver.timeout)
