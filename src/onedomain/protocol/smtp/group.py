"""MAIL, RCPT and DATA that came together (RFC 2920), where all of them are of the plainest kind.

Knows how most clients spell them, and nothing else: what it does not know goes the general way, a line at a time
(command.py), and whatever it takes means the same there. It is here for the time it saves: nearly all mail comes so.
"""

from __future__ import annotations

import re

from onedomain.model.address import MAX_DOMAIN, MAX_LOCAL, Address
from onedomain.protocol.smtp.event import Group, Mail, Rcpt

LONGEST_LINE = 512
"""Above what any line of a group can come to; a listener that allows less takes none."""

_ADDRESS = rb"([\w.+=/-]{1,%d})@([\w.-]{1,%d})" % (MAX_LOCAL, MAX_DOMAIN)
_MAIL = re.compile(rb"MAIL FROM:<(?:%s)?>(?: SIZE=([0-9]{1,15}))?(?: BODY=(?:7BIT|(8BITMIME)))?\r\n" % _ADDRESS)
_RCPT = re.compile(rb"RCPT TO:<%s>\r\n" % _ADDRESS)
_DATA = b"DATA\r\n"


def read_group(buffer: bytes, start: int, *, recipients: int) -> tuple[Group, int] | None:
    """The group that stands at `start`, whole and with at most so many recipients, and where it ends; or None."""
    found = _MAIL.match(buffer, start)
    if found is None:
        return None
    local, domain, size, eight_bit = found.groups()
    end = found.end()
    rcpts: list[Rcpt] = []
    while (named := _RCPT.match(buffer, end)) is not None:
        rcpts.append(Rcpt(_address(*named.groups())))
        end = named.end()
    if not rcpts or len(rcpts) > recipients or not buffer.startswith(_DATA, end):
        return None
    sender = None if local is None else _address(local, domain)
    return Group(Mail(sender, int(size) if size else 0, eight_bit is not None), rcpts), end + len(_DATA)


def _address(local: bytes, domain: bytes) -> Address:
    return Address(local.decode(), domain.decode())
