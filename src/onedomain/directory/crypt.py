"""The system's crypt(3): libxcrypt's crypt_r through ctypes, since Python 3.13 has no module for it.

Knows one call. Does not know which hashes are wanted.
"""

from __future__ import annotations

import ctypes
from functools import cache

ROOM = 256 * 1024
"""Bytes of working memory: struct crypt_data has 32,768 in libxcrypt and 131,232 in old glibc."""


class CryptError(Exception):
    """The system's library cannot compute this hash."""


@cache
def _library() -> ctypes.CDLL:
    for name in ("libcrypt.so.1", "libcrypt.so.2", None):
        try:
            library = ctypes.CDLL(name)
            library.crypt_r.restype = ctypes.c_char_p
            library.crypt_r.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p]
        except (OSError, AttributeError):
            continue
        return library
    raise CryptError("no libcrypt on this system: install libcrypt1 (Debian) or libxcrypt")


def crypt(password: bytes, setting: bytes) -> bytes:
    """The hash of `password` as `setting` (a hash, or its beginning) says. The interpreter's lock is free meanwhile.

    Raises CryptError where the library does not know the method or the setting is damaged.
    """
    if b"\0" in password or b"\0" in setting:
        raise CryptError("a NUL byte cannot be hashed by crypt")
    made: bytes | None = _library().crypt_r(password, setting, ctypes.create_string_buffer(ROOM))
    if made is None or made.startswith(b"*"):
        raise CryptError("libcrypt cannot compute this kind of hash, or it is damaged")
    return made
