"""The words of a message, for searching: encoded words, charsets and transfer encodings undone.

Knows RFC 2047, RFC 2045 section 6, and mail as it is in Japan: ISO-2022-JP is read as CP50221 (with ①㈱髙 and
half-width kana), raw bytes in headers are UTF-8, ISO-2022-JP or Shift_JIS. Never fails: what can't be read becomes
U+FFFD.
"""

from __future__ import annotations

import binascii
import html
import re
import unicodedata

from onedomain.protocol.message.structure import Buffer, Part

MAX_TEXT = 8 * 1024 * 1024
"""Bytes of one part that are looked at."""

_WORD = re.compile(rb"=\?([!-)+->@-^_-~*]+?)(?:\*[A-Za-z0-9-]*)?\?([BbQq])\?([!->@-~ ]*?)\?=")
_BETWEEN = re.compile(rb"(\?=)[ \t\r\n]+(?==\?)")
_ESCAPE = re.compile(rb"\x1b(\$@|\$B|\$\(D|\(B|\(J|\(I)")
_TAG = re.compile(r"<[^<>]*>")

_SHIFT_JIS = frozenset({"shift_jis", "shift-jis", "sjis", "x-sjis", "ms_kanji", "windows-31j", "cp932"})
_ISO_2022_JP = frozenset({"iso-2022-jp", "cp50220", "cp50221", "csiso2022jp", "iso-2022-jp-ms"})


def fold(text: str) -> str:
    """What two spellings have in common: case, full and half width (NFKC)."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()


def decode(data: bytes, charset: str) -> str:
    """Unknown charsets are guessed."""
    name = charset.strip().lower()
    if name in _ISO_2022_JP:
        return decode_iso_2022_jp(data)
    if name in _SHIFT_JIS:
        return data.decode("cp932", "replace")
    if name in ("", "us-ascii", "ascii", "unknown-8bit"):
        return guess(data)
    try:
        return data.decode(name, "replace")
    except (LookupError, ValueError):  # unknown, no charset at all (zlib, hex), or one that can't replace (idna)
        return guess(data)


def guess(data: bytes) -> str:
    """Text of which nobody says what it is."""
    if data.isascii() and b"\x1b" not in data:
        return data.decode("ascii")
    if b"\x1b$" in data:
        return decode_iso_2022_jp(data)
    for codec in ("utf-8", "cp932"):
        try:
            return data.decode(codec)
        except UnicodeDecodeError:
            continue
    return data.decode("latin-1")


def decode_iso_2022_jp(data: bytes) -> str:
    """As CP50221: the rows that JIS left free hold NEC's and IBM's characters; Python's own codec refuses them."""
    pieces: list[str] = []
    state, at = b"(B", 0
    for escape in [*_ESCAPE.finditer(data), None]:
        end = escape.start() if escape else len(data)
        pieces.append(_decode_set(state, data[at:end]))
        if escape is None:
            break
        state, at = escape[1], escape.end()
    return "".join(pieces)


def _decode_set(state: bytes, data: bytes) -> str:
    if not data:
        return ""
    if state in (b"(B", b"(J"):
        return data.decode("cp932", "replace")
    if state == b"(I":
        return bytes(byte | 0x80 for byte in data).decode("cp932", "replace")
    pairs = [data[at:at + 2] for at in range(0, len(data), 2)]
    if state == b"$(D":
        packed = b"".join(b"\x8f" + bytes(byte | 0x80 for byte in pair) if len(pair) == 2 else pair for pair in pairs)
        return packed.decode("euc_jp", "replace")
    return b"".join(map(_shifted, pairs)).decode("cp932", "replace")


def _shifted(pair: bytes) -> bytes:
    """Two bytes of JIS X 0208 -> Shift_JIS; anything else (a line end inside the set) stays."""
    if len(pair) < 2 or not (0x21 <= pair[0] <= 0x7E and 0x21 <= pair[1] <= 0x7E):
        return pair
    first = (pair[0] - 0x21) // 2 + 0x81
    if first > 0x9F:
        first += 0x40
    if pair[0] % 2:
        second = pair[1] + 0x1F + (pair[1] >= 0x60)
    else:
        second = pair[1] + 0x7E
    return bytes((first, second))


def decode_header(value: bytes) -> str:
    """An unfolded field value with its encoded words decoded.

    Neighbouring words of one charset are joined before they are decoded: many programs cut inside a character.
    """
    if b"=?" not in value:
        return guess(value)
    value = _BETWEEN.sub(rb"\1", value)
    pieces: list[str] = []
    charset, collected, at = "", b"", 0
    for word in _WORD.finditer(value):
        named = word[1].decode("ascii").lower()
        if collected and (word.start() > at or named != charset):
            pieces.append(decode(collected, charset))
            collected = b""
        if word.start() > at:
            pieces.append(guess(value[at:word.start()]))
        charset, at = named, word.end()
        collected += _unquote_word(word[2], word[3])
    if collected:
        pieces.append(decode(collected, charset))
    pieces.append(guess(value[at:]))
    return "".join(pieces)


def _unquote_word(encoding: bytes, data: bytes) -> bytes:
    if encoding in b"Qq":
        return binascii.a2b_qp(data, header=True)
    return _base64(data)


def _base64(data: bytes) -> bytes:
    data = re.sub(rb"[^A-Za-z0-9+/]", b"", data)
    if len(data) % 4 == 1:
        data = data[:-1]
    return binascii.a2b_base64(data + b"=" * (-len(data) % 4))


def part_text(buffer: Buffer, part: Part) -> str:
    """The text of a text/* part, decoded; of HTML without its tags."""
    start, end = part.body
    data = buffer[start:min(end, start + MAX_TEXT)]
    if part.encoding == b"base64":
        data = _base64(data)
    elif part.encoding == b"quoted-printable":
        data = binascii.a2b_qp(data)
    text = decode(data, (part.parameter(b"charset") or b"").decode("ascii", "replace"))
    if part.subtype == b"html":
        return html.unescape(_TAG.sub("", text))
    return text
