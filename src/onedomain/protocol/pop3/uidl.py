"""UIDLs in the format that an account's clients know (RFC 1939 section 7), made from IMAP's UIDVALIDITY and UID.

Knows Dovecot's `pop3_uidl_format` as far as both numbers carry it: `%u` UID, `%v` UIDVALIDITY, `%%`, each number with
`X` (lower-case hex) and `0` with a width (padding). Does not know which server uses which format.

Dovecot's default is `%08Xu%08Xv`; Cyrus makes `%v.%u`, Courier `UID%u-%v`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

MAX_LENGTH = 70
_LARGEST = 0xFFFF_FFFF
_VARIABLE = re.compile(r"%(0?)(\d{0,2})(X?)(.?)", re.DOTALL)


class UidlFormatError(ValueError):
    """The template can't be used; the text is for whoever wrote it."""


@dataclass(frozen=True, slots=True)
class UidlFormat:
    """`pattern` is for str.format with `u` and `v`."""

    pattern: str

    def make(self, uidvalidity: int, uid: int) -> str:
        return self.pattern.format(u=uid, v=uidvalidity)


@lru_cache(256)
def uidl_format(template: str) -> UidlFormat:
    """Raises UidlFormatError."""
    made: list[str] = []
    used: set[str] = set()
    at = 0
    for found in _VARIABLE.finditer(template):
        made.append(_literal(template[at:found.start()], template))
        at = found.end()
        made.append(_variable(found, template))
        used.add(found[4])
    made.append(_literal(template[at:], template))
    if "u" not in used:
        raise UidlFormatError(f"UIDL format {template!r}: without %u all messages would have the same UIDL")
    result = UidlFormat("".join(made))
    if len(result.make(_LARGEST, _LARGEST)) > MAX_LENGTH:
        raise UidlFormatError(f"UIDL format {template!r}: may become longer than {MAX_LENGTH} characters")
    return result


def _literal(text: str, template: str) -> str:
    if not all("!" <= c <= "~" for c in text):
        raise UidlFormatError(f"UIDL format {template!r}: only printable ASCII without blanks can be in a UIDL")
    return text.replace("{", "{{").replace("}", "}}")


def _variable(found: re.Match[str], template: str) -> str:
    zero, width, hexadecimal, name = found.groups()
    if name == "%" and found[0] == "%%":
        return "%"
    if name not in ("u", "v"):
        raise UidlFormatError(
            f"UIDL format {template!r}: {found[0]!r} is not known here; what every server's IMAP gives is %u and %v"
        )
    if width and not zero:
        # Dovecot cuts a number at a width without 0: two messages would share a UIDL.
        raise UidlFormatError(f"UIDL format {template!r}: {found[0]!r} needs a 0 before its width")
    padding = f"0{width}" if zero and width else ""
    return f"{{{name}:{padding}{'x' if hexadecimal else 'd'}}}"
