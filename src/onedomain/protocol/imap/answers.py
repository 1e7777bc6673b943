"""What somebody waits for in a home's bytes on their way to the client: tagged answers, one of them held, and "+".

Knows where lines begin and how literals are skipped, for a FETCH may carry a message that looks like an answer. Does
not know commands, nor when a held answer may go on. Never alters a byte, and the order stays: what comes behind a held
answer waits with it, and the caller stops reading meanwhile, so that it is no more than one read.

    data = answers.hear(data); answers.take_done(); if answers.held: ... data = answers.release()
    answers.ask(tag); ...; answers.take_wanted()

It has to hear from the first byte behind the log-in on, but for `skip()`. A chunk without a literal costs half a
microsecond, so that it can listen all the time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

from onedomain.protocol.imap.lines import announced

T = TypeVar("T")

MAX_TAG = 256
"""Longer tags are nobody's; the line of one would have to be kept back as far as its tag goes."""

MAX_AWAITED = 1000
"""Commands under way in one session; more are not waited for."""

_BEGINNING = MAX_TAG + 8  # bytes of a line that tell what it is
_ANNOUNCEMENT = 26  # bytes from the end of a line, in which its literal is announced
_STATUS = re.compile(rb"(?i)\* (?:OK|NO|BAD|BYE|PREAUTH)(?: |\r?\n)")  # text to the end, whatever it looks like

_ENDS = re.compile(rb"\}\r?\n")  # of a line that may announce a literal
_REFUSAL = re.compile(rb"(?i)(?:NO|BAD)(?: |\r?\n)")


class Awaited(NamedTuple, Generic[T]):
    """`what` is the caller's own. `hold`: a tagged OK is kept back."""

    tag: bytes
    what: T
    hold: bool


class Answers(Generic[T]):
    __slots__ = (
        "_asked", "_awaited", "_begun", "_continued", "_done", "_kept", "_literal", "_tail", "_usual", "_wanted", "bye",
        "calm", "held",
    )  # fmt: skip

    def __init__(self) -> None:
        self.held: Awaited[T] | None = None
        self.bye = False          # the home has ended it in its own words
        self.calm = True          # what was heard last was passed on whole, and means nothing to anybody
        self._usual = True        # and it ended at a line's end: nothing of it is kept, nobody waits for anything
        self._awaited: list[Awaited[T]] = []
        self._done: list[Awaited[T]] = []
        self._asked: list[bytes] = []
        self._wanted: bool | None = None
        self._kept = b""          # not passed on yet: from the beginning of a line on
        self._begun = b""         # how the line that is not at its end began
        self._tail = b""          # and what it has last
        self._literal = 0         # bytes left of a literal
        self._continued = False   # the line goes on behind a literal

    def expect(self, tag: bytes, what: T, *, hold: bool = False) -> bool:
        """False: there are too many, or no answer will have such a tag."""
        if len(self._awaited) >= MAX_AWAITED or not 0 < len(tag) <= MAX_TAG:
            return False
        self._usual = False
        self._awaited.append(Awaited(tag, what, hold))
        return True

    def ask(self, tag: bytes) -> bool:
        """The client waits for "+" before it goes on with this command: a literal, IDLE. False: as with `expect`."""
        if len(self._asked) >= MAX_AWAITED or not 0 < len(tag) <= MAX_TAG:
            return False
        self._usual = False
        self._asked.append(tag)
        self._wanted = None
        return True

    def take_wanted(self) -> bool | None:
        """What the home said to the last that was asked: "+", or NO or BAD; None: nothing yet."""
        wanted, self._wanted = self._wanted, None
        return wanted

    def hear(self, data: bytes) -> bytes | None:
        """What may be passed on; None is all of it. With `held` set nothing more is heard until `release`."""
        if self._usual and data.endswith(b"\n") and b"}" not in data:
            if data.startswith(b"* BYE"):
                self.bye = True
            return None
        passed = self._hear(data)
        self._usual = self.calm and not (self._begun or self._continued or self._literal)
        return passed

    def _hear(self, data: bytes) -> bytes | None:
        self.calm = False
        kept = self._kept
        if kept:
            data = kept + data
            self._kept = b""
        if self.held is not None:
            self._kept = data
            return b""
        if self._literal >= len(data):
            self._literal -= len(data)
            passed = len(data)
        elif self._awaited or self._asked:
            passed = self._lines(data)
            self._kept = data[passed:]
        else:
            passed = len(data)
            if self._literal or b"}" in data or b"}" in self._tail:
                self._literals(data)
            else:
                self._plain(data)
                self.calm = not kept
        return None if passed == len(data) and not kept else data[:passed]

    def take_done(self) -> Sequence[Awaited[T]]:
        """What was answered, with OK or not, and is on its way; a held answer is not."""
        if not self._done:
            return ()
        done, self._done = self._done, []
        return done

    def take_open(self) -> Sequence[Awaited[T]]:
        """At the end: what was never answered, or is still held."""
        found = [*self._done, *([self.held] if self.held else ()), *self._awaited]
        self._done, self._awaited, self.held = [], [], None
        return found

    def release(self) -> bytes:
        """The held answer, and what may follow it; another one may be held then."""
        held, self.held = self.held, None
        data, self._kept = self._kept, b""
        if held is None:
            return data
        # This one line has been looked at: it is text to its end, whatever it says.
        end = data.find(b"\n") + 1
        if not end:
            self._begun, self._tail = data[:_BEGINNING], b""
            return data
        return data[:end] + self._heard(data[end:])

    @property
    def literal(self) -> int:
        """Bytes of a literal that are still to come and need not be heard, if the caller keeps them from here."""
        return 0 if self._kept or self.held is not None else self._literal

    @property
    def between(self) -> bool:
        """Nothing of a response has been passed on whose end has not."""
        return not (self._literal or self._continued or self._begun or self._kept or self.held)

    def skip(self) -> None:
        """The rest of the literal goes past it."""
        self._literal = 0

    def _heard(self, data: bytes) -> bytes:
        passed = self.hear(data) if data else data
        return data if passed is None else passed

    def _plain(self, data: bytes) -> None:
        """No literal in it, and nothing waited for: only where its last line stands."""
        at = data.rfind(b"\n") + 1
        if data.startswith(b"* BYE") and not (self._begun or self._continued):
            self.bye = True
        if at:
            self._continued = False
            self._begun = self._tail = b""
            if at == len(data):
                return
        self._go_on(data[at:])

    def _go_on(self, piece: bytes) -> None:
        """A line that is not at its end."""
        if len(self._begun) < _BEGINNING:
            self._begun = (self._begun + piece)[:_BEGINNING]
        self._tail = (self._tail + piece)[-_ANNOUNCEMENT:]

    def _literals(self, data: bytes) -> None:
        """Nothing is waited for: from one literal to the next."""
        at, size = self._over(data, 0), len(data)
        while at < size:
            if self._begun:
                end = data.find(b"\n", at) + 1
                if not end:
                    break
            else:
                found = _ENDS.search(data, at)
                if found is None:
                    break
                end = found.end()
                start = data.rfind(b"\n", at, found.start()) + 1
                if start:
                    at, self._continued = start, False
            begun = self._begun + data[at:min(end, at + _BEGINNING)]
            self._end_line(begun, self._tail + data[max(at, end - _ANNOUNCEMENT):end])
            at = self._over(data, end)
        if at < size:
            self._plain(data[at:])

    def _over(self, data: bytes, at: int) -> int:
        """Where a literal ends that goes on at `at`, as far as it is there."""
        if not self._literal:
            return at
        taken = min(self._literal, len(data) - at)
        self._literal -= taken
        return at + taken

    def _lines(self, data: bytes) -> int:
        """How much of it may be passed on."""
        at, size = 0, len(data)
        while at < size:
            if self._literal:
                at = self._over(data, at)
                continue
            end = data.find(b"\n", at) + 1
            if not end:
                if self._awaited and not self._continued and not self._begun:
                    piece = data[at:at + _BEGINNING]
                    if self._may_become(piece) or self._answered(piece):
                        return at
                self._go_on(data[at:])
                return size
            begun = self._begun + data[at:min(end, at + _BEGINNING)]
            if not self._continued:
                if begun.startswith(b"* BYE"):
                    self.bye = True
                if self._asked:
                    self._said(begun)
                if self._awaited and not self._begun and self._answered(begun):
                    return at
            self._end_line(begun, self._tail + data[max(at, end - _ANNOUNCEMENT):end])
            at = end
        return size

    def _end_line(self, begun: bytes, tail: bytes) -> None:
        literal = None
        if self._continued or (begun.startswith(b"* ") and not _STATUS.match(begun)):
            literal = announced(tail)
        self._begun = self._tail = b""
        self._continued = literal is not None
        self._literal = literal.size if literal is not None else 0

    def _said(self, line: bytes) -> None:
        """A whole line, or as much of it as is kept, that may be what a client waits for."""
        asked = self._asked
        if line.startswith(b"+"):
            del asked[0]
            self._wanted = True if not asked else None
            return
        tag, _, rest = line.partition(b" ")
        # A tag that is used again may be that of an earlier command, which was answered OK.
        if tag in asked and _REFUSAL.match(rest):
            asked.remove(tag)
            self._wanted = None if asked else False

    def _answered(self, line: bytes) -> bool:
        """Whether this line has to be held."""
        tag, _, rest = line.partition(b" ")
        for place, awaited in enumerate(self._awaited):
            if awaited.tag == tag:
                del self._awaited[place]
                if awaited.hold and rest[:2].upper() == b"OK":
                    self.held = awaited
                    return True
                self._done.append(awaited)
                return False
        return False

    def _may_become(self, piece: bytes) -> bool:
        """Whether the beginning of a line may be that of an awaited answer; it is kept until its status is there."""
        for awaited in self._awaited:
            start = awaited.tag + b" "
            if start.startswith(piece) or (piece.startswith(start) and len(piece) < len(start) + 2):
                return True
        return False
