"""One body as it comes in, by DATA or by BDAT (RFC 5321 section 4.1.1.4, RFC 3030).

Knows where each way ends, and counts. Does not know replies, states or what the octets say.
"""

from __future__ import annotations

from onedomain.model.failure import Failure
from onedomain.protocol.smtp.body import DataReader
from onedomain.protocol.smtp.lines import Input


class DataIntake:
    """Up to the final dot."""

    last = True
    unwanted: Failure | None = None

    def __init__(self) -> None:
        self._reader = DataReader()
        self.ended = False

    def read(self, source: Input) -> bytes | None:
        """Body octets (maybe none); None when there is nothing to read."""
        data = source.take(len(source))
        if not data:
            return None
        body, used = self._reader.feed(data)
        if used >= 0:
            source.put_back(len(data) - used)
            self.ended = True
        return body


class ChunkIntake:
    """The `size` octets of one BDAT. `unwanted`: they belong to no message; dropped, then answered with this."""

    def __init__(self, size: int, last: bool, unwanted: Failure | None = None) -> None:
        self.size = size
        self.last = last
        self.unwanted = unwanted
        self._left = size

    @property
    def ended(self) -> bool:
        return self._left == 0

    def read(self, source: Input) -> bytes | None:
        if not self._left:
            return b""
        data = source.take(self._left)
        self._left -= len(data)
        return data or None


Intake = DataIntake | ChunkIntake
