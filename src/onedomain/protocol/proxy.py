"""The PROXY protocol, versions 1 and 2: who the client is, told by whoever passes its connection on.

Source: haproxy's doc/proxy-protocol.txt (2020/03/05 and later). Sans-IO: bytes in, a header out. Does not know whom to
believe: that is the listener's.

The bytes after the header are not the header's, and may be TLS. So the parser says how many bytes it can take without
touching them, and is never given more.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
MAX_V1 = 107
"""Section 2.1: the longest line, CRLF included."""

MAX_V2 = 4096
"""Bytes after the first 16 that we take; addresses need 36 at most, the rest are TLVs."""

_V2_HEAD = 16
_SHORTEST_V1 = len(b"PROXY UNKNOWN\r\n")

Address = tuple[str, int]


class ProxyError(ValueError):
    """Not a PROXY header, or a wrong one. The connection can't be used: nothing tells who is there."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """source and destination are None for LOCAL and UNKNOWN: the connection's own addresses stand (health checks)."""

    version: int
    source: Address | None
    destination: Address | None


class ProxyParser:
    """Feed it at most `wanted` bytes at a time until `header` is there. ProxyError, at the first wrong byte."""

    def __init__(self) -> None:
        self.header: ProxyHeader | None = None
        self._data = b""

    @property
    def wanted(self) -> int:
        """How many bytes may be taken from the connection without reading past the header; 0 when it is complete."""
        data = self._data
        if self.header is not None:
            return 0
        if len(data) < len(SIGNATURE):
            return len(SIGNATURE) - len(data)
        if data.startswith(SIGNATURE):
            if len(data) < _V2_HEAD:
                return _V2_HEAD - len(data)
            return _V2_HEAD + _v2_length(data) - len(data)
        if len(data) < _SHORTEST_V1:
            return _SHORTEST_V1 - len(data)
        return 1 if data.endswith(b"\r") else 2

    def receive(self, data: bytes) -> None:
        if len(data) > self.wanted:
            raise ValueError("more bytes than wanted")
        self._data += data
        known = self._data[: len(SIGNATURE)]
        if SIGNATURE.startswith(known):
            self._try_v2()
        elif b"PROXY ".startswith(known[:6]):
            self._try_v1()
        else:
            raise ProxyError("no PROXY header")

    def _try_v1(self) -> None:
        line, end, _ = self._data.partition(b"\r\n")
        if end:
            self.header = _parse_v1(line)
        elif len(self._data) >= MAX_V1:
            raise ProxyError("PROXY line longer than 107 bytes")
        elif b"\n" in self._data or b"\r" in self._data[:-1]:
            raise ProxyError("bare CR or LF in PROXY line")

    def _try_v2(self) -> None:
        data = self._data
        if len(data) < _V2_HEAD:
            return
        if data[12] >> 4 != 2:
            raise ProxyError(f"PROXY version {data[12] >> 4} is not known")
        length = _v2_length(data)
        if length > MAX_V2:
            raise ProxyError(f"PROXY header of {length} bytes is too long")
        if len(data) == _V2_HEAD + length:
            self.header = _parse_v2(data[12] & 0xF, data[13], data[_V2_HEAD:])


def build_v2(source: Address | None, destination: Address | None) -> bytes:
    """The version 2 header. Without addresses LOCAL, which says that the proxy speaks for itself."""
    if source is None or destination is None:
        return SIGNATURE + struct.pack("!BBH", 0x20, 0x00, 0)
    ours, theirs = _same_family(source, destination)
    body = ours.packed + theirs.packed + struct.pack("!HH", source[1], destination[1])
    return SIGNATURE + struct.pack("!BBH", 0x21, 0x11 if ours.version == 4 else 0x21, len(body)) + body


IP = ipaddress.IPv4Address | ipaddress.IPv6Address


def _same_family(source: Address, destination: Address) -> tuple[IP, IP]:
    """Both as IPv4 if they are, else both as IPv6: an IPv4 one is mapped (RFC 4291 section 2.5.5.2)."""
    ours, theirs = (ipaddress.ip_address(host.partition("%")[0]) for host in (source[0], destination[0]))
    if ours.version == theirs.version:
        return ours, theirs
    return _mapped(ours), _mapped(theirs)


def _mapped(address: IP) -> IP:
    return address if address.version == 6 else ipaddress.IPv6Address(f"::ffff:{address}")


def _text(address: IP) -> str:
    """A mapped IPv4 address as what it is: limits and logs must know it again."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _v2_length(data: bytes) -> int:
    return int.from_bytes(data[14:16], "big")


def _parse_v1(line: bytes) -> ProxyHeader:
    words = line.split(b" ")
    if len(words) >= 2 and words[1] == b"UNKNOWN":
        return ProxyHeader(1, None, None)  # section 2.1: whatever follows must be ignored
    if len(words) != 6 or words[1] not in (b"TCP4", b"TCP6"):
        raise ProxyError("PROXY line is not PROXY TCP4|TCP6 and four fields")
    version = 4 if words[1] == b"TCP4" else 6
    hosts = [_host(word, version) for word in words[2:4]]
    ports = [_port(word) for word in words[4:6]]
    return ProxyHeader(1, (hosts[0], ports[0]), (hosts[1], ports[1]))


def _host(word: bytes, version: int) -> str:
    try:
        address = ipaddress.ip_address(word.decode("ascii"))
    except ValueError:
        raise ProxyError("no address in PROXY line") from None
    if address.version != version or b"%" in word:
        raise ProxyError("address of another family in PROXY line")
    return _text(address)


def _port(word: bytes) -> int:
    # Section 2.1: decimal, 0 to 65535, no leading zeroes.
    if not word.isdigit() or len(word) > 5 or int(word) > 65535 or (len(word) > 1 and word.startswith(b"0")):
        raise ProxyError("no port in PROXY line")
    return int(word)


def _parse_v2(command: int, family: int, body: bytes) -> ProxyHeader:
    if command == 0x0:
        return ProxyHeader(2, None, None)
    if command != 0x1:
        raise ProxyError(f"PROXY command {command} is not known")
    size = {0x11: 4, 0x21: 16}.get(family)
    if size is None:
        return ProxyHeader(2, None, None)  # section 2.2: unspecified and unix; datagrams can't be meant
    if len(body) < 2 * size + 4:
        raise ProxyError("PROXY header too short for its addresses")
    source, destination = (_text(ipaddress.ip_address(part)) for part in (body[:size], body[size : 2 * size]))
    source_port, destination_port = struct.unpack_from("!HH", body, 2 * size)
    return ProxyHeader(2, (source, source_port), (destination, destination_port))
