"""The real clock and the real dice, as the ports want them. The only place where parts get them from."""

from __future__ import annotations

import random
import secrets
import time


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
