"""Messages of one folder over IMAP, read: lists, changes, identities, bytes; and where delivery ids are.

Knows CONDSTORE and QRESYNC (RFC 7162), and how to do without. Leaves \\Seen and \\Recent alone. Memory is bounded by
one message at a time: the answer to a FETCH is read as fast as its messages are taken, no faster.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Collection, Iterator, Sequence
from contextlib import aclosing
from itertools import islice
from typing import Any

from onedomain.backend.finding import since_words
from onedomain.backend.imap_session import Answer
from onedomain.backend.link.base import Letter
from onedomain.backend.link.connection import Connection
from onedomain.backend.trouble import troubles
from onedomain.decision.link.actions import Rows
from onedomain.decision.link.identity import identity_of
from onedomain.model.message import DELIVERY_ID_HEADER
from onedomain.model.replica import Identity, Mark, Row
from onedomain.model.uids import Range, UidSet
from onedomain.protocol.imap.client import Argument, Command
from onedomain.protocol.imap.response import Big, ResponseError, Untagged, fetched
from onedomain.protocol.imap.rows import internal_date, message_flags
from onedomain.protocol.imap.sequence import MAX_TOLD, BadSet, format_set, parse_set

_ID = re.compile(r"[0-9a-z]{17}")
UIDS_AT_ONCE, OCTETS_AT_ONCE = 500, 4 << 20
"""The most of one FETCH of bodies: what its taker leaves has to be read all the same before the next command. How many
octets there will be is guessed from the messages before, from few of them with care."""
FIRST_UIDS = 8
"""Of a folder of which nothing is known yet: where messages are large, most of what is asked first is for nothing."""
AHEAD, AHEAD_OCTETS = 50, 65536
"""Of what is new so many messages are read before anybody has asked for their bytes, if they have fewer octets."""
IDS_AT_ONCE = 50
_LAST = 0xFFFF_FFFE
"""As the end of a range instead of `*`: that is the largest UID there is, and what was expunged above it vanishes."""


class Reading:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._ahead: tuple[str, int, dict[int, Letter]] = ("", 0, {})
        self._at_once = FIRST_UIDS

    async def read(self, folder: str, since: int, first: int) -> Rows:
        connection = self._connection
        opened = await connection.open_folder(folder)
        before = opened.mark
        if since and not connection.changes:
            raise connection.failed("changes are asked of a server that can't tell them")
        items = ["UID", "FLAGS", "INTERNALDATE", *(["MODSEQ"] if connection.changes else [])]
        words: list[Argument] = [f"{first}:{_LAST}", items]
        if since:
            words.append(["CHANGEDSINCE", since, "VANISHED"])
        rows: dict[int, Row] = {}
        vanished: list[Range] = []
        if before.messages or since:  # in an empty folder a set selects nothing, which some servers call an error
            rows, vanished = await self._rows(words, before)
        return self._read(before, rows, vanished, first)

    def _read(self, before: Mark, rows: dict[int, Row], vanished: list[Range], first: int = 1) -> Rows:
        connection = self._connection
        after = max(before.modseq, connection.parser.highest if rows else 0)
        there = sorted(rows)
        gone = UidSet.spanning(vanished).within(first, before.uidnext - 1).without(there)
        return Rows(before, tuple(rows[uid] for uid in there), gone, after if connection.changes else 0)

    async def _rows(self, words: list[Argument], before: Mark) -> tuple[dict[int, Row], list[Range]]:
        parser = self._connection.parser
        parser.collect()
        other: list[Row] = []
        vanished: list[Range] = []
        try:
            async with aclosing(self._connection.each("UID FETCH", *words)) as responses:
                async for response in responses:
                    with troubles(self._connection.session.doing):
                        self._note(response, other, vanished)
        finally:
            rows = parser.collected()
        return {row.uid: row for row in (*rows, *other)}, vanished

    def _note(self, response: Untagged, rows: list[Row], vanished: list[Range]) -> None:
        if response.name == "VANISHED":
            vanished.extend(_ranges(str(response.values[-1])))
            if len(vanished) > MAX_TOLD:
                raise ResponseError("more ranges of expunged messages than anybody had")
        elif response.name == "FETCH":
            found = fetched(response.values)
            if {"UID", "FLAGS", "INTERNALDATE"} <= found.keys():
                rows.append(Row(found["UID"], message_flags(found["FLAGS"]), _date(found)))

    # ---- together with other questions

    def questions(self, folder: str, since: int, bodies: int) -> list[Command]:
        """EXAMINE, the changes since a MODSEQ, and what is new with its bytes; to be sent together, the parser set to
        collect. Empty where that can't be.
        """
        connection = self._connection
        opening = connection.opening(folder) if connection.changes else None
        if opening is None:
            return []
        items = ["UID", "FLAGS", "INTERNALDATE", "MODSEQ"]
        make = connection.session.make
        return [
            opening, make("UID FETCH", f"1:{_LAST}", items, ["CHANGEDSINCE", since, "VANISHED"]),
            make("UID FETCH", f"{bodies}:{min(bodies + AHEAD - 1, _LAST)}",
                 [*items, f"BODY.PEEK[]<0.{AHEAD_OCTETS}>"]),
        ]

    def answered(self, folder: str, answers: Sequence[Answer], collected: list[Row]) -> Rows | None:
        """What `questions` were answered; None where the folder has to be read by itself."""
        connection = self._connection
        opened = connection.opened(folder, answers[0])
        if opened is None:
            return None
        for answer in answers[1:]:
            if not answer.ok and answer.code != "EXPUNGEISSUED":
                raise connection.refused("UID FETCH", answer)
        other: list[Row] = []
        vanished: list[Range] = []
        with troubles(connection.session.doing):
            for response in answers[1].untagged:
                self._note(response, other, vanished)
            # Dovecot says what it found for both FETCHes before it says OK to the first (RFC 9051 section 5.5).
            told = (response for answer in answers[1:] for response in answer.untagged)
            letters = [letter for each in told if (letter := _letter(each, "BODY[]<0>")) is not None]
        whole = {letter.uid: letter for letter in letters if len(letter.raw) < AHEAD_OCTETS}
        self._ahead = folder, opened.mark.uidvalidity, whole
        return self._read(opened.mark, {row.uid: row for row in (*collected, *other)}, vanished)

    # ---- messages

    async def identities(self, folder: str, uids: Sequence[int], uidvalidity: int) -> dict[int, Identity]:
        found = {}
        async with aclosing(self.letters(folder, uids, uidvalidity)) as letters:
            async for letter in letters:
                found[letter.uid] = letter.identity
        return found

    async def letters(self, folder: str, uids: Sequence[int], uidvalidity: int) -> AsyncGenerator[Letter, None]:
        connection = self._connection
        if (folder, uidvalidity) == self._ahead[:2] and all(uid in self._ahead[2] for uid in uids):
            for uid in sorted(set(uids)):
                yield self._ahead[2][uid]
            return
        opened = await connection.open_folder(folder)
        if uidvalidity not in (0, opened.mark.uidvalidity):
            raise connection.failed(f"{folder} has UIDVALIDITY {opened.mark.uidvalidity}, not {uidvalidity}")
        items = ["UID", "FLAGS", "INTERNALDATE", *(["MODSEQ"] if connection.changes else []), "BODY.PEEK[]"]
        left = iter(sorted(set(uids)))
        while some := list(islice(left, self._at_once)):
            last = taken = octets = 0
            wanted = set(some)
            async with aclosing(connection.each("UID FETCH", format_set(some).decode(), items)) as responses:
                async for response in responses:
                    with troubles(connection.session.doing):
                        letter = _letter(response)
                    if letter is None or letter.uid not in wanted:
                        continue
                    if letter.uid <= last:
                        raise connection.failed("messages come in no order")
                    last = letter.uid
                    taken += 1
                    octets += letter.octets or len(letter.raw)
                    most = min(UIDS_AT_ONCE, max(FIRST_UIDS, 4 * taken))
                    self._at_once = max(1, min(most, taken * OCTETS_AT_ONCE // max(1, octets)))
                    del response  # the next may be a while in coming
                    yield letter
                    del letter

    # ---- deliveries

    async def find(self, folders: Sequence[str], deliveries: Collection[str]) -> frozenset[str]:
        """Those of the ids that are in any of the folders. A folder that is gone by now is passed over."""
        left = {each.lower(): each for each in deliveries}
        found: set[str] = set()
        for folder in folders:
            if not left:
                break
            for each in await self._ids_in(folder, list(left.values())):
                if each.lower() in left:
                    found.add(left.pop(each.lower()))
        return frozenset(found)

    async def _ids_in(self, folder: str, deliveries: list[str]) -> set[str]:
        connection = self._connection
        opened = await connection.open_folder(folder)
        if not opened.mark.messages:
            return set()
        ids: set[str] = set()
        for start in range(0, len(deliveries), IDS_AT_ONCE):
            some = deliveries[start : start + IDS_AT_ONCE]
            words: list[Argument] = [*_since(some), *["OR"] * (len(some) - 1)]
            for each in some:
                words += ["HEADER", DELIVERY_ID_HEADER, each.encode()]
            answer = await connection.demand("UID SEARCH", *words, seconds=connection.session.door.times.search)
            uids = [uid for response in answer.named("SEARCH") for uid in response.values if isinstance(uid, int)]
            if uids:
                ids |= await self._ids_of(uids)
        return ids

    async def _ids_of(self, uids: list[int]) -> set[str]:
        """SEARCH compares substrings; what the header really says is read."""
        section = f"BODY.PEEK[HEADER.FIELDS ({DELIVERY_ID_HEADER})]"
        ids = set()
        async for response in self._connection.each("UID FETCH", format_set(uids).decode(), ["UID", section]):
            if response.name == "FETCH":
                with troubles(self._connection.session.doing):
                    found = fetched(response.values)
                header = next((value for key, value in found.items() if key.startswith("BODY[")), None)
                if isinstance(header, bytes) and (it := identity_of(header)).delivery:
                    ids.add(it.delivery)
        return ids


def _since(deliveries: Sequence[str]) -> list[str]:
    """Our ids begin with the time of arrival, in microseconds: what is older need not be read, and a server knows that
    from its index. Ids of another form say nothing.
    """
    if not all(map(_ID.fullmatch, deliveries)):
        return []
    return since_words(min(int(each[:10], 36) for each in deliveries) / 1_000_000)


def _letter(response: Untagged, section: str = "BODY[]") -> Letter | None:
    """None: another response, or flags that changed meanwhile."""
    if response.name != "FETCH":
        return None
    found = fetched(response.values)
    raw, uid = found.get(section), found.get("UID")
    octets = raw.size if isinstance(raw, Big) else 0
    if octets:
        raw = b""
    if not isinstance(raw, bytes) or not isinstance(uid, int) or "FLAGS" not in found or "INTERNALDATE" not in found:
        return None
    modseq = found.get("MODSEQ")
    number = modseq[0] if isinstance(modseq, list) and modseq and isinstance(modseq[0], int) else 0
    return Letter(uid, message_flags(found["FLAGS"]), _date(found), raw, number, octets)


def _date(found: dict[str, Any]) -> int:
    date = found["INTERNALDATE"]
    if not isinstance(date, bytes):
        raise ResponseError(f"no date: {date}")
    return internal_date(date)


def _ranges(text: str) -> Iterator[tuple[int, int]]:
    try:
        yield from parse_set(text.encode("latin-1", "replace"), MAX_TOLD).resolve(0)
    except BadSet as error:
        raise ResponseError(f"VANISHED: {error}: {text[:80]}") from None
