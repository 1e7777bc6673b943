"""UIDVALIDITYs as an account's clients are shown them, where its home can't be given those that they know.

Knows numbers only. The key is the server's UIDVALIDITY and not the folder's name: RENAME keeps it, DELETE and CREATE
make another one, COPYUID names no folder, and one folder may have many spellings. Whoever makes a map sees to it that
what is in it twice is shown as one new value (decision/link/validities).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

LARGEST = 0xFFFF_FFFF
WINDOW = 1 << 24
"""Values above `floor` for folders whose server counts from further below."""


@dataclass(frozen=True, slots=True)
class Validities:
    """`pairs`: the server's value -> the shown one, of all folders that were there when this home began. `floor`: the
    highest value that was ever shown before; what a server makes later is above it, as servers make them from the time.
    """

    pairs: Mapping[int, int] = field(default_factory=dict)
    floor: int = 0

    def shown(self, uidvalidity: int) -> int:
        known = self.pairs.get(uidvalidity)
        if known is not None:
            return known
        if uidvalidity > self.floor or self.floor > LARGEST - WINDOW:
            return uidvalidity
        # A clock behind that of an older home, or a server that doesn't count seconds: never a value shown before.
        return self.floor + 1 + uidvalidity % (WINDOW - 1)

    def __bool__(self) -> bool:
        return bool(self.pairs or self.floor)

    def spelt(self) -> str:
        """A short text; "": everything is shown as it is."""
        if not self:
            return ""
        return " ".join((str(self.floor), *(f"{server}:{shown}" for server, shown in sorted(self.pairs.items()))))


def validities(text: str) -> Validities:
    """What `spelt` wrote. Raises ValueError."""
    if not text:
        return Validities()
    floor, *pairs = text.split(" ")
    found = {}
    for pair in pairs:
        server, shown = pair.split(":")
        found[int(server)] = int(shown)
    return Validities(found, int(floor))
