"""The server's side of POP3: RFC 1939, with CAPA (2449), STLS (2595), AUTH (5034), AUTH-RESP-CODE (3206).

Knows commands, states and answers. Does not know who may log in, where messages are, TLS or sockets.

    pop3.receive(data); while (event := pop3.next_event()) ...; send(pop3.take_output())

Answered comes where there is much to send, or much was done, before more commands are looked at: who asks for long
lists without reading them takes no memory, and who asks for much at once leaves others their turn. After LogIn,
StartTls, Retrieve and Quit nothing more is read until the caller has said what became of it: `opened` or `refuse`;
`tls_started`; `message` with the body sent and `message_sent`, or `refuse`; `closed`. Who goes on with `receive`
meanwhile gets Failed when more waits than a line and one read. After Close the output is sent and the connection ended.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from onedomain.model.failure import Failed, refuse
from onedomain.protocol import sasl
from onedomain.protocol.pop3.events import Answered, Close, Event, LogIn, Quit, Retrieve, StartTls
from onedomain.protocol.pop3.maildrop import Entry, Maildrop, NoSuchMessage

MAX_LINE = sasl.MAX_RESPONSE + 256
MAX_READ = 65_536     # bytes that one `receive` may bring
MAX_BAD = 20
MAX_UNSENT = 32_768
"""Bytes of answers, but for one answer; then they are sent before the next command is looked at."""

MAX_AT_ONCE = 100
"""Commands answered before the caller has its turn: thousands of them fit one read."""

_UNPRINTABLE = re.compile(r"[^ -~]")


@dataclass(frozen=True, slots=True)
class Pop3Options:
    """`starttls`: TLS can be had; `plaintext_login`: passwords are taken without it (the listener says so)."""

    name: str = "OneDomain"
    starttls: bool = True
    plaintext_login: bool = False


class Pop3Server:
    def __init__(self, options: Pop3Options, *, secure: bool) -> None:
        self._options = options
        self._secure = secure
        self._data = b""
        self._at = 0         # first byte of _data not yet given out
        self._searched = 0   # no LF before this index
        self._skipping = False
        self._output: list[bytes] = []
        self._unsent = 0
        self._at_once = 0    # commands, since the output was taken
        self._maildrop: Maildrop | None = None
        self._retrieved: dict[int, Entry] = {}
        self._user: bytes | None = None
        self._mechanism: sasl.Mechanism | None = None
        self._paused = False
        self._closed = False
        self._bad = 0

    def greet(self) -> None:
        self._ok(f"{self._options.name} ready.")

    def turn_away(self, code: str, text: str) -> None:
        """Instead of a greeting, or because the session can't go on."""
        self._err(text, code)
        self._closed = True

    def receive(self, data: bytes) -> None:
        if not self._closed:
            if len(self._data) - self._at + len(data) > MAX_LINE + MAX_READ:
                raise Failed(refuse(500, "5.5.0", "Too much at once.", "too much sent ahead of an answer"))
            self._searched = max(0, self._searched - self._at)
            self._data = self._data[self._at:] + data
            self._at = 0

    def take_output(self) -> bytes:
        output = b"".join(self._output)
        self._output.clear()
        self._unsent = self._at_once = 0
        return output

    def next_event(self) -> Event | None:
        while not (self._paused or self._closed):
            if self._unsent > MAX_UNSENT or self._at_once >= MAX_AT_ONCE:
                return Answered()
            line = self._next_line()
            if line is None:
                return None
            self._at_once += 1
            told = self._command(line) if self._mechanism is None else self._sasl(line)
            if told is not None:
                self._closed = isinstance(told, Close)
                self._paused = not self._closed
                return told
        return None

    def tls_started(self) -> None:
        """What came before TLS is forgotten, the user's name too (RFC 2595 section 4)."""
        self._data, self._at, self._searched, self._user = b"", 0, 0, None
        self._secure = True
        self._paused = False

    def opened(self, maildrop: Maildrop) -> None:
        self._maildrop = maildrop
        count, size = maildrop.stat()
        self._ok(f"Logged in, {count} messages ({size} octets).")
        self._paused = False

    def refuse(self, code: str, text: str) -> None:
        """The log-in, or the reading of a message, came to nothing: `-ERR [code] text`."""
        self._err(text, code)
        self._paused = False

    def message(self, size: int) -> None:
        """The body follows, by way of BodyWriter; `size` 0 where it isn't known (TOP)."""
        self._ok(f"{size} octets" if size else "")

    def message_sent(self, entry: Entry, *, whole: bool) -> None:
        if whole:
            self._retrieved[entry.uid] = entry
        self._paused = False

    def closed(self, failure: str = "") -> None:
        """The UPDATE state is done; `failure` says what wasn't removed (RFC 1939 section 6)."""
        if failure:
            self._err(failure, "SYS/TEMP")
        else:
            self._ok("Bye.")
        self._closed = True

    def _next_line(self) -> bytes | None:
        while True:
            end = self._data.find(b"\n", max(self._searched, self._at)) + 1
            if not end:
                self._searched = len(self._data)
                if self._searched - self._at > MAX_LINE:
                    self._at = self._searched
                    if not self._skipping:
                        self._too_long()
                    self._skipping = True
                return None
            line = self._data[self._at:end]
            self._at = end
            if self._skipping:
                self._skipping = False
            elif len(line) > MAX_LINE:
                self._too_long()
            else:
                return line.removesuffix(b"\n").removesuffix(b"\r")

    def _too_long(self) -> None:
        self._mechanism = None
        self._err("Line too long.")

    def _command(self, line: bytes) -> Event | None:
        name, _, argument = line.partition(b" ")
        commands = _AFTER_LOG_IN if self._maildrop else _BEFORE_LOG_IN
        command = commands.get(name.upper())
        if command is None:
            return self._mistake("Unknown command." if self._maildrop else "Unknown command, or log in first.")
        try:
            return command(self, argument)
        except NoSuchMessage as error:
            self._err(str(error))
        except _BadArgument as error:
            return self._mistake(str(error))
        return None

    def _do_user(self, argument: bytes) -> Event | None:
        if not self._log_in_allowed:
            return self._privacy_required()
        self._user = _needed(argument)
        self._ok("Password, please.")
        return None

    def _do_pass(self, argument: bytes) -> Event | None:
        user, self._user = self._user, None
        if user is None:
            raise _BadArgument("USER first.")
        # All of the line is the password, blanks included (RFC 1939 section 7).
        try:
            return LogIn(sasl.credentials(user, argument), "USER")
        except sasl.SaslError as error:
            return self._unusable(error)

    def _do_auth(self, argument: bytes) -> Event | None:
        if not argument:  # how clients asked before CAPA; no RFC, but Outlook does it
            self._ok("Mechanisms follow.")
            self._lines(sasl.MECHANISMS if self._log_in_allowed else ())
            return None
        if not self._log_in_allowed:
            return self._privacy_required()
        name, _, initial = argument.partition(b" ")
        mechanism = sasl.server(name.decode("ascii", "replace"))
        if mechanism is None:
            raise _BadArgument("Mechanism not supported.")
        self._mechanism = mechanism
        if initial:
            return self._sasl(initial)
        self._challenge(mechanism)
        return None

    def _sasl(self, answer: bytes) -> Event | None:
        mechanism, self._mechanism = self._mechanism, None
        if mechanism is None:
            return None
        try:
            credentials = mechanism.answer(sasl.decode(answer))
        except sasl.SaslError as error:
            return self._unusable(error)
        if credentials is not None:
            return LogIn(credentials, mechanism.name)
        self._mechanism = mechanism
        self._challenge(mechanism)
        return None

    def _do_stls(self, argument: bytes) -> Event | None:
        if self._secure or not self._options.starttls:
            raise _BadArgument("TLS is on already." if self._secure else "TLS is not available.")
        self._ok("Begin TLS negotiation now.")
        return StartTls()

    def _do_capa(self, argument: bytes) -> Event | None:
        names = ["TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", f"IMPLEMENTATION {self._options.name}"]
        if self._maildrop is None:
            if self._log_in_allowed:
                names += ["USER", f"SASL {' '.join(sasl.MECHANISMS)}"]
            if self._options.starttls and not self._secure:
                names.append("STLS")
        self._ok("Capabilities follow.")
        self._lines(names)
        return None

    def _do_leave(self, argument: bytes) -> Event | None:
        self._ok("Bye.")
        return Close("quit")

    def _do_stat(self, argument: bytes) -> Event | None:
        count, size = self._drop.stat()
        self._ok(f"{count} {size}")
        return None

    def _do_list(self, argument: bytes) -> Event | None:
        if argument:
            number = _number(argument)
            self._ok(f"{number} {self._drop.entry(number).size}")
        else:
            count, size = self._drop.stat()
            self._ok(f"{count} messages ({size} octets)")
            self._lines(self._drop.listing())
        return None

    def _do_uidl(self, argument: bytes) -> Event | None:
        if argument:
            number = _number(argument)
            self._ok(f"{number} {self._drop.entry(number).uidl}")
        else:
            self._ok("")
            self._lines(self._drop.uidls())
        return None

    def _do_retr(self, argument: bytes) -> Event | None:
        return Retrieve(self._drop.entry(_number(argument)), None)

    def _do_top(self, argument: bytes) -> Event | None:
        number, _, lines = argument.partition(b" ")
        return Retrieve(self._drop.entry(_number(number)), _number(lines))

    def _do_dele(self, argument: bytes) -> Event | None:
        number = _number(argument)
        self._drop.delete(number)
        self._ok(f"Message {number} deleted.")
        return None

    def _do_noop(self, argument: bytes) -> Event | None:
        self._ok("")
        return None

    def _do_rset(self, argument: bytes) -> Event | None:
        self._drop.reset()
        self._ok("Nothing is deleted.")
        return None

    def _do_quit(self, argument: bytes) -> Event | None:
        return Quit(self._drop.deleted, tuple(self._retrieved.values()))

    @property
    def _drop(self) -> Maildrop:
        if self._maildrop is None:
            raise RuntimeError("a command of the TRANSACTION state before the maildrop was opened")
        return self._maildrop

    @property
    def _log_in_allowed(self) -> bool:
        return self._secure or self._options.plaintext_login

    def _privacy_required(self) -> Event | None:
        self._err("Start TLS first: passwords are not taken in the clear.")
        return None

    def _unusable(self, error: sasl.SaslError) -> Event | None:
        if isinstance(error, sasl.Unacceptable):
            self._err(str(error), "AUTH")
            return None
        return self._mistake(str(error))

    def _mistake(self, text: str) -> Event | None:
        self._err(text)
        self._bad += 1
        return Close("too many bad commands") if self._bad >= MAX_BAD else None

    def _challenge(self, mechanism: sasl.Mechanism) -> None:
        self._say(b"+ %s\r\n" % sasl.encode(mechanism.challenge()))

    def _ok(self, text: str) -> None:
        self._say(f"+OK {_one_line(text)}".rstrip().encode("ascii") + b"\r\n")

    def _err(self, text: str, code: str = "") -> None:
        self._say((f"-ERR [{code}] " if code else "-ERR ").encode("ascii") + _one_line(text).encode("ascii") + b"\r\n")

    def _lines(self, lines: Sequence[str]) -> None:
        self._say("".join(f"{line}\r\n" for line in lines).encode("ascii") + b".\r\n")

    def _say(self, answer: bytes) -> None:
        self._output.append(answer)
        self._unsent += len(answer)


_Do = Callable[[Pop3Server, bytes], Event | None]

_BEFORE_LOG_IN: dict[bytes, _Do] = {
    b"USER": Pop3Server._do_user,
    b"PASS": Pop3Server._do_pass,
    b"AUTH": Pop3Server._do_auth,
    b"STLS": Pop3Server._do_stls,
    b"CAPA": Pop3Server._do_capa,
    b"QUIT": Pop3Server._do_leave,
}
_AFTER_LOG_IN: dict[bytes, _Do] = {
    b"STAT": Pop3Server._do_stat,
    b"LIST": Pop3Server._do_list,
    b"UIDL": Pop3Server._do_uidl,
    b"RETR": Pop3Server._do_retr,
    b"TOP": Pop3Server._do_top,
    b"DELE": Pop3Server._do_dele,
    b"NOOP": Pop3Server._do_noop,
    b"RSET": Pop3Server._do_rset,
    b"CAPA": Pop3Server._do_capa,
    b"QUIT": Pop3Server._do_quit,
}


class _BadArgument(ValueError):
    """The text is fit for the client."""


def _needed(argument: bytes) -> bytes:
    if not argument:
        raise _BadArgument("Argument missing.")
    return argument


def _number(argument: bytes) -> int:
    if not argument.strip().isdigit() or len(argument) > 10:
        raise _BadArgument("A number is needed.")
    return int(argument)


def _one_line(text: str) -> str:
    """Nothing that a failure or a server says can break out of its line."""
    return _UNPRINTABLE.sub("?", text)
