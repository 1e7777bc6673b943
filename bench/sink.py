"""The server behind all proxies and relays: says yes to everything, keeps nothing, costs as little as it can.

    python -m bench.sink --imap 12001 --pop3 12002 --lmtp 12003 --count FILE [--folder 5] [--bulk 104857600]

IMAP with an INBOX of some small messages and one large body, POP3 with the same, SMTP and LMTP without a disk. Its CPU
time is nobody's in the tables. How many messages it has taken stands in the first eight octets of FILE.
"""

from __future__ import annotations

import argparse
import asyncio
import mmap
import resource
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

import uvloop

CAPABILITIES = b"IMAP4rev1 LITERAL+ SASL-IR AUTH=PLAIN ID UIDPLUS IDLE"
CHUNK = b"x" * 78 + b"\r\n"
SMALL = b"Subject: x\r\n\r\n" + CHUNK * 12


class Counter:
    """A number in a file that another process may look at."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        if create:
            path.write_bytes(bytes(8))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 8)
        self._value = 0

    @property
    def value(self) -> int:
        return int(struct.unpack("Q", self._map[:8])[0])

    def add(self) -> None:
        self._value += 1
        self._map[:8] = struct.pack("Q", self._value)


class SlowDisk:
    """A disk that is given: so many writes a second, one after another. 0: none, the answer leaves at once."""

    def __init__(self, writes_per_second: float) -> None:
        self.writes_per_second = writes_per_second
        self._free = 0.0

    def write(self, done: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self._free = max(self._free, loop.time()) + 1 / self.writes_per_second
        loop.call_at(self._free, done)


class Lines(asyncio.Protocol):
    """Splits into lines; `line` returns what to answer."""

    greeting = b""
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.rest = b""
        self.transport.write(self.greeting)

    def data_received(self, data: bytes) -> None:
        lines = (self.rest + data).split(b"\r\n")
        self.rest = lines.pop()
        if answer := b"".join([self.line(line) for line in lines]):
            self.transport.write(answer)

    def line(self, line: bytes) -> bytes:
        raise NotImplementedError

    def leave(self, answer: bytes) -> bytes:
        self.transport.write(answer)
        self.transport.close()
        return b""


class Imap(Lines):
    greeting = b"* OK [CAPABILITY " + CAPABILITIES + b"] sink\r\n"
    messages = 0
    bulk = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.tag = b""

    def line(self, line: bytes) -> bytes:
        if self.tag:  # the next piece of a LOGIN in literals, or the answer to a challenge
            return self._goes_on(self.tag, line)
        tag, _, command = line.partition(b" ")
        word = command[:8].upper()
        if word.startswith((b"LOGIN", b"AUTHENTI")):
            return self._goes_on(tag, command if command.rstrip().upper() != b"AUTHENTICATE PLAIN" else b"{}")
        if word.startswith(b"LOGOUT"):
            return self.leave(b"* BYE\r\n" + tag + b" OK bye\r\n")
        if word.startswith((b"SELECT", b"EXAMINE")):
            return b"* %d EXISTS\r\n* OK [UIDVALIDITY 1] v\r\n%s OK [READ-WRITE] in\r\n" % (self.messages, tag)
        if word.startswith(b"UID FETC"):
            return self._list(tag)
        if word.startswith(b"FETCH"):
            return self._body(tag)
        if word.startswith(b"CAPABILI"):
            return b"* CAPABILITY " + CAPABILITIES + b"\r\n" + tag + b" OK\r\n"
        if word.startswith(b"ID "):
            return b"* ID NIL\r\n" + tag + b" OK\r\n"
        return tag + b" OK done\r\n"

    def _goes_on(self, tag: bytes, line: bytes) -> bytes:
        if line.endswith(b"}") and not line.endswith(b"+}"):
            self.tag = tag
            return b"+ go on\r\n"
        self.tag = b""
        return tag + b" OK [CAPABILITY " + CAPABILITIES + b"] in\r\n"

    def _list(self, tag: bytes) -> bytes:
        lines = [b"* %d FETCH (UID %d RFC822.SIZE %d FLAGS ())\r\n" % (n, n, len(SMALL)) for n in self._numbers()]
        return b"".join(lines) + tag + b" OK\r\n"

    def _body(self, tag: bytes) -> bytes:
        self.transport.write(b"* 1 FETCH (BODY[] {%d}\r\n" % len(self.bulk))
        self.transport.write(self.bulk)
        return b")\r\n" + tag + b" OK\r\n"

    def _numbers(self) -> range:
        return range(1, self.messages + 1)


class Pop3(Lines):
    greeting = b"+OK sink\r\n"

    def line(self, line: bytes) -> bytes:
        word = line[:4].upper()
        if word == b"QUIT":
            return self.leave(b"+OK bye\r\n")
        if word == b"CAPA":
            return b"+OK\r\nUSER\r\nPIPELINING\r\nUIDL\r\nSASL PLAIN\r\n.\r\n"
        if word == b"STAT":
            return b"+OK %d %d\r\n" % (Imap.messages, Imap.messages * len(SMALL))
        if word == b"AUTH" and line.count(b" ") < 2:
            return b"+ \r\n"
        return b"+OK\r\n"


class Smtp(Lines):
    """RFC 5321, and RFC 2033 where `lmtp` is set: an answer for every recipient."""

    greeting = b"220 sink ESMTP\r\n"
    hello = b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n250 SIZE\r\n"
    lmtp = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.recipients = 0
        self.body = False

    def data_received(self, data: bytes) -> None:
        if not self.body:
            super().data_received(data)
            return
        # Only the end matters: the last five octets are kept, the message is not.
        seen = self.rest + data
        if (at := seen.find(b"\r\n.\r\n")) < 0:
            self.rest = seen[-4:]
            return
        self.body, self.rest = False, b""
        answer = b"250 2.0.0 taken\r\n" * (self.recipients if self.lmtp else 1)
        self.recipients = 0
        if DISK.writes_per_second:
            DISK.write(partial(self._taken, answer))
        else:
            self._taken(answer)
        if after := seen[at + 5 :]:
            self.data_received(after)

    def _taken(self, answer: bytes) -> None:
        COUNTER.add()
        self.transport.write(answer)

    def line(self, line: bytes) -> bytes:
        word = line[:4].upper()
        if word == b"RCPT":
            self.recipients += 1
        elif word == b"DATA":
            self.body = True
            self.rest = b"\r\n"  # so that a message of a dot alone ends, too
            return b"354 go\r\n"
        elif word in (b"EHLO", b"LHLO"):
            return self.hello
        elif word == b"QUIT":
            return self.leave(b"221 bye\r\n")
        elif word == b"RSET":
            self.recipients = 0
        return b"250 2.0.0 ok\r\n"


class Lmtp(Smtp):
    lmtp = True


COUNTER: Counter
DISK: SlowDisk


async def serve(doors: list[tuple[Callable[[], asyncio.Protocol], int]]) -> None:
    loop = asyncio.get_running_loop()
    for kind, port in doors:
        await loop.create_server(kind, "127.0.0.1", port, backlog=4096)
    await asyncio.Event().wait()


def main() -> None:
    global COUNTER, DISK
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=Path, required=True)
    kinds: dict[str, type[Lines]] = {"imap": Imap, "pop3": Pop3, "smtp": Smtp, "lmtp": Lmtp}
    for name in kinds:
        parser.add_argument(f"--{name}", type=int, default=0)
    parser.add_argument("--folder", type=int, default=0, help="messages in everybody's INBOX")
    parser.add_argument("--bulk", type=int, default=0, help="octets of the large body")
    parser.add_argument("--disk", type=float, default=0.0, help="messages a second that its disk takes")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    COUNTER, DISK = Counter(options.count, create=True), SlowDisk(options.disk)
    Imap.messages = options.folder
    Imap.bulk = (CHUNK * (options.bulk // len(CHUNK) + 1))[: options.bulk]
    uvloop.run(serve([(kind, port) for name, kind in kinds.items() if (port := getattr(options, name))]))


if __name__ == "__main__":
    main()
