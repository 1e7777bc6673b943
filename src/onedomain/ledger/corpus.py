"""Mail as it is: generated from a seed, so that the same seed and number give the same bytes again.

Knows what real messages look like, Japanese ones above all; knows nothing of SMTP, of servers, or of the ledger.
Every message has From, To, Date and Message-ID, since servers add what is missing, and ends its lines in CRLF.
"""

from __future__ import annotations

import base64
import quopri
import random
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from email.utils import formatdate

TOKEN_HEADER = "X-Ledger-Token"
MAX_LINE = 998
"""Octets in a line without its CRLF: RFC 5322, 2.1.1."""

JAPANESE = (
    "請求書をお送りします。よろしくお願いいたします。株式会社一橋商事、経理部の高橋です。お世話になっております。"
)
VENDOR = "①②㈱髙橋﨑ⅣⅤ㍻№℡"
"""Characters of CP50221 and CP932 that ISO-2022-JP and Shift_JIS proper do not have."""

HALF_WIDTH = "ｶﾌﾞｼｷｶﾞｲｼｬ"

# NEC's own copies of IBM's extensions: what CP50221 uses, where Python's cp932 codec prefers IBM's.
NEC_SELECTED = {"髙": b"\xee\xe0", "﨑": b"\xed\x95"}

ODD_SENDERS = (
    "a..b@docomo.ne.jp",
    "a.@ezweb.ne.jp",
    ".first@docomo.ne.jp",
    "o'brien@example.org",
    "x=y/z!{}@example.org",
    "user+tag@example.org",
    "-dash@example.org",
    '"blank space"@example.org',
    "l" * 64 + "@example.org",
    "",
)
"""Return paths seen in the wild, the null one among them, without angle brackets."""

UTF8_SENDERS = ("日本@例え.テスト", "büro@example.org")


@dataclass(frozen=True)
class Message:
    """`data` is what follows DATA, before dot-stuffing. Without `final_newline` it has to be sent with BDAT."""

    token: str
    kind: str
    data: bytes
    eight_bit: bool
    final_newline: bool = True


class Corpus:
    """An endless stock of messages. `kinds` and `max_size` (octets) narrow it."""

    def __init__(self, seed: int = 0, kinds: Sequence[str] | None = None, max_size: int = 1 << 20) -> None:
        self.seed = seed
        self.kinds = tuple(kinds or DEFAULT_KINDS)
        self.max_size = max_size
        unknown = set(self.kinds) - set(KINDS)
        if unknown:
            raise ValueError(f"no such kind: {', '.join(sorted(unknown))}")

    def message(
        self, number: int, token: str, sender: str, recipients: Sequence[str], kind: str | None = None
    ) -> Message:
        """Message `number` of this seed. Every kind comes up once in each round."""
        kind = kind or self.kinds[number % len(self.kinds)]
        rng = random.Random(f"{self.seed}/{number}/{kind}")
        headers, body = KINDS[kind](rng, self._size(rng))
        head = _head(rng, token, sender, recipients, headers)
        data = head + b"\r\n" + body
        return Message(token, kind, data, max(data) > 127, data.endswith(b"\r\n"))

    def _size(self, rng: random.Random) -> int:
        """Mostly small: between 1 KB and `max_size`, each doubling half as likely as the one before."""
        size = 1024.0
        while size < self.max_size and rng.random() < 0.5:
            size *= 2
        return min(self.max_size, int(size * rng.uniform(0.5, 1)))


def _head(rng: random.Random, token: str, sender: str, recipients: Sequence[str], headers: list[bytes]) -> bytes:
    shown = sender if sender.isascii() and sender else "sender@example.org"
    lines = [
        f"From: =?UTF-8?B?{base64.b64encode('送信者'.encode()).decode()}?= <{shown}>".encode(),
        b"To: " + ", ".join(recipients[:10]).encode(),
        f"Date: {formatdate(1_750_000_000 + rng.randrange(10**7))}".encode(),
        f"Message-ID: <{token}@ledger.example.org>".encode(),
        *headers,
    ]
    lines.insert(rng.randrange(len(lines) + 1), f"{TOKEN_HEADER}: {token}".encode())
    return b"".join(line + b"\r\n" for line in lines)


def cp50221(text: str) -> bytes:
    """ISO-2022-JP as Microsoft writes it: vendor characters by their NEC row, half-width kana by ESC ( I."""
    out, mode = bytearray(), b"\x1b(B"

    def switch(to: bytes) -> None:
        nonlocal mode
        if to != mode:
            out.extend(to)
            mode = to

    for character in text:
        shifted = NEC_SELECTED.get(character) or character.encode("cp932")
        if len(shifted) == 2:
            switch(b"\x1b$B")
            out.extend(_jis(*shifted))
        elif shifted[0] > 0x7F:
            switch(b"\x1b(I")
            out.append(shifted[0] - 0x80)
        else:
            switch(b"\x1b(B")
            out.extend(shifted)
    switch(b"\x1b(B")
    return bytes(out)


def _jis(first: int, second: int) -> tuple[int, int]:
    """A double byte of Shift_JIS as row and column of JIS X 0208, both plus 0x20."""
    row = (first - (0x81 if first < 0xA0 else 0xC1)) * 2 + 0x21
    if second >= 0x9F:
        return row + 1, second - 0x7E
    return row, second - (0x20 if second > 0x7F else 0x1F)


def _lines(rng: random.Random, size: int, make: Callable[[], bytes]) -> bytes:
    """Lines from `make` until about `size` octets are reached; at least one."""
    lines: list[bytes] = []
    total = 0
    while total < size or not lines:
        line = make()
        lines.append(line)
        total += len(line) + 2
    return b"\r\n".join(lines) + b"\r\n"


def _japanese(rng: random.Random, vendor: bool = False) -> str:
    start = rng.randrange(len(JAPANESE) - 20)
    extra = "".join(rng.sample(VENDOR, 3)) if vendor else ""
    return JAPANESE[start : start + rng.randrange(8, 20)] + extra


def _ascii(rng: random.Random) -> bytes:
    return " ".join(rng.choice(("invoice", "meeting", "Re", "=3D", "from", "99.5%", "--")) for _ in range(10)).encode()


def _folded_base64(data: bytes) -> bytes:
    return b"\r\n".join(line.encode() for line in textwrap.wrap(base64.b64encode(data).decode(), 76)) + b"\r\n"


Parts = tuple[list[bytes], bytes]


def _plain(rng: random.Random, size: int) -> Parts:
    return [b"Subject: plain"], _lines(rng, size, lambda: _ascii(rng))


def _utf8(rng: random.Random, size: int) -> Parts:
    subject = base64.b64encode(_japanese(rng).encode())
    headers = [
        b"Subject: =?UTF-8?B?" + subject + b"?=",
        b"MIME-Version: 1.0",
        b"Content-Type: text/plain; charset=UTF-8",
        b"Content-Transfer-Encoding: 8bit",
    ]
    return headers, _lines(rng, size, lambda: (_japanese(rng, vendor=True) + "𠮷😀").encode())


def _utf8_headers(rng: random.Random, size: int) -> Parts:
    """Raw UTF-8 in headers (RFC 6532), sent all the same by those who never heard of SMTPUTF8."""
    return [f"Subject: {_japanese(rng)} é".encode()], _lines(rng, size, lambda: _ascii(rng))


def _shift_jis(rng: random.Random, size: int) -> Parts:
    """Raw Shift_JIS everywhere; second bytes such as 0x5C (in 表) trip those who look for backslashes."""
    headers = [
        b"Subject: " + ("表示能力" + _japanese(rng, vendor=True)).encode("cp932"),
        "X-Mailer: 表".encode("cp932"),
    ]
    return headers, _lines(rng, size, lambda: ("ソ表" + _japanese(rng, vendor=True)).encode("cp932"))


def _iso_2022_jp(rng: random.Random, size: int) -> Parts:
    subject = base64.b64encode(cp50221(_japanese(rng, vendor=True)))
    headers = [
        b"Subject: =?ISO-2022-JP?B?" + subject + b"?=",
        b"MIME-Version: 1.0",
        b"Content-Type: text/plain; charset=ISO-2022-JP",
        b"Content-Transfer-Encoding: 7bit",
    ]
    return headers, _lines(rng, size, lambda: cp50221(_japanese(rng, vendor=True) + HALF_WIDTH))


def _raw_iso_2022_jp(rng: random.Random, size: int) -> Parts:
    return [b"Subject: " + cp50221("①" + _japanese(rng))], _lines(rng, size, lambda: cp50221(_japanese(rng)))


def _euc_jp(rng: random.Random, size: int) -> Parts:
    headers = [b"Subject: " + _japanese(rng).encode("euc_jp"), b"Content-Type: text/plain; charset=EUC-JP"]
    return headers, _lines(rng, size, lambda: _japanese(rng).encode("euc_jp"))


def _quoted_printable(rng: random.Random, size: int) -> Parts:
    headers = [
        b"Subject: =?utf-8?q?=E8=AB=8B=E6=B1=82?=",
        b"MIME-Version: 1.0",
        b"Content-Type: text/plain; charset=utf-8",
        b"Content-Transfer-Encoding: quoted-printable",
    ]
    text = _lines(rng, size // 3, lambda: _japanese(rng).encode()).replace(b"\r\n", b"\n")
    return headers, quopri.encodestring(text).replace(b"\n", b"\r\n")


def _attachment(rng: random.Random, size: int) -> Parts:
    edge = b"=_ledger_%d" % rng.randrange(10**9)
    headers = [
        b"Subject: attachment",
        b"MIME-Version: 1.0",
        b'Content-Type: multipart/mixed; boundary="' + edge + b'"',
    ]
    body = (
        b"--" + edge + b"\r\nContent-Type: text/plain; charset=UTF-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        + _japanese(rng).encode()
        + b"\r\n--" + edge
        + b"\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment;\r\n"
        + b" filename*0*=UTF-8''%E8%AB%8B%E6%B1%82;\r\n filename*1=.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + _folded_base64(rng.randbytes(max(16, size * 3 // 4)))
        + b"--" + edge
        + b'\r\nContent-Type: application/octet-stream; name="' + "請求表.xls".encode("cp932") + b'"\r\n\r\n'
        + b"raw name above\r\n--" + edge + b"--\r\nepilogue\r\n"
    )  # fmt: skip
    return headers, body


def _alternative(rng: random.Random, size: int) -> Parts:
    headers = [b"Subject: html", b"MIME-Version: 1.0", b"Content-Type: multipart/alternative; boundary=b"]
    text = _japanese(rng).encode()
    html = b"<p>" + text + b"</p>" + b"<!-- " + b"x" * min(size, 600) + b" -->"
    return headers, (
        b"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + text
        + b"\r\n--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + html + b"\r\n--b--\r\n"
    )  # fmt: skip


def _forwarded(rng: random.Random, size: int) -> Parts:
    """A message in a message, with a token header of its own that must not be taken for the outer one."""
    inner = f"From: inner@example.org\r\n{TOKEN_HEADER}: not-this-one\r\nSubject: inner\r\n\r\n".encode()
    return [b"Subject: Fwd", b"MIME-Version: 1.0", b"Content-Type: message/rfc822"], inner + _plain(rng, size)[1]


def _dots(rng: random.Random, size: int) -> Parts:
    """Leading dots: RFC 5321, 4.5.2. The first and the last line among them."""
    dotted = (b".", b"..", b"...", b".hidden", b"..RSET", b"", b".\t", b"QUIT")
    return [b"Subject: dots"], b".\r\n" + _lines(rng, min(size, 8192), lambda: rng.choice(dotted)) + b"..\r\n.\r\n"


def _long_lines(rng: random.Random, size: int) -> Parts:
    def line() -> bytes:
        return bytes(rng.choice(b"abc .") for _ in range(rng.choice((MAX_LINE, MAX_LINE - 1, 512, 77))))

    # A dot in front makes a line of 998 octets one of 999 on the wire: the limit is meant without it.
    return [b"Subject: " + b"s" * 900], b"." * MAX_LINE + b"\r\n" + _lines(rng, size, line)


def _empty(rng: random.Random, size: int) -> Parts:
    return [b"Subject: empty body"], b""


def _blank(rng: random.Random, size: int) -> Parts:
    return [b"Subject: "], b"\r\n\r\n \r\n\t\r\ntrailing blanks   \r\n\r\n\r\n"


def _from_lines(rng: random.Random, size: int) -> Parts:
    """What mbox and its kin escape."""
    return [b"Subject: From"], b"From here on\r\n>From there\r\n\r\nFrom a@b Sat Nov 21 22:00:00 2026\r\n>>From\r\n"


def _controls(rng: random.Random, size: int) -> Parts:
    """Every octet but NUL, CR and LF: RFC 5322, 2.2 and 4.1."""
    octets = bytes(o for o in range(1, 256) if o not in b"\r\n")
    return [b"Subject: controls \x01\x1b[31m\x7f"], octets + b"\r\n" + octets[::-1] + b"\r\n"


def _folded(rng: random.Random, size: int) -> Parts:
    """Many and folded headers, empty folds, odd names, repeated ones."""
    references = b"\r\n".join(b"\t<%d@ledger.example.org>" % rng.randrange(10**12) for _ in range(40))
    headers = [
        b"References:\r\n" + references,
        b"Subject: folded\r\n \tover\r\n  lines",
        b"X-Empty:",
        b"X-Odd!#$%&'*+-.^_`|~: 1",
        b"X-Long: " + b"y" * 980,
        *(b"X-Many-%d: %d" % (number, number) for number in range(100)),
    ]
    return headers, _ascii(rng) + b"\r\n"


def _obsolete(rng: random.Random, size: int) -> Parts:
    """A blank before a colon (RFC 5322, 4.5.8). Postfix takes it out, so it is not among the default kinds."""
    return [b"Subject : obsolete", b"X-Obsolete\t: tab"], _ascii(rng) + b"\r\n"


def _no_final_newline(rng: random.Random, size: int) -> Parts:
    return [b"Subject: unfinished"], _plain(rng, size)[1] + b"last line without an end"


KINDS: dict[str, Callable[[random.Random, int], Parts]] = {
    "plain": _plain,
    "utf8": _utf8,
    "shift_jis": _shift_jis,
    "iso_2022_jp": _iso_2022_jp,
    "raw_iso_2022_jp": _raw_iso_2022_jp,
    "euc_jp": _euc_jp,
    "quoted_printable": _quoted_printable,
    "attachment": _attachment,
    "alternative": _alternative,
    "forwarded": _forwarded,
    "dots": _dots,
    "long_lines": _long_lines,
    "empty": _empty,
    "blank": _blank,
    "from_lines": _from_lines,
    "controls": _controls,
    "folded": _folded,
    "utf8_headers": _utf8_headers,
    "obsolete": _obsolete,
    "no_final_newline": _no_final_newline,
}
DEFAULT_KINDS = tuple(kind for kind in KINDS if kind not in ("no_final_newline", "obsolete"))
"""What every server in the lab, Postfix among them, passes and keeps to the octet."""


def senders(seed: int = 0, utf8: bool = False) -> Iterator[str]:
    """An endless series of return paths: nine ordinary ones, then an odd one."""
    rng = random.Random(f"{seed}/senders")
    odd = ODD_SENDERS + (UTF8_SENDERS if utf8 else ())
    while True:
        yield from (f"sender{rng.randrange(1000)}@example.org" for _ in range(9))
        yield rng.choice(odd)
