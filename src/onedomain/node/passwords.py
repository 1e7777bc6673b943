"""Passwords of a node's own accounts: argon2id. Knows hashing; does not know accounts."""

from __future__ import annotations

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

_hasher = PasswordHasher()
_nobody = _hasher.hash("nobody's")


class Argon2Passwords:
    def verify(self, stored: str, given: str) -> bool:
        try:
            return _hasher.verify(stored or _nobody, given.encode("utf-8", "surrogateescape")) and bool(stored)
        except (VerificationError, InvalidHashError):
            return False


def hash_password(password: str) -> str:
    return _hasher.hash(password)
