"""The header fields that we put in front of a message: Received, our trace, our delivery id (RFC 5321 section 4.4).

Knows how they are written, and that whatever a client said may be in them only once it can do no harm. Does not know
clocks, ids or sessions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from onedomain.model.message import DELIVERY_ID_HEADER, TRACE_HEADER
from onedomain.protocol.message.date import format_date

_DOMAIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,253}[A-Za-z0-9])?")
_HARMFUL = re.compile(r"[^!#-'*+./0-9:=?@A-\[\]-~-]")


@dataclass(frozen=True, slots=True)
class Hop:
    """How a message came to us. `tls` describes the connection ("TLSv1.3 with cipher …") or is ""."""

    hello: str
    client: str
    edge: str
    extended: bool = True
    tls: str = ""
    login: bool = False
    smtputf8: bool = False
    lmtp: bool = False

    @property
    def protocol(self) -> str:
        """RFC 3848 and RFC 6531 section 4.3: ESMTPSA, UTF8SMTP and so on."""
        if not self.extended:
            return "SMTP"
        base = ("UTF8LMTP" if self.lmtp else "UTF8SMTP") if self.smtputf8 else "LMTP" if self.lmtp else "ESMTP"
        return base + ("S" if self.tls else "") + ("A" if self.login else "")


def build_received(hop: Hop, id: str, at: float, *, recipient: str = "") -> bytes:
    """`at` in seconds since 1970; `recipient` only where there is just one, as others are nobody's business."""
    to = f"\tfor <{harmless(recipient, utf8=hop.smtputf8)}>\r\n" if recipient else ""
    opening, tls = _opening(hop)
    lines = f"{opening}{id}\r\n{tls}{to}"
    return f"{lines[:-2]};\r\n\t{format_date(at)}\r\n".encode()


@lru_cache(1024)  # a session's messages all come the same way
def _opening(hop: Hop) -> tuple[str, str]:
    """What stands before the id, and the line after it, which may be none."""
    literal = address_literal(hop.client)
    hello = harmless(hop.hello)
    if _DOMAIN.fullmatch(hop.hello):
        source = f"{hello} ({literal})"
    elif hello and hello != literal:
        source = f"{literal} (helo={hello})"
    else:
        source = literal
    tls = f"\t({harmless(hop.tls, blanks=True)})\r\n" if hop.tls else ""
    return f"Received: from {source}\r\n\tby {hop.edge} (OneDomain) with {hop.protocol} id ", tls


def build_trace(cluster: str, edge: str, id: str) -> bytes:
    """What loop.py counts: one for each time the message came to edges of this cluster."""
    return f"{TRACE_HEADER}: cluster={cluster}; edge={edge}; id={id}\r\n".encode()


def build_delivery_id(id: str) -> bytes:
    return f"{DELIVERY_ID_HEADER}: {id}\r\n".encode()


def build_date(at: float) -> bytes:
    return f"Date: {format_date(at)}\r\n".encode()


def build_message_id(id: str, host: str) -> bytes:
    return f"Message-ID: <{id}@{host}>\r\n".encode()


def address_literal(address: str) -> str:
    """RFC 5321 section 4.1.3: `[192.0.2.1]`, `[IPv6:2001:db8::1]`."""
    return f"[IPv6:{address}]" if ":" in address else f"[{address or 'unknown'}]"


def harmless(text: str, *, blanks: bool = False, utf8: bool = False) -> str:
    """Text of a peer, fit for a structured field: no line end, no parenthesis, no quote; cut at 255 characters."""
    if _HARMFUL.search(text) is None:
        return text[:255]

    def replace(match: re.Match[str]) -> str:
        c = match[0]
        keep = (blanks and c == " ") or (utf8 and c > "\x9f" and c.isprintable())
        return c if keep else "?"

    return _HARMFUL.sub(replace, text[:255])
