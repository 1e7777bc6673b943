r"""What is in a folder, asked for in one write: SELECT, and UID, size and flags of each message.

Knows both commands and the shapes their answers nearly always have, `* 7 FETCH (UID 9 RFC822.SIZE 310 FLAGS (\Seen))`
with its items in any order: those take no detour, so that a thousand messages are 1.6 ms instead of 5.5. Every other
response is the ordinary parser's. Does not know what is done with the messages.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from onedomain.protocol.imap.client import Commands
from onedomain.protocol.imap.response import (
    Event,
    ResponseError,
    ResponseLimits,
    ResponseParser,
    Tagged,
    Untagged,
    fetched,
)

MAX_LISTED = 2_000_000
MAX_FLAGS = 10_000

_LINE = re.compile(
    rb"\* (?:(\d{1,10}) EXISTS|OK \[UIDVALIDITY (\d{1,10})\][^\r\n]*|OK \[[^\r\n]*|\d{1,10} RECENT"
    rb'|FLAGS \([^()"{\r\n]*\)|\d{1,10} FETCH \((?: ?UID (\d{1,10})| ?RFC822\.SIZE (\d{1,20})'
    rb'| ?FLAGS \(([^()"{\r\n]*)\)| ?MODSEQ \(\d{1,20}\))+\))\r?\n'
)


class Listed(NamedTuple):
    uid: int
    size: int
    seen: bool
    deleted: bool


class FolderParser(ResponseParser):
    """`open` gives what to send; then `receive` and `opened`, until that is not None. After it an ordinary parser.

    `uidvalidity` 0: none was told.
    """

    def __init__(self, limits: ResponseLimits | None = None) -> None:
        super().__init__(limits)
        self.uidvalidity = 0
        self._exists = 0
        self._opening = False
        self._selected = False
        self._listed: dict[int, Listed] = {}
        self._flags: dict[bytes, tuple[bool, bool]] = {}
        self._tags = ("", "")

    def open(self, folder: str) -> bytes:
        """The UIDs are asked for without knowing whether there are any: 1:* in an empty folder is an error to some
        servers, which costs less than a round trip for all. Its answer comes second (RFC 9051 section 5.5).
        """
        words, self._tags = _opening(folder)
        self._opening = True
        return words

    def opened(self) -> list[Listed] | None:
        """By rising UID; None: more is to come. Raises ResponseError for a No, too."""
        while (event := self.next_event()) is not None:
            if isinstance(event, Tagged):
                if self._answered(event):
                    self._opening = False
                    return sorted(self._listed.values())
            elif isinstance(event, Untagged):
                self._note(event)
        return None

    def _answered(self, answer: Tagged) -> bool:
        select, fetch = self._tags
        if not self._selected:
            if answer.tag != select or answer.status != "OK":
                raise ResponseError(f"SELECT: {answer.status} {answer.text}")
            if not self.uidvalidity:
                raise ResponseError("SELECT: no UIDVALIDITY")
            self._selected = True
            return False
        if answer.tag != fetch or (answer.status != "OK" and self._exists):
            raise ResponseError(f"UID FETCH: {answer.status} {answer.text}")
        return True

    def _line(self, line: bytes) -> Event | None:
        found = _LINE.fullmatch(line) if self._opening and not self._pieces else None
        if found is None:
            return super()._line(line)
        exists, uidvalidity, uid, size, flags = found.groups()
        if uid is not None and size is not None:
            self._keep(int(uid), int(size), flags or b"")
        elif exists is not None:
            self._exists = int(exists)
        elif uidvalidity is not None:
            self.uidvalidity = int(uidvalidity)
        return None

    def _note(self, response: Untagged) -> None:
        if response.name == "EXISTS" and response.number is not None:
            self._exists = response.number
        elif response.name == "FETCH":
            items = fetched(response.values)
            uid, size, flags = items.get("UID"), items.get("RFC822.SIZE"), items.get("FLAGS")
            # Without both it is about flags alone, and sent of the server's own accord.
            if isinstance(uid, int) and isinstance(size, int):
                self._keep(uid, size, " ".join(map(str, flags)).encode() if isinstance(flags, list) else b"")
        elif response.code is not None and response.code.name == "UIDVALIDITY":
            first = response.code.values[0] if response.code.values else 0
            self.uidvalidity = first if isinstance(first, int) else 0

    def _keep(self, uid: int, size: int, flags: bytes) -> None:
        known = self._flags.get(flags)
        if known is None:
            names = flags.lower().split()
            known = b"\\seen" in names, b"\\deleted" in names
            if len(self._flags) < MAX_FLAGS:
                self._flags[flags] = known
        self._listed[uid] = Listed(uid, size, *known)
        if len(self._listed) > MAX_LISTED:
            raise ResponseError("more messages than anybody has")


@lru_cache(64)
def _opening(folder: str) -> tuple[bytes, tuple[str, str]]:
    """The commands, and their tags, of a series of their own."""
    commands = Commands(prefix="o")
    select = commands.make("SELECT", folder.encode("ascii"))
    fetch = commands.make("UID FETCH", "1:*", ["UID", "RFC822.SIZE", "FLAGS"])
    return select.data + fetch.data, (select.tag, fetch.tag)
