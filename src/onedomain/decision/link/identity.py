"""What the bytes of a message say of who it is.

Knows our headers and what Cyrus does to others'. Does not know where messages lie.

Two copies are the same message if they have the same digest. Header octets above 127 count as X: Cyrus's munge8bit
stores them so, also on APPEND, and a copy that can't be recognised would be made again.
"""

from __future__ import annotations

import re
from hashlib import sha256

from onedomain.model.message import DELIVERY_ID_HEADER
from onedomain.model.replica import Identity

FILLER_HEADER = "X-OneDomain-Filler"

_EIGHT_BIT = bytes(range(128)) + b"X" * 128
_DELIVERY = re.compile(rb"(?im)^" + DELIVERY_ID_HEADER.encode() + rb":[ \t]*([^\s]+)")
_FILLER = re.compile(rb"(?im)^" + FILLER_HEADER.encode() + rb":")


def identity_of(raw: bytes) -> Identity:
    header, blank, body = raw.partition(b"\r\n\r\n")
    delivery = _DELIVERY.search(header)
    digest = sha256(header.translate(_EIGHT_BIT) + blank + body).hexdigest()
    return Identity(digest, delivery[1].decode("latin-1") if delivery else "", bool(_FILLER.search(header)))


def filler(folder: str, number: int) -> bytes:
    """A message made to be burned, unlike any other of its folder as long as UIDs are not used twice."""
    return f"{FILLER_HEADER}: {number}\r\nSubject: placeholder {number}\r\n\r\n{folder!a}\r\n".encode()
