"""xtext, the encoding of ESMTP parameter values (RFC 3461 section 4), and its UTF-8 cousin (RFC 6533 section 3).

Knows the two encodings. Does not know which parameter carries them.
"""

from __future__ import annotations

import re

_PLAIN = re.compile(r"[!-*,-<>-~]*")
_UNSAFE = re.compile(r"[^!-*,-<>-~]")
_HEX = re.compile(rb"\+([0-9A-F]{2})")
_UNITEXT = re.compile(r"\\x\{([0-9A-F]{2,6})\}")


def encode_xtext(text: str) -> str:
    """Everything but printable ASCII without `+` and `=` becomes `+XX`, octet by octet of UTF-8."""
    if _PLAIN.fullmatch(text):
        return text
    return _UNSAFE.sub(lambda m: "".join(f"+{octet:02X}" for octet in m[0].encode()), text)


def decode_xtext(text: str) -> str:
    """The inverse. Raises ValueError where `text` is no xtext, or hides control characters."""
    octets = _HEX.sub(lambda m: bytes((int(m[1], 16),)), text.encode())
    if b"+" in _HEX.sub(b"", text.encode()) or "=" in text:
        raise ValueError("not xtext")
    decoded = octets.decode()  # UnicodeDecodeError is a ValueError
    if any(c < " " or c == "\x7f" for c in decoded):
        raise ValueError("control character in xtext")
    return decoded


def encode_utf8_addr_xtext(text: str) -> str:
    r"""RFC 6533 utf-8-addr-xtext: `\x{HEX}` for `\`, `+`, `=`, blanks and everything outside printable ASCII."""
    return re.sub(r"[^!-*,-<>-\[\]-~]", lambda m: f"\\x{{{ord(m[0]):02X}}}", text)


def decode_utf8_addr_xtext(text: str) -> str:
    """The inverse, also of the unitext form. Raises ValueError on code points that are none."""
    return _UNITEXT.sub(lambda m: chr(int(m[1], 16)), text)
