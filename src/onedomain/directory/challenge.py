"""What Dovecot stores for log-ins by challenge (CRAM-MD5, SCRAM), so that a plain password can be checked against it.

Knows RFC 2195's key setup and RFC 5802's keys. Does not know how such a form is written (credentials.py).
"""

from __future__ import annotations

import hashlib
import hmac
import math
from struct import pack, unpack

_START = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)
_SINES = [int(abs(math.sin(i + 1)) * 2**32) & 0xFFFFFFFF for i in range(64)]
_SHIFTS = [shift for row in ((7, 12, 17, 22), (5, 9, 14, 20), (4, 11, 16, 23), (6, 10, 15, 21)) for shift in row * 4]


def cram_md5(password: bytes) -> bytes:
    """MD5's state after the outer key block of HMAC, then after the inner one: 32 octets."""
    key = (password if len(password) <= 64 else hashlib.md5(password).digest()).ljust(64, b"\0")
    return b"".join(pack("<4I", *_block(bytes(octet ^ pad for octet in key))) for pad in (0x5C, 0x36))


def scram(hash_name: str, password: bytes, salt: bytes, rounds: int) -> tuple[bytes, bytes]:
    """StoredKey and ServerKey."""
    salted = hashlib.pbkdf2_hmac(hash_name, password, salt, rounds)
    client_key = hmac.digest(salted, b"Client Key", hash_name)
    return hashlib.new(hash_name, client_key).digest(), hmac.digest(salted, b"Server Key", hash_name)


def _block(block: bytes) -> tuple[int, ...]:
    """RFC 1321 section 3.4 for the first block: hashlib doesn't show the state between blocks."""
    words = unpack("<16I", block)
    a, b, c, d = _START
    for i in range(64):
        if i < 16:
            mixed, word = (b & c) | (~b & d), i
        elif i < 32:
            mixed, word = (d & b) | (~d & c), (5 * i + 1) % 16
        elif i < 48:
            mixed, word = b ^ c ^ d, (3 * i + 5) % 16
        else:
            mixed, word = c ^ (b | (~d & 0xFFFFFFFF)), 7 * i % 16
        total = (a + mixed + _SINES[i] + words[word]) & 0xFFFFFFFF
        shift = _SHIFTS[i]
        a, d, c, b = d, c, b, (b + (total << shift | total >> (32 - shift))) & 0xFFFFFFFF
    return tuple((x + y) & 0xFFFFFFFF for x, y in zip(_START, (a, b, c, d), strict=True))
