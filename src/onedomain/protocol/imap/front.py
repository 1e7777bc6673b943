"""The server's side of IMAP up to the log-in (RFC 9051 sections 6.1 and 6.2, RFC 4959, RFC 2971, RFC 7888).

Knows the commands of the not-authenticated state and answers them. Does not know who may log in, TLS or sockets.

    front.receive(data); while (event := front.next_event()) ...; send(front.take_output())

After LogIn nothing more is read until `refuse(...)`; or `accept(...)`, and then `take_rest()` is the home's. After
StartTls the caller sends the output, makes TLS and calls `tls_started()`: what came before that is forgotten
(RFC 9051 section 11.1, CVE-2011-0411). After Close the output is sent and the connection ended.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from onedomain.protocol import sasl
from onedomain.protocol.imap.capability import before_login
from onedomain.protocol.imap.lines import Chunk, Fragmentizer, Limits, Line, Overrun
from onedomain.protocol.imap.response import ResponseError, parse_values

LIMITS = Limits(line=sasl.MAX_RESPONSE + 512, literal=8192, command=2 * sasl.MAX_RESPONSE)
MAX_BAD = 20          # commands that were none, until the connection is ended
MAX_ID_FIELDS = 30    # RFC 2971 section 3.3
MAX_ID_VALUE = 1024

_TAG = re.compile(rb"[!#$&',\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]{1,64}\Z")
_UNPRINTABLE = re.compile(r"[^ -~]")


@dataclass(frozen=True, slots=True)
class FrontOptions:
    """`starttls`: TLS can be had; `plaintext_login`: passwords are taken without it (the listener says so)."""

    name: str = "OneDomain"
    starttls: bool = True
    plaintext_login: bool = False

    def allows_log_in(self, *, secure: bool) -> bool:
        return secure or self.plaintext_login


class LogIn(NamedTuple):
    credentials: sasl.Credentials
    mechanism: str


class StartTls(NamedTuple):
    pass


class Close(NamedTuple):
    reason: str


Event = LogIn | StartTls | Close


class Front:
    def __init__(self, options: FrontOptions, *, secure: bool) -> None:
        self._options = options
        self._secure = secure
        self._lines = Fragmentizer(LIMITS)
        self._pieces: list[bytes] = []
        self._literals: list[bytes] = []
        self._output: list[bytes] = []
        self._mechanism: sasl.Mechanism | None = None  # an AUTHENTICATE under way
        self._tag = b""
        self._paused = False
        self._closed = False
        self._bad = 0
        self.client_id: dict[str, str] = {}

    def greet(self) -> None:
        self._output.append(greeting(self._options, secure=self._secure))

    def turn_away(self, code: str, text: str) -> None:
        """Instead of a greeting."""
        self._send(f"* BYE [{code}] {_one_line(text)}")
        self._closed = True

    def receive(self, data: bytes) -> None:
        if not self._closed:
            self._lines.receive(data)

    def take_output(self) -> bytes:
        output = b"".join(self._output)
        self._output.clear()
        return output

    def take_rest(self) -> bytes:
        return self._lines.take_rest()

    def next_event(self) -> Event | None:
        while not (self._paused or self._closed):
            event = self._lines.next_event()
            if event is None:
                return None
            told = self._heard(event)
            if told is not None:
                self._paused = not isinstance(told, Close)
                self._closed = isinstance(told, Close)
                return told
        return None

    def tls_started(self) -> None:
        self._lines = Fragmentizer(LIMITS)
        self._secure = True
        self._paused = False
        self.client_id = {}

    def refuse(self, code: str, text: str) -> None:
        """The log-in came to nothing: `NO [code] text` (RFC 5530); the client may try again."""
        self._tagged("NO", f"[{code}] {text}" if code else text)
        self._paused = False

    def accept(self, capabilities: tuple[str, ...], text: str) -> None:
        """The log-in is done. Front is not used any more but for `take_output` and `take_rest`."""
        self._output.append(self._tag + accepted(capabilities, text))

    def end(self, code: str, text: str) -> None:
        """We end the connection: idle too long, shutting down."""
        self._send(f"* BYE [{code}] {_one_line(text)}" if code else f"* BYE {_one_line(text)}")
        self._closed = True

    @property
    def _log_in_allowed(self) -> bool:
        return self._options.allows_log_in(secure=self._secure)

    def _capabilities(self) -> str:
        return _capabilities(self._options, self._secure)

    def _heard(self, event: Line | Chunk | Overrun) -> Event | None:
        if isinstance(event, Overrun):
            return self._overrun(event)
        if isinstance(event, Chunk):
            self._literals[-1] += event.data
            return None
        if self._mechanism is not None:
            return self._answer(event)
        if not self._pieces:
            self._literals = []
        self._pieces.append(event.data)
        if event.literal is not None:
            self._literals.append(b"")
            return self._literal_wanted() if event.literal.sync else None
        pieces, literals = self._pieces, self._literals
        self._pieces, self._literals = [], []
        return self._command(pieces, literals)

    def _overrun(self, overrun: Overrun) -> Event | None:
        tag = (self._pieces[0] if self._pieces else overrun.start).split(None, 1)[:1]
        self._pieces, self._literals, self._mechanism = [], [], None
        self._tag = tag[0] if tag and _TAG.match(tag[0]) else b"*"
        return self._mistake(f"[TOOBIG] {overrun.limit.capitalize()} too long.")

    def _literal_wanted(self) -> Event | None:
        words = self._pieces[0].split(None, 2)
        name = words[1].upper() if len(words) > 1 else b""
        if name in (b"LOGIN", b"ID") and (self._log_in_allowed or name == b"ID"):
            self._lines.accept()
            self._send("+ OK")
            return None
        # No "+" draws a password onto a connection where it mustn't be sent.
        self._lines.refuse()
        pieces, self._pieces, self._literals = self._pieces, [], []
        if name == b"LOGIN" and _TAG.match(words[0]):
            self._tag = words[0]
            self._privacy_required()
            return None
        return self._command([pieces[0][:pieces[0].rindex(b"{")] + b"\r\n"], [])

    def _command(self, pieces: list[bytes], literals: list[bytes]) -> Event | None:
        words = pieces[0].split(None, 2)
        if not words:
            self._tag = b"*"
            return self._mistake("Empty command.")
        self._tag = words[0] if _TAG.match(words[0]) else b"*"
        if self._tag == b"*" or len(words) < 2:
            return self._mistake("Invalid tag." if self._tag == b"*" else "Command missing.")
        try:
            # As bytes, so that a password that looks like a number or NIL stays as it is.
            arguments = parse_values(pieces, literals, 2, atom=bytes)[2:]
        except ResponseError:
            return self._mistake("Malformed arguments.")
        match words[1].upper():
            case b"CAPABILITY":
                self._send(f"* CAPABILITY {self._capabilities()}")
                self._tagged("OK", "Capabilities listed.")
            case b"NOOP":
                self._tagged("OK", "Nothing done.")
            case b"ID":
                return self._id(arguments)
            case b"LOGOUT":
                self._send("* BYE Logging out.")
                self._tagged("OK", "Logged out.")
                return Close("logout")
            case b"STARTTLS":
                return self._starttls()
            case b"LOGIN":
                return self._login(arguments)
            case b"AUTHENTICATE":
                return self._authenticate(arguments)
            case _:
                return self._mistake("Unknown command, or none for before the log-in.")
        return None

    def _id(self, arguments: list[object]) -> Event | None:
        fields = arguments[0] if len(arguments) == 1 else None
        if isinstance(fields, list) and len(fields) <= 2 * MAX_ID_FIELDS and not len(fields) % 2:
            strings = [_text(item) for item in fields if isinstance(item, bytes)]
            if len(strings) == len(fields):
                self.client_id = dict(zip((s.lower() for s in strings[::2]), strings[1::2], strict=True))
        elif not (isinstance(fields, bytes) and fields.upper() == b"NIL"):
            return self._mistake("ID takes NIL or a list of pairs.")
        self._send(f'* ID ("name" "{self._options.name}")')
        self._tagged("OK", "ID noted.")
        return None

    def _starttls(self) -> Event | None:
        if self._secure:
            return self._mistake("TLS is on already.")
        if not self._options.starttls:
            return self._mistake("TLS is not available.")
        self._tagged("OK", "Begin TLS negotiation now.")
        return StartTls()

    def _login(self, arguments: list[object]) -> Event | None:
        if not self._log_in_allowed:
            self._privacy_required()
            return None
        strings = [argument for argument in arguments if isinstance(argument, bytes)]
        if len(arguments) != 2 or len(strings) != 2:
            return self._mistake("LOGIN takes a name and a password.")
        try:
            return LogIn(sasl.credentials(*strings), "LOGIN")
        except sasl.SaslError as error:
            return self._unusable(error)

    def _authenticate(self, arguments: list[object]) -> Event | None:
        if not self._log_in_allowed:
            self._privacy_required()
            return None
        strings = [argument for argument in arguments if isinstance(argument, bytes)]
        if not 1 <= len(arguments) <= 2 or len(strings) != len(arguments):
            return self._mistake("AUTHENTICATE takes a mechanism and at most one answer.")
        mechanism = sasl.server(strings[0].decode("ascii", "replace"))
        if mechanism is None:
            self._tagged("NO", "[CANNOT] Mechanism not supported.")
            return None
        self._mechanism = mechanism
        if len(strings) == 2:
            return self._sasl(strings[1])
        self._challenge(mechanism)
        return None

    def _answer(self, line: Line) -> Event | None:
        if self._lines.undecided is not None:
            self._lines.refuse()
        if line.literal is not None:
            self._literals = [b""]  # a literal that comes regardless is read over
        return self._sasl(line.data.rstrip(b"\r\n"))

    def _sasl(self, answer: bytes) -> Event | None:
        mechanism, self._mechanism = self._mechanism, None
        assert mechanism is not None
        try:
            credentials = mechanism.answer(sasl.decode(answer))
        except sasl.SaslError as error:
            return self._unusable(error)
        if credentials is not None:
            return LogIn(credentials, mechanism.name)
        self._mechanism = mechanism
        self._challenge(mechanism)
        return None

    def _challenge(self, mechanism: sasl.Mechanism) -> None:
        self._send("+ " + sasl.encode(mechanism.challenge()).decode("ascii"))

    def _unusable(self, error: sasl.SaslError) -> Event | None:
        if isinstance(error, sasl.Unacceptable):
            self._tagged("NO", f"[AUTHENTICATIONFAILED] {error}")
            return None
        return self._mistake(str(error))

    def _privacy_required(self) -> None:
        self._tagged("NO", "[PRIVACYREQUIRED] Start TLS first: passwords are not taken in the clear.")

    def _mistake(self, text: str) -> Event | None:
        self._tagged("BAD", text)
        self._bad += 1
        if self._bad < MAX_BAD:
            return None
        self._send("* BYE Too many commands that are none.")
        return Close("too many bad commands")

    def _tagged(self, status: str, text: str) -> None:
        self._send(f"{self._tag.decode('ascii')} {status} {_one_line(text)}")

    def _send(self, line: str) -> None:
        self._output.append(line.encode("ascii") + b"\r\n")


def greeting(options: FrontOptions, *, secure: bool) -> bytes:
    return f"* OK [CAPABILITY {_capabilities(options, secure)}] {options.name} ready.\r\n".encode("ascii")


@lru_cache(256)
def accepted(capabilities: tuple[str, ...], text: str) -> bytes:
    """What stands behind the tag in the answer to a log-in that was right: servers say always the same."""
    names = " ".join(capabilities)
    return f" OK {_one_line(f'[CAPABILITY {names}] {text}' if names else text)}\r\n".encode("ascii")


def _capabilities(options: FrontOptions, secure: bool) -> str:
    starttls = options.starttls and not secure
    return " ".join(before_login(starttls=starttls, log_in=options.allows_log_in(secure=secure)))


def _one_line(text: str) -> str:
    """Nothing that a failure or a server says can break out of its line."""
    return _UNPRINTABLE.sub("?", text)


def _text(value: bytes) -> str:
    return _one_line(value[:MAX_ID_VALUE].decode("utf-8", "replace"))
