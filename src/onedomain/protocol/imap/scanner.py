"""What a client changes: the client's bytes in a relay -> the commands that touch a mailbox, and which.

Knows IMAP commands as far as that takes, and the folder that is open. Does not know whether a command succeeded: a
Touch says "look there", not "it changed". Never alters a byte and never fails: a command it doesn't know is
Touch("UNKNOWN", ""). COMPRESS (RFC 4978) would blind it: see `refused_compress`.

    touches = scanner.scan(data); if scanner.waiting: rest = scanner.take_unread(); ... scanner.decided(wanted)

Behind a literal that the client has to ask for it reads no further: whether what follows is the literal or the next
command hangs on what the server says (protocol/imap/answers.py).

An ordinary command costs about a microsecond, as most of the traffic of a relay is NOOP, IDLE and FETCH.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from onedomain.protocol.imap.lines import Chunk, Fragmentizer, Limits, Line, Overrun


class Touch(NamedTuple):
    """`command` in capitals without UID; `folder` as the client spelt it, without quotes ("" where it has none).

    `tag` is what the answer will begin with, b"" where none can be told. `most`: of COPY, how many messages can come
    into the folder; 0 where nobody can tell. MOVE is a COPY and an EXPUNGE.
    """

    command: str
    folder: str
    tag: bytes = b""
    most: int = 0


UNKNOWN = Touch("UNKNOWN", "")
REFUSED = "REFUSED"

_SELECTED = -1
# Which arguments name a folder that the command changes; _SELECTED is the open one.
_CHANGES: dict[bytes, tuple[int, ...]] = {
    b"APPEND": (0,),
    b"CREATE": (0,),
    b"DELETE": (0,),
    b"RENAME": (0, 1),
    b"SUBSCRIBE": (0,),
    b"UNSUBSCRIBE": (0,),
    b"SETACL": (0,),         # RFC 4314
    b"DELETEACL": (0,),
    b"SETMETADATA": (0,),    # RFC 5464
    b"SETANNOTATION": (0,),  # its draft, still spoken by Cyrus
    b"STORE": (_SELECTED,),
    b"EXPUNGE": (_SELECTED,),
    b"REPLACE": (1, _SELECTED),  # RFC 8508
}
_HARMLESS = frozenset(
    b"CAPABILITY NOOP LOGOUT ID ENABLE NAMESPACE LANGUAGE COMPARATOR CHECK IDLE LIST LSUB XLIST RLIST RLSUB STATUS "
    b"SEARCH ESEARCH SORT THREAD GETACL LISTRIGHTS MYRIGHTS GETQUOTA GETQUOTAROOT GETMETADATA GETANNOTATION NOTIFY "
    b"GENURLAUTH RESETKEY URLFETCH CANCELUPDATE LOGIN AUTHENTICATE STARTTLS".split()
)
# What most lines are behind their tag.
_QUIET = frozenset(word + end for word in (b"NOOP", b"noop", b"Noop", b"CHECK", b"check") for end in (b"\r\n", b"\n"))
# FETCH of a body sets \Seen unless it is said with PEEK (RFC 9051 section 6.4.5).
_SETS_SEEN = re.compile(rb"(?i)BODY\[|BINARY\[|RFC822(?!\.(?:SIZE|HEADER))")
_WORD = re.compile(rb'(?s) +(?:"((?:[^"\\]|\\.)*)"|([^ "\r\n]+))')
_SET = re.compile(r"[0-9]{1,10}(?::[0-9]{1,10})?(?:,[0-9]{1,10}(?::[0-9]{1,10})?)*")
_ESCAPED = re.compile(rb"(?s)\\(.)")
_COMPRESS = re.compile(rb"(?i) *[^ ]+ +COMPRESS ")

_LIMITS = Limits(line=1024 * 1024, literal=1 << 62, command=1 << 63)
_LITERAL_KEPT = 1024        # a folder's name may be a literal; larger ones are bodies
_COMMAND_KEPT = 16_384      # of a command with literals; what names folders stands at its beginning
_SET_READ = 2_000           # octets
NO_TAG = b"*"               # what servers answer to a command without one


class Scanner:
    """`scan` is given every byte of the client. `asked`: tags of commands whose client waits for "+" from now on, in
    order, a literal's as the last; the caller empties it."""

    __slots__ = (
        "_command", "_kept", "_lines", "_literal", "_literals", "_read_only", "asked", "folder", "idle", "leaving",
        "refuses",
    )  # fmt: skip

    def __init__(self) -> None:
        self.folder = ""
        self.refuses: Callable[[bytes], bool] | None = None  # commands that are Touch(REFUSED, "")
        self._read_only = False
        self._lines: Fragmentizer | None = None  # made for the first thing that is not one whole line
        self._command: list[bytes] = []   # a command with literals so far, these as quoted strings
        self._kept = 0
        self._literals = 0                # of the command: messages
        self._literal: list[bytes] | None = None  # None: not kept
        self.asked: list[bytes] = []
        self.leaving = False              # the client has said LOGOUT
        self.idle = True                  # between commands, nothing unread

    @property
    def waiting(self) -> bool:
        """The client waits for "+": whether it sends its literal hangs on what the server says."""
        return self._lines is not None and self._lines.undecided is not None

    def scan(self, data: bytes) -> Sequence[Touch]:
        tag, _, rest = data.partition(b" ")
        if rest in _QUIET and self.idle and tag.isalnum():
            return ()
        if self.idle and data.find(b"\n") == len(data) - 1 and b"}" not in data[-3:]:
            return self._finished(data)
        return self._scan_pieces(data)

    def take_unread(self) -> bytes:
        """While `waiting`: what has come behind the literal's announcement. To be scanned once it is decided."""
        return self._lines.take_rest() if self._lines is not None else b""

    def decided(self, wanted: bool) -> None:
        """The server has said "+", or that the command is over."""
        if self._lines is None:
            return
        if wanted:
            self._lines.accept()
        else:
            self._lines.refuse()
            self._forget_command()
        self._scan_pieces(b"")

    def _scan_pieces(self, data: bytes) -> Sequence[Touch]:
        touches: list[Touch] = []
        lines = self._lines = self._lines or Fragmentizer(_LIMITS)
        lines.receive(data)
        while (event := lines.next_event()) is not None:
            if isinstance(event, Line):
                touches += self._line(event)
            elif isinstance(event, Chunk):
                self._chunk(event)
            elif isinstance(event, Overrun):
                self._forget_command()
                touches.append(UNKNOWN)
        self.idle = not lines.unread and lines.between_commands and not self._command
        return touches

    def _line(self, line: Line) -> Sequence[Touch]:
        if line.literal is None:
            if not self._command:
                return self._finished(line.data)
            self._keep(line.data)
            whole, several = b"".join(self._command), self._literals > 1
            self._forget_command()
            touches = self._finished(whole)
            if several:  # RFC 3502
                touches = [t._replace(command="MULTIAPPEND") if t.command == "APPEND" else t for t in touches]
            return touches
        self._keep(line.data[:line.data.rindex(b"{")].removesuffix(b"~"))
        self._literals += len(self._command) > 1 or len(line.data.split(None, 3)) > 3  # else it is the folder's name
        self._literal = [] if line.literal.size <= _LITERAL_KEPT else None
        if line.literal.sync:
            self.asked.append(_tag(self._command[0]) if self._command else NO_TAG)
        return ()

    def _chunk(self, chunk: Chunk) -> None:
        if self._literal is not None:
            self._literal.append(chunk.data)
        if chunk.last:
            value = b"".join(self._literal or ())
            self._literal = None
            self._keep(b'"' + value.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"')

    def _keep(self, text: bytes) -> None:
        if self._kept < _COMMAND_KEPT:
            self._command.append(text)
            self._kept += len(text)

    def _forget_command(self) -> None:
        self._command = []
        self._kept = self._literals = 0
        self._literal = None

    def _finished(self, line: bytes) -> Sequence[Touch]:
        words = line.split(None, 3)
        if len(words) < 2:
            # An empty line, and the DONE that ends IDLE (RFC 2177), are no commands.
            return () if not words or words[0].upper() == b"DONE" else (Touch("UNKNOWN", "", words[0]),)
        if self.refuses is not None and self.refuses(line):
            return (Touch(REFUSED, "", words[0]),)
        name = words[1].upper()
        uid = name == b"UID" and len(words) > 2
        if uid:
            name = words[2].upper()
        if name == b"FETCH":
            if self._read_only or not _SETS_SEEN.search(line):
                return ()
            return (Touch("FETCH", self.folder, words[0]),)
        if name in _HARMLESS:
            if name == b"IDLE":
                self.asked.append(words[0])
            elif name == b"LOGOUT":
                self.leaving = True
            return ()
        return self._act(words[0], name, line, 2 if uid else 1)

    def _act(self, tag: bytes, name: bytes, line: bytes, words: int) -> Sequence[Touch]:
        folders = _CHANGES.get(name)
        if folders is not None:
            command = name.decode("ascii")
            arguments = [] if folders == (_SELECTED,) else _arguments(line, words)
            touched = (self.folder if which == _SELECTED else _nth(arguments, which) for which in folders)
            return [Touch(command, folder, tag) for folder in dict.fromkeys(touched)]
        if name in (b"COPY", b"MOVE"):  # RFC 6851
            arguments = _arguments(line, words)
            copy = Touch("COPY", _nth(arguments, 1), tag, _most(_nth(arguments, 0)))
            return (copy,) if name == b"COPY" else (copy, Touch("EXPUNGE", self.folder, tag))
        if name in (b"SELECT", b"EXAMINE"):
            self.folder = _nth(_arguments(line, words), 0)
            self._read_only = name == b"EXAMINE"
            return ()
        if name in (b"CLOSE", b"UNSELECT"):
            folder, self.folder = self.folder, ""
            # CLOSE expunges, UNSELECT (RFC 3691) doesn't.
            return (Touch("CLOSE", folder, tag),) if name == b"CLOSE" and not self._read_only else ()
        if name in (b"COMPRESS", b"UNAUTHENTICATE"):
            return (Touch(name.decode("ascii"), "", tag),)
        return (Touch("UNKNOWN", "", tag),)


def refused_compress(data: bytes) -> bytes | None:
    """`data`, whose last line is COMPRESS, with a mechanism that no server knows: it says NO or BAD, and all goes on as
    before. None where more follows: RFC 4978 section 3 has clients wait, so somebody means harm.
    """
    line = data.rstrip(b"\r\n")
    before, _, last = line.rpartition(b"\n")
    if not data.endswith(b"\n") or (before and not _COMPRESS.match(last)):
        return None
    return line + b"-\r\n"


def _tag(line: bytes) -> bytes:
    words = line.split(None, 1)
    return words[0] if words else NO_TAG


def _arguments(line: bytes, words: int) -> list[str]:
    """The first three after the tag and `words` words of command."""
    start = len(line) - len(line.lstrip(b" "))
    at = line.find(b" ", start)
    found: list[str] = []
    while at >= 0 and len(found) < words + 3:
        match = _WORD.match(line, at)
        if match is None:
            break
        text = _ESCAPED.sub(rb"\1", match[1]) if match[1] is not None else match[2]
        found.append(text.decode("utf-8", "surrogateescape"))
        at = match.end()
    return found[words:]


def _most(messages: str) -> int:
    """How many a set of numbers can name (RFC 9051 section 9, sequence-set); 0 where it has no end, or is long."""
    if len(messages) > _SET_READ or _SET.fullmatch(messages) is None:
        return 0
    count = 0
    for part in messages.split(","):
        first, _, last = part.partition(":")
        count += abs(int(last or first) - int(first)) + 1
    return count


def _nth(arguments: list[str], which: int) -> str:
    if which >= len(arguments):
        return ""
    # INBOX has no case (RFC 9051 section 5.1); every other name has.
    return "INBOX" if arguments[which].upper() == "INBOX" else arguments[which]
