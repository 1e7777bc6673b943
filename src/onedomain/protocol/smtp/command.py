"""MAIL, RCPT, BDAT and XCLIENT lines: what their words say (RFC 5321 section 4.1, 1870, 3030, 3461, 6152, 6531).

Knows syntax. Does not know whether the command may come now (server.py) nor who exists. A line that can't be read
raises Failed, with what the peer is to be told.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from onedomain.model.address import Address, AddressError, parse_address
from onedomain.model.failure import Failed, refuse
from onedomain.protocol.smtp.event import Mail, Rcpt
from onedomain.protocol.smtp.xtext import decode_utf8_addr_xtext, decode_xtext

MAX_ENVID = 100  # RFC 3461 section 4.4
MAX_ORCPT = 500  # RFC 3461 section 4.2
MAX_BDAT = 1 << 62

# The blank after the colon is against RFC 5321 section 4.1.1 and common; so is a path without its brackets.
_PATH = r'(?::| :) ?(?:<((?:"(?:[^"\\]|\\.)*"|[^"<>])*)>|([^ <>]+))(?: +(.*))?'
_MAIL = re.compile(r"MAIL FROM" + _PATH, re.IGNORECASE)
_RCPT = re.compile(r"RCPT TO" + _PATH, re.IGNORECASE)
_BDAT = re.compile(rb"BDAT +([0-9]{1,20})( +LAST)? *", re.IGNORECASE)
_ROUTE = re.compile(r"@[^,:@]+(?:,@[^,:@]+)*:")
_NOTIFY = re.compile(r"NEVER|(?:SUCCESS|FAILURE|DELAY)(?:,(?:SUCCESS|FAILURE|DELAY))*")


@dataclass(frozen=True, slots=True)
class Extensions:
    """Which ESMTP parameters may be used."""

    smtputf8: bool = True
    dsn: bool = True
    auth: bool = False


def _syntax(text: str, enhanced: str = "5.5.4") -> Failed:
    return Failed(refuse(501, enhanced, text))


def _split(pattern: re.Pattern[str], line: bytes, usage: str) -> tuple[str, dict[str, str]]:
    """The path without brackets, and the parameters: keyword in capitals -> value."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise _syntax("what is not ASCII must be UTF-8", "5.6.7") from None
    match = pattern.fullmatch(text)
    if match is None:
        raise _syntax(f"syntax: {usage}")
    path, bare, words = match.groups()
    parameters: dict[str, str] = {}
    for word in filter(None, (words or "").split(" ")):
        keyword, _, value = word.partition("=")
        keyword = keyword.upper()
        if keyword in parameters:
            raise _syntax(f"parameter {keyword} given twice")
        parameters[keyword] = value
    return (bare if path is None else path), parameters


def _address(path: str, *, smtputf8: bool) -> Address:
    if path.startswith("@"):
        # RFC 5321 appendix C: a source route should be ignored
        path = _ROUTE.sub("", path, count=1)
    try:
        address = parse_address(path)
    except AddressError as error:
        raise Failed(refuse(501, "5.1.3", f"bad address: {error}")) from None
    if not smtputf8 and not address.is_ascii:
        raise Failed(refuse(553, "5.6.7", "address outside ASCII needs SMTPUTF8"))
    return address


def parse_mail(line: bytes, extensions: Extensions) -> Mail:
    """`MAIL FROM:<…> …` without its line end. Raises Failed: 501, 553 5.6.7, 555 for an unknown parameter."""
    path, words = _split(_MAIL, line, "MAIL FROM:<address>")
    if not words:
        return Mail(_address(path, smtputf8=False) if path else None)
    known: dict[str, Any] = {}
    for keyword, value in words.items():
        reader = _MAIL_PARAMETERS.get(keyword)
        if reader is None or not _allowed(keyword, extensions):
            raise Failed(refuse(555, "5.5.4", f"parameter {_clip(keyword)} is not known here"))
        known |= reader(value)
    sender = _address(path, smtputf8=known.get("smtputf8", False)) if path else None
    return Mail(sender, **known)


def parse_rcpt(line: bytes, extensions: Extensions, *, smtputf8: bool) -> Rcpt:
    """`RCPT TO:<…> …` without its line end. Raises Failed as parse_mail does."""
    path, words = _split(_RCPT, line, "RCPT TO:<address>")
    # RFC 5321 section 4.5.1: "RCPT TO:<Postmaster>", case-blind, must be taken
    address = Address(path, "") if path.lower() == "postmaster" else _address(path, smtputf8=smtputf8)
    if not words:
        return Rcpt(address)
    known: dict[str, Any] = {}
    for keyword, value in words.items():
        reader = _RCPT_PARAMETERS.get(keyword)
        if reader is None or not extensions.dsn:
            raise Failed(refuse(555, "5.5.4", f"parameter {_clip(keyword)} is not known here"))
        known |= reader(value)
    return Rcpt(address, **known)


def parse_bdat(line: bytes) -> tuple[int, bool] | None:
    """`BDAT size [LAST]` -> octets and whether it is the last; None when it can't be read."""
    match = _BDAT.fullmatch(line)
    if match is None or int(match[1]) > MAX_BDAT:
        return None
    return int(match[1]), match[2] is not None


XCLIENT_ATTRIBUTES = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT")


def parse_xclient(line: bytes) -> dict[str, str]:
    """`XCLIENT NAME=value …` (Postfix XCLIENT_README). [UNAVAILABLE] and [TEMPUNAVAIL] are read as "". ADDR is an
    address without its IPV6: prefix, PORT a number, or both "".
    """
    found: dict[str, str] = {}
    for word in line.decode("ascii", "replace").split()[1:]:
        keyword, equals, value = word.partition("=")
        if not equals or keyword.upper() not in XCLIENT_ATTRIBUTES:
            raise _syntax(f"bad XCLIENT attribute {_clip(keyword)}")
        try:
            text = decode_xtext(value)
        except ValueError:
            raise _syntax(f"bad value for XCLIENT attribute {keyword.upper()}") from None
        text = "" if text.upper() in ("[UNAVAILABLE]", "[TEMPUNAVAIL]") else text
        found[keyword.upper()] = _XCLIENT_VALUES.get(keyword.upper(), str)(text)
    if not found:
        raise _syntax("syntax: XCLIENT attribute=value …")
    return found


def _client_address(value: str) -> str:
    address = value[5:] if value[:5].upper() == "IPV6:" else value
    try:
        if "%" in address:  # a zone, which may be any text
            raise ValueError(address)
        return str(ipaddress.ip_address(address)) if address else ""
    except ValueError:
        raise _syntax("bad value for XCLIENT attribute ADDR") from None


def _client_port(value: str) -> str:
    if value and not (value.isascii() and value.isdigit() and len(value) <= 5 and int(value) <= 65535):
        raise _syntax("bad value for XCLIENT attribute PORT")
    return value


_XCLIENT_VALUES: dict[str, Callable[[str], str]] = {"ADDR": _client_address, "PORT": _client_port}


def _clip(text: str) -> str:
    return text if len(text) <= 40 else text[:40] + "…"


def _allowed(keyword: str, extensions: Extensions) -> bool:
    if keyword == "SMTPUTF8":
        return extensions.smtputf8
    if keyword in ("RET", "ENVID"):
        return extensions.dsn
    return keyword != "AUTH" or extensions.auth


def _size(value: str) -> dict[str, Any]:
    if not (value.isascii() and value.isdigit() and len(value) <= 20):
        raise _syntax("SIZE needs a number of octets")
    return {"size": int(value)}


def _body(value: str) -> dict[str, Any]:
    if value.upper() not in ("7BIT", "8BITMIME"):
        raise _syntax("BODY is 7BIT or 8BITMIME")
    return {"eight_bit": value.upper() == "8BITMIME"}


def _smtputf8(value: str) -> dict[str, Any]:
    if value:
        raise _syntax("SMTPUTF8 takes no value")
    return {"smtputf8": True}


def _ret(value: str) -> dict[str, Any]:
    if value.upper() not in ("FULL", "HDRS"):
        raise _syntax("RET is FULL or HDRS")
    return {"ret": value.upper()}


def _envid(value: str) -> dict[str, Any]:
    if not value or len(value) > MAX_ENVID:
        raise _syntax("ENVID has 1 to 100 characters")
    try:
        return {"envid": decode_xtext(value)}
    except ValueError:
        raise _syntax("ENVID must be xtext") from None


def _auth(value: str) -> dict[str, Any]:
    # RFC 4954 section 5: a server that does not trust the client to name another's identity treats it as <>
    if not value or len(value) > MAX_ORCPT:
        raise _syntax("AUTH needs a mailbox or <>")
    return {}


def _notify(value: str) -> dict[str, Any]:
    if not _NOTIFY.fullmatch(value.upper()):
        raise _syntax("NOTIFY is NEVER, or some of SUCCESS, FAILURE, DELAY")
    return {"notify": value.upper()}


def _orcpt(value: str) -> dict[str, Any]:
    kind, semicolon, encoded = value.partition(";")
    if not semicolon or not kind or not encoded or len(value) > MAX_ORCPT:
        raise _syntax("ORCPT is type;address")
    try:
        # RFC 6533 section 3: utf-8 addresses have an encoding of their own
        decode = decode_utf8_addr_xtext if kind.lower() == "utf-8" else decode_xtext
        text = decode(encoded)
    except ValueError:
        raise _syntax("ORCPT must be xtext") from None
    if any(c < " " or c == "\x7f" or "\ud800" <= c <= "\udfff" for c in text):
        raise _syntax("control character in ORCPT")
    return {"orcpt": text}


_Reader = Callable[[str], dict[str, Any]]
_MAIL_PARAMETERS: dict[str, _Reader] = {
    "SIZE": _size, "BODY": _body, "SMTPUTF8": _smtputf8, "RET": _ret, "ENVID": _envid, "AUTH": _auth}
_RCPT_PARAMETERS: dict[str, _Reader] = {"NOTIFY": _notify, "ORCPT": _orcpt}

