"""A log-in that came whole, in one line, by one look at what has been received: what nearly every client's is like.

Knows the forms of LOGIN and AUTHENTICATE PLAIN without literals, escapes or anything behind them, and says of them what
`front.Front` says. Anything else is None: Front reads it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from onedomain.protocol import sasl

LONGEST = 2048

# No "{" and "[" outside quotes: they may begin a literal or a section, which are Front's.
_STRING = rb'(?:"([^"\\\r\n]*)"|([^ ()"{\[\r\n]+))'
_LINE = re.compile(
    rb"([!#$&',\-./0-9:;<=>?@A-Z^_`a-z|}~]{1,64}) "
    rb"(?:(?i:LOGIN) " + _STRING + rb" " + _STRING + rb"|(?i:AUTHENTICATE PLAIN) ([A-Za-z0-9+/=]+))\r?\n\Z"
)


class OneLine(NamedTuple):
    tag: bytes
    credentials: sasl.Credentials


def log_in(data: bytes) -> OneLine | None:
    """`data` is all that has been received since the greeting."""
    found = _LINE.match(data) if len(data) <= LONGEST else None
    if found is None:
        return None
    tag, quoted_login, login, quoted, password, response = found.groups()
    try:
        if response is None:
            credentials: sasl.Credentials | None = sasl.credentials(
                login if quoted_login is None else quoted_login, password if quoted is None else quoted
            )
        else:
            credentials = sasl.PlainServer().answer(sasl.decode(response))
    except sasl.SaslError:
        return None
    return OneLine(tag, credentials) if credentials is not None else None
