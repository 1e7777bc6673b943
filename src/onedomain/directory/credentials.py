"""Password hashes: made, checked, recognised, as crypt(3) and Dovecot write them.

Knows schemes. Does not know accounts, nor how often anybody may try. Everything here is slow on purpose and belongs
in a thread.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error
from argon2.low_level import Type, verify_secret

from onedomain.directory.challenge import cram_md5, scram
from onedomain.directory.crypt import CryptError, crypt

MAX_PASSWORD = 512
"""Octets; libxcrypt takes no more, and nobody types more."""

DEFAULT = "ARGON2ID"

# Mail programs log in many times a day, so these are OWASP's least: 19 MiB, two passes; some 25 ms.
_ARGON2 = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)

# Costs above these stop a log-in for seconds: a slip, or somebody's joke.
_MAX_MEMORY, _MAX_PASSES, _MAX_ROUNDS, _MAX_BCRYPT = 1024 * 1024, 100, 5_000_000, 16


class CredentialError(ValueError):
    """The stored form is none that can be checked; the message is for the administrator and contains nothing secret."""


@dataclass(frozen=True, slots=True)
class _Digest:
    name: str
    salted: bool
    hexadecimal: bool = False


_DIGESTS = {
    "SHA": _Digest("sha1", False),
    "SHA1": _Digest("sha1", False),
    "SSHA": _Digest("sha1", True),
    "SHA256": _Digest("sha256", False),
    "SSHA256": _Digest("sha256", True),
    "SHA512": _Digest("sha512", False),
    "SSHA512": _Digest("sha512", True),
    "LDAP-MD5": _Digest("md5", False),
    "PLAIN-MD5": _Digest("md5", False, hexadecimal=True),
    "SMD5": _Digest("md5", True),
}
_CRYPTS = {
    "CRYPT": r"",
    "MD5-CRYPT": r"\$1\$",
    "MD5": r"\$1\$",
    "BLF-CRYPT": r"\$2[abxy]\$",
    "SHA256-CRYPT": r"\$5\$",
    "SHA512-CRYPT": r"\$6\$",
    "DES-CRYPT": r"[./0-9A-Za-z]{13}$",
}
_PLAIN = ("PLAIN", "CLEAR", "CLEARTEXT")
_ARGONS = {"ARGON2ID": Type.ID, "ARGON2I": Type.I}
_CRAMS = ("CRAM-MD5", "HMAC-MD5")
_SCRAMS = {"SCRAM-SHA-1": "sha1", "SCRAM-SHA-256": "sha256"}
SCHEMES = (*_ARGONS, *_CRYPTS, *_DIGESTS, *_PLAIN, *_CRAMS, *_SCRAMS, "PBKDF2")

_PREFIX = re.compile(r"\{([A-Za-z0-9-]+)(?:\.(b64|base64|hex))?\}", re.IGNORECASE)
_BARE_CRYPT = re.compile(r"\$(?:1|2[abxy]|5|6|7|y|gy)\$")


def check(stored: str) -> None:
    """Whether a password could be checked against this; raises CredentialError with the reason if not."""
    scheme, encoding, hashed = _split(stored)
    if scheme in _ARGONS:
        _check_argon2(scheme, hashed)
    elif scheme in _CRYPTS:
        _check_crypt(scheme, hashed)
    elif scheme in _DIGESTS:
        _digest_parts(_DIGESTS[scheme], encoding, hashed)
    elif scheme == "PBKDF2":
        _pbkdf2_parts(hashed)
    elif scheme in _CRAMS:
        _cram_parts(scheme, hashed)
    elif scheme in _SCRAMS:
        _scram_parts(scheme, hashed)
    elif not _decoded(encoding, hashed):
        raise CredentialError(f"{{{scheme}}}: no password behind it")


def verify(hash: str, password: str) -> bool:
    """Whether the password is the one. Compares in constant time. Nothing fits what `check` refuses."""
    try:
        check(hash)
        return _fits(*_split(hash), password)
    except CredentialError:
        return False


def _fits(scheme: str, encoding: str, hashed: str, password: str) -> bool:
    given = password.encode("utf-8", "surrogateescape")
    if not given or len(given) > MAX_PASSWORD or b"\0" in given:
        return False
    if scheme in _ARGONS:
        try:
            return bool(verify_secret(hashed.encode(), given, _ARGONS[scheme]))
        except Argon2Error:
            return False
    if scheme in _CRYPTS:
        try:
            return hmac.compare_digest(crypt(given, hashed.encode()), hashed.encode())
        except CryptError as error:
            raise CredentialError(f"{{{scheme}}}: {error}") from None
    if scheme in _DIGESTS:
        digest = _DIGESTS[scheme]
        wanted, salt = _digest_parts(digest, encoding, hashed)
        return hmac.compare_digest(hashlib.new(digest.name, given + salt).digest(), wanted)
    if scheme == "PBKDF2":
        salt, rounds, wanted = _pbkdf2_parts(hashed)
        return hmac.compare_digest(hashlib.pbkdf2_hmac("sha1", given, salt, rounds), wanted)
    if scheme in _CRAMS:
        return hmac.compare_digest(cram_md5(given), _cram_parts(scheme, hashed))
    if scheme in _SCRAMS:
        salt, rounds, wanted = _scram_parts(scheme, hashed)
        return hmac.compare_digest(b"".join(scram(_SCRAMS[scheme], given, salt, rounds)), wanted)
    return hmac.compare_digest(_decoded(encoding, hashed), given)


def make(password: str, scheme: str = DEFAULT) -> str:
    """A hash to store. Schemes: ARGON2ID, SHA512-CRYPT, SSHA256. Raises CredentialError.

    The others are for hashes that came from elsewhere.
    """
    given = password.encode()
    if not given or len(given) > MAX_PASSWORD or b"\0" in given:
        raise CredentialError(f"a password has 1 to {MAX_PASSWORD} octets and no NUL")
    if scheme == "ARGON2ID":
        return _ARGON2.hash(given)
    if scheme == "SHA512-CRYPT":
        salt = base64.b64encode(secrets.token_bytes(12), b"./").decode()
        return crypt(given, f"$6$rounds=100000${salt}".encode()).decode()
    if scheme == "SSHA256":
        salt_ = secrets.token_bytes(16)
        return "{SSHA256}" + base64.b64encode(hashlib.sha256(given + salt_).digest() + salt_).decode()
    raise CredentialError(f"no new hashes are made with {scheme}: use ARGON2ID, SHA512-CRYPT or SSHA256")


def _split(stored: str) -> tuple[str, str, str]:
    """(scheme, encoding or "", hash)."""
    if not stored.isprintable():
        raise CredentialError("a stored password is one line of printable characters")
    if found := _PREFIX.match(stored):
        scheme, encoding = found[1].upper(), (found[2] or "").lower()
        if scheme not in SCHEMES:
            raise CredentialError(f"unknown scheme {{{found[1]}}}; known: {', '.join(SCHEMES)}")
        rest = stored[found.end() :]
        if scheme == "MD5" and re.fullmatch(r"[0-9a-fA-F]{32}", rest):
            scheme = "PLAIN-MD5"  # Dovecot takes {MD5} for either, by its looks
        return scheme, encoding, rest
    if stored.startswith("$argon2id$"):
        return "ARGON2ID", "", stored
    if stored.startswith("$argon2i$"):
        return "ARGON2I", "", stored
    if _BARE_CRYPT.match(stored):
        return "CRYPT", "", stored
    raise CredentialError("no scheme is recognised: write {SCHEME} in front, such as {PLAIN} or {CRYPT}")


def _check_argon2(scheme: str, hashed: str) -> None:
    parts = r"\$(argon2id?)\$v=19\$m=(\d{1,10}),t=(\d{1,6}),p=\d{1,3}\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+"
    found = re.fullmatch(parts, hashed)
    if not found or found[1].upper() != scheme:
        raise CredentialError(f"{{{scheme}}}: damaged hash")
    if int(found[2]) > _MAX_MEMORY or int(found[3]) > _MAX_PASSES:
        raise CredentialError(f"{{{scheme}}}: costs more than {_MAX_MEMORY} KiB or {_MAX_PASSES} passes")


def _check_crypt(scheme: str, hashed: str) -> None:
    if not re.match(_CRYPTS[scheme], hashed) or not re.fullmatch(r"[!-~]{13,384}", hashed) or hashed[0] in "*!{":
        raise CredentialError(f"{{{scheme}}}: damaged hash, or one of another kind")
    rounds = re.match(r"\$[56]\$rounds=(\d+)\$", hashed)
    bcrypt = re.match(r"\$2[abxy]\$(\d\d)\$", hashed)
    if (rounds and int(rounds[1]) > _MAX_ROUNDS) or (bcrypt and int(bcrypt[1]) > _MAX_BCRYPT):
        raise CredentialError(f"{{{scheme}}}: costs more than {_MAX_ROUNDS} rounds (bcrypt: cost {_MAX_BCRYPT})")


def _digest_parts(digest: _Digest, encoding: str, hashed: str) -> tuple[bytes, bytes]:
    """(digest, salt)."""
    size = hashlib.new(digest.name).digest_size
    if not encoding:
        looks_hexadecimal = not digest.salted and re.fullmatch(rf"[0-9a-fA-F]{{{2 * size}}}", hashed)
        encoding = "hex" if digest.hexadecimal or looks_hexadecimal else "b64"
    raw = _decoded(encoding, hashed)
    if len(raw) < size + digest.salted or (not digest.salted and len(raw) != size):
        raise CredentialError(f"damaged hash: {size} octets expected{', then the salt' if digest.salted else ''}")
    return raw[:size], raw[size:]


def _pbkdf2_parts(hashed: str) -> tuple[bytes, int, bytes]:
    """Dovecot's $1$salt$rounds$hex of PBKDF2-HMAC-SHA1: (salt, rounds, key)."""
    found = re.fullmatch(r"\$1\$([^$]{1,64})\$(\d{1,8})\$([0-9a-f]{40})", hashed)
    if not found or not 1 <= int(found[2]) <= _MAX_ROUNDS:
        raise CredentialError("{PBKDF2}: damaged hash; $1$salt$rounds$hash expected")
    return found[1].encode(), int(found[2]), bytes.fromhex(found[3])


def _cram_parts(scheme: str, hashed: str) -> bytes:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", hashed):
        raise CredentialError(f"{{{scheme}}}: damaged hash; 64 hexadecimal digits expected")
    return bytes.fromhex(hashed)


def _scram_parts(scheme: str, hashed: str) -> tuple[bytes, int, bytes]:
    """Dovecot's rounds,salt,StoredKey,ServerKey: (salt, rounds, both keys)."""
    found = re.fullmatch(r"(\d{1,8}),([A-Za-z0-9+/=]{1,128}),([A-Za-z0-9+/=]+),([A-Za-z0-9+/=]+)", hashed)
    if not found or not 1 <= int(found[1]) <= _MAX_ROUNDS:
        raise CredentialError(f"{{{scheme}}}: damaged hash; rounds,salt,key,key expected")
    salt, stored, server = (_decoded("b64", part) for part in found.groups()[1:])
    size = hashlib.new(_SCRAMS[scheme]).digest_size
    if len(stored) != size or len(server) != size:
        raise CredentialError(f"{{{scheme}}}: damaged hash; {size} octets expected for each key")
    return salt, int(found[1]), stored + server


def _decoded(encoding: str, text: str) -> bytes:
    try:
        if encoding == "hex":
            return binascii.unhexlify(text)
        if encoding in ("b64", "base64"):
            return base64.b64decode(text, validate=True)
    except ValueError:
        raise CredentialError(f"damaged hash: not {'hexadecimal' if encoding == 'hex' else 'base64'}") from None
    return text.encode("utf-8", "surrogateescape")
