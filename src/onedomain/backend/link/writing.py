"""Messages of one folder over IMAP, written: appended, flagged, expunged, burned.

Knows MULTIAPPEND (RFC 3502), UIDPLUS (RFC 4315), non-synchronising literals (RFC 7888), and which refusals are for
good. Does not know why anything is written. Waits for every answer: a UID EXPUNGE pipelined behind STORE skips
messages (Dovecot).

A server that does not understand an APPEND takes the literal that follows for commands: the sender of a message could
command the mailbox. So a literal leaves unasked only to kinds of servers that are known to swallow what they refuse,
and only after words that they surely understand.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from onedomain.backend.imap_session import Answer
from onedomain.backend.link.base import Letter, May, More, always, chunks, octets_of
from onedomain.backend.link.connection import Connection, Opened, for_good, wire
from onedomain.backend.link.helpers import HELPERS, Helpers
from onedomain.backend.link.lanes import Turns, side_by_side
from onedomain.decision.link.actions import Copied, Refused
from onedomain.decision.link.identity import filler, identity_of
from onedomain.model.replica import Identity
from onedomain.protocol.imap.client import Command, quoted
from onedomain.protocol.imap.flags import SYSTEM
from onedomain.protocol.imap.render import internal_date
from onedomain.protocol.imap.response import Untagged, fetched
from onedomain.protocol.imap.rows import message_flags
from onedomain.protocol.imap.sequence import BadSet, format_set, parse_set

AT_ONCE = 100
BYTES_AT_ONCE = 1024 * 1024
STALL, FAST = 3.0, 1_000_000
"""Seconds without anything final, besides one for so many octets, after which a server is believed to lock what it
writes to from the first octet of an APPEND on: whose turn it is then waits for one who waits for him (Dovecot's mdbox).
"""
PART, PART_BYTES, MANY = 25, 256 * 1024, 4
"""The most of an APPEND beside others, and how many such there must be that other sessions are opened for it."""
HELD = 4 * 1024 * 1024
"""Octets of parts that are not final, from which on no more are asked for."""
SLOWEST = 100_000
"""Bytes per second that a server takes at least, or its time is up."""

_PLAIN = re.compile(r"[A-Za-z0-9$_.:+/-]{1,50}")
_ATOM = re.compile(r"[!#$&'+,./0-9:;<=>?@A-Z^_`a-z|}~-]{1,255}")


class Writing:
    """`unasked`: literals may leave without waiting, where LITERAL+ is announced. `helpers`: further sessions of the
    account, of a kind of server that keeps an APPEND to itself until its last octet.
    """

    def __init__(self, connection: Connection, *, unasked: bool, helpers: Helpers | None = None) -> None:
        self._connection = connection
        self._helpers = helpers
        self._unasked = unasked and connection.can("LITERAL+")
        self._several = connection.can("MULTIAPPEND")
        self._names_uids = connection.can("UIDPLUS")

    def expect(self, messages: int) -> None:
        """A log-in takes the server longer than to list what is to come."""
        if self._unasked and self._several and self._helpers is not None and messages >= MANY * PART:
            self._helpers.called()

    async def append(
        self, folder: str, letters: Sequence[Letter], more: More | None = None, may: May = always
    ) -> tuple[Copied | Refused, ...]:
        """Who does it all alone leaves `more` to whoever called."""
        outcomes: list[Copied | Refused] = []
        helpers = self._helpers if self._unasked and self._several else None
        parts = list(self._chunks(letters, PART, PART_BYTES)) if helpers is not None else []
        if helpers is not None and len(parts) >= (2 if helpers.there else MANY):
            letters = ()  # what is final is nobody's any more
            letters, alone = await self._append_side_by_side(folder, parts, more, may, helpers, outcomes)
            if alone:
                self._helpers = None
                helpers.useless()
            if outcomes and isinstance(outcomes[-1], Refused):
                return tuple(outcomes)
        for chunk in self._chunks(letters):
            if not may():
                break
            done = await self._append(folder, chunk)
            outcomes += done
            if not _whole(chunk, done):
                break
        return tuple(outcomes)

    async def burn(self, folder: str, first: int, count: int) -> tuple[Copied | Refused, ...]:
        flags = frozenset(("\\Seen", "\\Deleted"))
        return await self.append(folder, [Letter(0, flags, 0, filler(folder, first + i)) for i in range(count)])

    async def set_flags(self, folder: str, uids: Sequence[int], flags: frozenset[str]) -> frozenset[str]:
        """Returns those that the server doesn't keep.

        Each of these messages gets a new MODSEQ, also one that has these flags already: a client may have seen others
        on the source that were taken back before they came here, and would never hear of it.
        """
        opened = await self._connection.open_folder(folder, write=True)
        kept = [flag for flag in sorted(flags) if _sendable(flag) and opened.keeps(flag)]
        answer = await self._store(opened, uids, "FLAGS", kept)
        if not answer.ok:  # keywords too long, or too many
            kept = [flag for flag in kept if flag in SYSTEM]
            answer = await self._store(opened, uids, "FLAGS", kept)
        if not answer.ok:
            raise self._connection.refused("UID STORE", answer)
        answers = [answer]
        left = sorted(set(uids) - {_uid(each) for each in answer.named("FETCH")})
        if left and self._connection.changes and opened.mark.messages:
            turned = "-FLAGS.SILENT" if "\\Answered" in kept else "+FLAGS.SILENT"
            for what, these in ((turned, ["\\Answered"]), ("FLAGS", kept)):
                answers.append(await self._store(opened, left, what, these))
                if not answers[-1].ok:
                    raise self._connection.refused("UID STORE", answers[-1])
        shown = [_flags(each) for each in (*answers[0].named("FETCH"), *answers[-1].named("FETCH"))]
        lost = {flag for now in shown if now is not None for flag in kept if flag.lower() not in now}
        return (flags - frozenset(kept)) | lost

    async def expunge(self, folder: str, uids: Sequence[int]) -> None:
        if not self._names_uids:
            raise self._connection.failed("no UIDPLUS: nothing can be expunged by its UID")
        opened = await self._connection.open_folder(folder, write=True)
        answer = await self._store(opened, uids, "+FLAGS.SILENT", ["\\Deleted"])
        if not answer.ok:
            raise self._connection.refused("UID STORE", answer)
        await self._connection.demand("UID EXPUNGE", format_set(uids).decode())

    async def expunge_deleted(self, folder: str) -> None:
        await self._connection.open_folder(folder, write=True)
        await self._connection.demand("EXPUNGE")

    async def _store(self, opened: Opened, uids: Sequence[int], what: str, flags: list[str]) -> Answer:
        return await self._connection.ask("UID STORE", format_set(uids).decode(), what, flags)

    # ---- appending

    def _chunks(
        self, letters: Sequence[Letter], at_once: int = AT_ONCE, most: int = BYTES_AT_ONCE
    ) -> Iterator[list[Letter]]:
        return chunks(letters, at_once if self._several else 1, most)

    async def _append(self, folder: str, chunk: Sequence[Letter]) -> list[Copied | Refused]:
        """One chunk; where it is refused one by one, to find which it was, and no further than that."""
        if self._fits(chunk):
            return await self._answered(folder, chunk, await self._send(folder, chunk))
        if len(chunk) == 1:
            limit = self._connection.limit("APPENDLIMIT")
            return [Refused(f"larger than the server's limit of {limit} bytes", identity_of(chunk[0].raw))]
        return await self._one_by_one(folder, chunk)

    def _fits(self, chunk: Sequence[Letter]) -> bool:
        limit = self._connection.limit("APPENDLIMIT")
        return limit is None or all(len(letter.raw) <= limit for letter in chunk)

    async def _answered(
        self, folder: str, chunk: Sequence[Letter], answer: Answer, identities: Sequence[Identity] = ()
    ) -> list[Copied | Refused]:
        """`identities` of the letters, if they are known."""
        if answer.tagged.status == "BAD":
            # What it read of the rest as commands nobody knows; nothing more is said here.
            self._connection.close()
        if answer.ok:
            uids = self._uids(answer, len(chunk))
            known = identities or [identity_of(each.raw) for each in chunk]
            return [Copied(uid, identity) for uid, identity in zip(uids, known, strict=True)]
        if len(chunk) == 1:
            return [await self._refusal(folder, chunk[0], answer)]
        if not for_good(answer):
            raise self._connection.refused(f"APPEND {folder}", answer)
        return await self._one_by_one(folder, chunk)

    async def _one_by_one(self, folder: str, chunk: Sequence[Letter]) -> list[Copied | Refused]:
        outcomes: list[Copied | Refused] = []
        for letter in chunk:
            outcomes += await self._append(folder, [letter])
            if isinstance(outcomes[-1], Refused):
                break
        return outcomes

    async def _refusal(self, folder: str, letter: Letter, answer: Answer) -> Copied | Refused:
        if not for_good(answer):
            raise self._connection.refused(f"APPEND {folder}", answer)
        system = letter.flags & frozenset(SYSTEM)
        if answer.code in ("CANNOT", "LIMIT") and system != letter.flags:  # its keywords may be the reason
            again = await self._send(folder, [replace(letter, flags=system)])
            if again.ok:
                return Copied(self._uids(again, 1)[0], identity_of(letter.raw))
        # Dovecot says it also of a full disk; what is deleted makes room.
        return Refused(answer.words, identity_of(letter.raw), for_now=answer.code == "OVERQUOTA")

    async def _send(self, folder: str, chunk: Sequence[Letter]) -> Answer:
        tag, pieces = self._spelt(folder, chunk)
        if len(pieces[-1]) > BYTES_AT_ONCE:  # no copy of it for the sake of its end
            half = Half(self._connection, tag, pieces, self._seconds(chunk))
            await half.begin()
            return await half.end()
        pieces[-1] += b"\r\n"
        return await self._connection.run(Command(tag, tuple(pieces)), seconds=self._seconds(chunk))

    def _spelt(self, folder: str, chunk: Sequence[Letter]) -> tuple[str, list[bytes]]:
        """An APPEND's tag and pieces, the server being waited for after each but the last, which lacks its line end."""
        pieces: list[bytes] = []
        command = self._connection.session.make("APPEND", wire(folder))
        line = b"".join(command.pieces).removesuffix(b"\r\n")
        if quoted(wire(folder)) is None:
            raise self._connection.failed(f"{folder!a} is no name for an APPEND")
        current = [line]
        for letter in chunk:
            flags = [flag for flag in sorted(letter.flags) if _sendable(flag)]
            small = len(letter.raw) <= BYTES_AT_ONCE  # else it is sent as it is, from where it lies
            unasked = self._unasked and small and all(flag in SYSTEM or _PLAIN.fullmatch(flag) for flag in flags)
            current.append(b" (%s) %s {%d%s}\r\n" % (
                " ".join(flags).encode("ascii"), internal_date(letter.date), len(letter.raw), b"+" if unasked else b""
            ))
            if not unasked:
                pieces.append(b"".join(current))
                current = []
            current.append(letter.raw)
        pieces.append(b"".join(current))
        return command.tag, pieces

    def _seconds(self, chunk: Sequence[Letter]) -> float:
        return self._connection.session.door.times.command + octets_of(chunk) / SLOWEST

    # ---- appending side by side

    async def _append_side_by_side(
        self, folder: str, parts: list[list[Letter]], more: More | None, may: May, helpers: Helpers,
        outcomes: list[Copied | Refused],
    ) -> tuple[list[Letter], bool]:
        """What is left; and whether that is so because they stand in each other's way: a beginning was appended.
        `parts` is emptied.
        """
        turns = Turns(parts, octets_of, more=more is not None, may=may)
        largest = max(map(octets_of, parts))
        parts.clear()
        stalled = False

        async def watch() -> None:
            nonlocal stalled
            stalled = await turns.watch(lambda: STALL + (HELPERS + 1) * max(largest, PART_BYTES) / FAST)

        async def feed() -> None:
            nonlocal largest
            while more is not None and await turns.room(HELD) and not helpers.crowded():
                if not (letters := await more()):
                    break
                following = list(self._chunks(letters, PART, PART_BYTES))
                largest = max(largest, *map(octets_of, following))
                turns.add(following)
                del letters, following  # the next may be a while in coming
            turns.close()

        async def help_out(coming: asyncio.Future[Connection | None]) -> None:
            if (connection := await turns.or_over(coming)) is not None:
                await Writing(connection, unasked=True)._take_part(folder, turns, outcomes)

        await side_by_side((
            watch(), feed(), self._take_part(folder, turns, outcomes), *(help_out(each) for each in helpers.called())
        ))
        return [letter for part in turns.left for letter in part] if stalled else [], stalled

    async def _take_part(self, folder: str, turns: Turns[list[Letter]], outcomes: list[Copied | Refused]) -> None:
        """One session's share."""
        while (taken := await turns.take()) is not None:
            if not await self._hand_over(folder, *taken, turns, outcomes):
                return
            del taken  # the next may be a while in coming

    async def _hand_over(
        self, folder: str, number: int, chunk: list[Letter], turns: Turns[list[Letter]],
        outcomes: list[Copied | Refused],
    ) -> bool:
        """Everything of an APPEND but its end, which is what makes it final, when it is due. Whether it was of use."""
        half = None
        if self._fits(chunk):
            half = Half(self._connection, *self._spelt(folder, chunk), self._seconds(chunk))
        identities: list[Identity] = []
        if half is not None:
            await half.begin()
            identities += [identity_of(each.raw) for each in chunk]  # while the server has enough to do
        if not await turns.turn(number):
            if half is not None:
                await half.take_back()
            return False
        if half is not None:
            done = await self._answered(folder, chunk, await half.end(), identities)
        else:
            done = await self._append(folder, chunk)
        outcomes.extend(done)
        if not _whole(chunk, done):
            turns.stop()
            return False
        turns.final()
        return True

    def _uids(self, answer: Answer, count: int) -> list[int]:
        code = answer.tagged.code
        if not self._names_uids or code is None or code.name != "APPENDUID" or len(code.values) != 2:
            return [0] * count
        try:
            ranges = parse_set(str(code.values[1]).encode("latin-1", "replace")).ranges
        except BadSet:
            ranges = ()
        uids = [uid for low, high in ranges if high - low < count for uid in range(low, high + 1)]
        if len(uids) != count:
            raise self._connection.failed(f"{count} messages were appended as {code.values}")
        return uids


class Half:
    """An APPEND on its way, whose last octets wait until it may be made final."""

    def __init__(self, connection: Connection, tag: str, pieces: Sequence[bytes], seconds: float) -> None:
        self._connection = connection
        self._tag = tag
        self._pieces = pieces
        self._seconds = seconds
        self._answer: Answer | None = None

    async def begin(self) -> None:
        await self._connection.begin()
        for piece in self._pieces[:-1]:
            self._answer = self._answer or await self._connection.offer(self._tag, piece, seconds=self._seconds)
        if self._answer is None:
            await self._connection.session.give(self._pieces[-1], seconds=self._seconds)

    async def end(self) -> Answer:
        return self._answer or await self._connection.conclude(self._tag, b"\r\n", seconds=self._seconds)

    async def take_back(self) -> None:
        """A message without an octet ends the whole command: RFC 3502 section 6.3.11."""
        if self._answer is None:
            await self._connection.conclude(self._tag, b" {0+}\r\n\r\n", seconds=self._seconds)


def _whole(chunk: Sequence[Letter], done: Sequence[Copied | Refused]) -> bool:
    return len(done) == len(chunk) and all(isinstance(each, Copied) for each in done)


def _sendable(flag: str) -> bool:
    return flag in SYSTEM or _ATOM.fullmatch(flag) is not None


def _uid(response: Untagged) -> int:
    found = fetched(response.values)
    uid = found.get("UID", 0)
    return uid if isinstance(uid, int) and "FLAGS" in found else 0


def _flags(response: Untagged) -> frozenset[str] | None:
    found = fetched(response.values)
    return frozenset(flag.lower() for flag in message_flags(found["FLAGS"])) if "FLAGS" in found else None
