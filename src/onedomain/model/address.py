"""A mailbox address as it stands in an envelope (RFC 5321 section 4.1.2, RFC 6531).

Knows how to split, compare and render one. Does not know who exists: that is the directory's.
Local parts are carried as they came: `a..b@docomo.ne.jp` and `a.@ezweb.ne.jp` are real people.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

MAX_LOCAL = 64
MAX_DOMAIN = 255

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_NEEDS_QUOTES = re.compile(r'[ <>"(),:;@\[\\\]]')
_NOT_IN_DOMAIN = re.compile(r'[ <>"(),;@\\]')


class AddressError(ValueError):
    """The text is no address; the message is fit for the peer."""


def folded(text: str) -> str:
    """An address or domain as the directory spells it."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", text).lower()


@dataclass(frozen=True, slots=True)
class Address:
    """`local@domain`; local exactly as it came (with its quotes, if it had any), domain as it came."""

    local: str
    domain: str

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}"

    @property
    def key(self) -> str:
        """What two spellings of one address have in common; the directory's primary key."""
        return folded(f"{self.local}@{self.domain}")

    @property
    def is_ascii(self) -> bool:
        return self.local.isascii() and self.domain.isascii()

    def without_tag(self, separator: str = "+") -> Address:
        """`user+tag@d` -> `user@d`; unchanged where there is no tag or nothing before it."""
        base, found, _ = self.local.partition(separator)
        return Address(base, self.domain) if found and base else self

    def tag(self, separator: str = "+") -> str:
        """The part after the separator, or the empty string."""
        base, _, tag = self.local.partition(separator)
        return tag if base else ""


def parse_address(text: str) -> Address:
    """`local@domain` without angle brackets -> Address.

    Only what would be dangerous or ambiguous on the wire is refused: control characters, blanks outside quotes,
    angle brackets outside quotes, a missing side, sizes over RFC 5321 section 4.5.3.1. Raises AddressError.
    """
    local, at, domain = text.rpartition("@")
    if not at or not local or not domain:
        raise AddressError("address needs a local part and a domain")
    if _octets(local) > MAX_LOCAL:
        raise AddressError("local part longer than 64 octets")
    if _octets(domain) > MAX_DOMAIN:
        raise AddressError("domain longer than 255 octets")
    if _CONTROL.search(text):
        raise AddressError("control characters in address")
    quoted = len(local) >= 2 and local[0] == local[-1] == '"'
    if not quoted and _NEEDS_QUOTES.search(local):
        raise AddressError("character that needs quoting in local part")
    if _NOT_IN_DOMAIN.search(domain):
        raise AddressError("character not allowed in domain")
    return Address(local, domain)


def _octets(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
