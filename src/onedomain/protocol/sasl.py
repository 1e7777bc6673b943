"""SASL as mail uses it: PLAIN (RFC 4616) and LOGIN (draft-murchison-sasl-login), both sides.

Knows challenges and answers as bytes, and their base64. Does not know the protocol that carries them (AUTHENTICATE,
AUTH) nor whether a password is right. Secrets don't show in a repr.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass, field

MAX_RESPONSE = 12_288  # bytes of base64 in one answer: RFC 4954 section 4.3's bound for a line
MAX_NAME = 1024
MAX_PASSWORD = 4096
MECHANISMS = ("PLAIN", "LOGIN")

_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


class SaslError(ValueError):
    """The exchange is malformed or was cancelled; the text is fit for the peer."""


class Cancelled(SaslError):
    """The client answered "*"."""


class Unacceptable(SaslError):
    """Well-formed, but no such credentials can be right: empty, too long, control characters."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """`login` as the client typed it; `authorize` the identity it wants to act as, or ""."""

    login: str
    password: str = field(repr=False)
    authorize: str = ""


def decode(line: bytes) -> bytes:
    """One base64 answer without its line end; "=" is the empty initial response (RFC 4959). Raises SaslError."""
    if line == b"*":
        raise Cancelled("authentication cancelled")
    if len(line) > MAX_RESPONSE:
        raise SaslError("answer too long")
    if line == b"=":
        return b""
    try:
        return b64decode(line, validate=True)
    except Base64Error:
        raise SaslError("invalid base64") from None


def encode(data: bytes) -> bytes:
    return b64encode(data)


class PlainServer:
    """One message: authzid NUL authcid NUL passwd."""

    name = "PLAIN"

    def challenge(self) -> bytes:
        return b""

    def answer(self, data: bytes) -> Credentials | None:
        """Credentials when complete, None when a further challenge is due. Raises SaslError."""
        parts = data.split(b"\0")
        if len(parts) != 3:
            raise SaslError("PLAIN needs two NULs")
        authorize, login, password = parts
        return _credentials(login, password, authorize)


class LoginServer:
    """Two messages. The prompts are what Outlook and others look for, colons included."""

    name = "LOGIN"

    def __init__(self) -> None:
        self._login: bytes | None = None

    def challenge(self) -> bytes:
        return b"Username:" if self._login is None else b"Password:"

    def answer(self, data: bytes) -> Credentials | None:
        if self._login is None:
            _check_login(data)
            self._login = data
            return None
        return _credentials(self._login, data, b"")


Mechanism = PlainServer | LoginServer


def server(name: str) -> Mechanism | None:
    """The mechanism by its name in any case; None where it isn't one of ours."""
    match name.upper():
        case "PLAIN":
            return PlainServer()
        case "LOGIN":
            return LoginServer()
    return None


def plain(login: str, password: str, authorize: str = "") -> bytes:
    """PLAIN's one message, not yet in base64. Raises ValueError for a NUL inside."""
    message = f"{authorize}\0{login}\0{password}"
    if message.count("\0") != 2:
        raise ValueError("NUL in credentials")
    return message.encode("utf-8", "surrogateescape")


def credentials(login: bytes, password: bytes) -> Credentials:
    """Of an IMAP LOGIN or POP3 USER and PASS, under the same rules. Raises SaslError."""
    return _credentials(login, password, b"")


def _credentials(login: bytes, password: bytes, authorize: bytes) -> Credentials:
    _check_login(login)
    if not password:
        raise Unacceptable("empty password")
    if len(password) > MAX_PASSWORD or len(authorize) > MAX_NAME:
        raise Unacceptable("credentials too long")
    if b"\0" in password:
        raise Unacceptable("NUL in password")
    try:
        # A password in an old charset stays itself on the way to a home that knows it so.
        secret = password.decode("utf-8", "surrogateescape")
        return Credentials(login.decode("utf-8"), secret, authorize.decode("utf-8"))
    except UnicodeDecodeError:
        raise Unacceptable("login name is not UTF-8") from None


def _check_login(login: bytes) -> None:
    if not login:
        raise Unacceptable("empty login name")
    if len(login) > MAX_NAME:
        raise Unacceptable("login name too long")
    if _CONTROL.search(login):
        raise Unacceptable("control character in login name")
