"""Queue ids: what a message is called from its first byte to the last server. The queue id is the delivery id.

17 characters of 0-9a-z: ten of time in microseconds (enough until 2085; ids sort by time of arrival), seven random.
Lower case only, because IMAP SEARCH compares without regard to case (RFC 9051 section 6.4.4), and all of one length,
because it looks for substrings. The random part keeps edges apart whose clocks agree, and keeps outsiders from
guessing an id and planting it in a mailbox before the message arrives.

Knows how ids are made. Does not know what they name.
"""

from __future__ import annotations

from hashlib import blake2b

from onedomain.model.ports import Clock, Nonce

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
TIME_SIZE = 10
RANDOM_SIZE = 7
ID_SIZE = TIME_SIZE + RANDOM_SIZE
DICE = 6  # bytes of chance in an id
AT_ONCE = 64


class Ids:
    """Makes ids that grow, even while the clock stands still or goes back."""

    def __init__(self, clock: Clock, nonce: Nonce) -> None:
        self._clock = clock
        self._nonce = nonce
        self._last = 0
        self._dice = b""
        self._high, self._first = -1, ""  # of the time: the digits that stay the same for a second

    def next(self) -> str:
        now = int(self._clock.time() * 1_000_000)
        self._last = now if now > self._last else self._last + 1
        # for many ids at a time: each asking is a system call
        dice = self._dice or self._nonce.token(DICE * AT_ONCE)
        self._dice = dice[DICE:]
        high, low = divmod(self._last, 1296 * 1296)
        if high != self._high:
            self._high, self._first = high, _digits(high, TIME_SIZE - 4)
        third, second = divmod(low, 1296)
        chance, last = divmod(int.from_bytes(dice[:DICE], "big"), 1296)
        chance, middle = divmod(chance, 1296)
        return (f"{self._first}{_PAIRS[third]}{_PAIRS[second]}"
                f"{_digits(chance, RANDOM_SIZE - 4)}{_PAIRS[middle]}{_PAIRS[last]}")


def derived_id(parent: str, purpose: str) -> str:
    """The same id for the same parent and purpose, always: what is made again after a crash is known for what it is."""
    digest = blake2b(f"{parent} {purpose}".encode(), digest_size=6).digest()
    return parent[:TIME_SIZE] + _digits(int.from_bytes(digest, "big"), RANDOM_SIZE)


# two digits at a time: an id is made for each message
_PAIRS = [high + low for high in DIGITS for low in DIGITS]


def _digits(number: int, size: int) -> str:
    pairs = []
    for _ in range((size + 1) // 2):
        pairs.append(_PAIRS[number % 1296])
        number //= 1296
    pairs.reverse()
    return "".join(pairs)[-size:]
