"""What the bytes of a message say of who it is.

Knows our headers and what servers do to others'. Does not know where messages lie.

Two copies are the same message if they have the same digest. A copy that can't be recognised would be made again, so
what servers change is as if it had been changed already: header octets above 127 count as X (Cyrus's munge8bit stores
them so, also on APPEND), a NUL as 0x80 and a bare LF as CRLF (Dovecot's FETCH shows them so; measured).
"""

from __future__ import annotations

import re
from hashlib import sha256

from onedomain.model.message import DELIVERY_ID_HEADER
from onedomain.model.replica import Identity

FILLER_HEADER = "X-OneDomain-Filler"

_EIGHT_BIT = b"X" + bytes(range(1, 128)) + b"X" * 128
_BARE = re.compile(rb"(?<!\r)\n")
_DELIVERY = re.compile(rb"(?im)^" + DELIVERY_ID_HEADER.encode() + rb":[ \t]*([^\s]+)")
_FILLER = re.compile(rb"(?im)^" + FILLER_HEADER.encode() + rb":")


def identity_of(raw: bytes) -> Identity:
    if raw.count(b"\n") != raw.count(b"\r\n"):
        raw = _BARE.sub(b"\r\n", raw)
    end = raw.find(b"\r\n\r\n")
    header = raw[:end] if end >= 0 else raw
    delivery = _DELIVERY.search(header)
    digest = sha256(header.translate(_EIGHT_BIT))
    if b"\0" in raw:
        raw = raw.replace(b"\0", b"\x80")
    with memoryview(raw) as whole, whole[len(header):] as rest:  # large ones are not copied
        digest.update(rest)
    return Identity(digest.hexdigest(), delivery[1].decode("latin-1") if delivery else "", bool(_FILLER.search(header)))


def filler(folder: str, number: int) -> bytes:
    """A message made to be burned, unlike any other of its folder as long as UIDs are not used twice."""
    return f"{FILLER_HEADER}: {number}\r\nSubject: placeholder {number}\r\n\r\n{folder!a}\r\n".encode()
