"""PROXY headers whole, byte by byte, at random splits, and as garbage; built and read back."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onedomain.protocol.proxy import (
    MAX_V1,
    MAX_V2,
    SIGNATURE,
    ProxyError,
    ProxyHeader,
    ProxyParser,
    build_v2,
)


def parse(data: bytes, step: int = 10_000) -> tuple[ProxyHeader | None, bytes]:
    """The header, and what was not taken of `data`, handed over in pieces of at most `step`."""
    parser = ProxyParser()
    while data and parser.wanted:
        size = min(parser.wanted, step)
        piece, data = data[:size], data[size:]
        parser.receive(piece)
    return parser.header, data


def v2(command: int, family: int, body: bytes) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body


V4 = bytes([192, 0, 2, 7, 198, 51, 100, 9]) + struct.pack("!HH", 56324, 143)
V6 = bytes.fromhex("20010db8000000000000000000000001" "20010db8000000000000000000000002") + struct.pack("!HH", 1, 2)

GOOD = {
    # proxy-protocol.txt section 2.1
    "longest tcp4": (
        b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
        ProxyHeader(1, ("255.255.255.255", 65535), ("255.255.255.255", 65535)),
    ),
    "longest tcp6": (
        b"PROXY TCP6 ffff:f:f:f:f:f:f:ffff ffff:f:f:f:f:f:f:ffff 65535 65535\r\n",
        ProxyHeader(1, ("ffff:f:f:f:f:f:f:ffff", 65535), ("ffff:f:f:f:f:f:f:ffff", 65535)),
    ),
    "unknown, short": (b"PROXY UNKNOWN\r\n", ProxyHeader(1, None, None)),
    "unknown, longest": (b"PROXY UNKNOWN " + b"f" * (MAX_V1 - 16) + b"\r\n", ProxyHeader(1, None, None)),
    "the example of section 2.1": (
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
        ProxyHeader(1, ("192.168.0.1", 56324), ("192.168.0.11", 443)),
    ),
    "port 0": (b"PROXY TCP6 ::1 ::2 0 1\r\n", ProxyHeader(1, ("::1", 0), ("::2", 1))),
    "v2 tcp4": (v2(0x21, 0x11, V4), ProxyHeader(2, ("192.0.2.7", 56324), ("198.51.100.9", 143))),
    "v2 tcp6": (v2(0x21, 0x21, V6), ProxyHeader(2, ("2001:db8::1", 1), ("2001:db8::2", 2))),
    "v2 with TLVs": (
        v2(0x21, 0x11, V4 + b"\x04\x00\x02ab" * 50),
        ProxyHeader(2, ("192.0.2.7", 56324), ("198.51.100.9", 143)),
    ),
    "v2 local": (v2(0x20, 0x00, b""), ProxyHeader(2, None, None)),
    "v2 local, addresses to be ignored": (v2(0x20, 0x11, V4), ProxyHeader(2, None, None)),
    "v2 unix": (v2(0x21, 0x31, b"/" * 216), ProxyHeader(2, None, None)),
    "v2 unspecified": (v2(0x21, 0x00, b"12345"), ProxyHeader(2, None, None)),
}

BAD = {
    "mail": b"EHLO client.example\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "lower case": b"proxy tcp4 1.2.3.4 1.2.3.4 1 1\r\n",
    "no family": b"PROXY TCP5 1.2.3.4 1.2.3.4 1 1\r\n",
    "udp": b"PROXY UDP4 1.2.3.4 1.2.3.4 1 1\r\n",
    "three fields": b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
    "five fields": b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1 1\r\n",
    "two blanks": b"PROXY TCP4  1.2.3.4 1.2.3.4 1 1\r\n",
    "bare LF": b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\n\r\n",
    "bare CR": b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r1\r\n",
    "leading zero": b"PROXY TCP4 1.2.3.4 1.2.3.4 01 1\r\n",
    "port too high": b"PROXY TCP4 1.2.3.4 1.2.3.4 65536 1\r\n",
    "port below": b"PROXY TCP4 1.2.3.4 1.2.3.4 -1 1\r\n",
    "zero in address": b"PROXY TCP4 01.2.3.4 1.2.3.4 1 1\r\n",
    "wrong family": b"PROXY TCP4 ::1 ::1 1 1\r\n",
    "scope": b"PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n",
    "name": b"PROXY TCP4 localhost 1.2.3.4 1 1\r\n",
    "not ascii": b"PROXY TCP4 1.2.3.\xb2 1.2.3.4 1 1\r\n",
    "too long": b"PROXY UNKNOWN " + b"f" * 200 + b"\r\n",
    "v2 version 1": v2(0x11, 0x11, V4),
    "v2 command": v2(0x22, 0x11, V4),
    "v2 too short": v2(0x21, 0x11, V4[:-1]),
    "v2 too short for IPv6": v2(0x21, 0x21, V4),
    "v2 too long": v2(0x21, 0x11, V4 + b"t" * MAX_V2),
}


@pytest.mark.parametrize("step", [10_000, 1, 3])
@pytest.mark.parametrize("name", GOOD)
def test_a_header_is_read_and_not_a_byte_more(name: str, step: int) -> None:
    data, expected = GOOD[name]
    assert parse(data + b"\x16\x03\x01", step) == (expected, b"\x16\x03\x01")


@pytest.mark.parametrize("step", [10_000, 1, 3])
@pytest.mark.parametrize("name", BAD)
def test_anything_else_is_an_error(name: str, step: int) -> None:
    with pytest.raises(ProxyError):
        parse(BAD[name], step)


@pytest.mark.parametrize("name", GOOD)
def test_a_part_is_no_header(name: str) -> None:
    data, _ = GOOD[name]
    for size in range(len(data)):
        assert parse(data[:size]) == (None, b"")


@pytest.mark.parametrize("data", [b"E", b"PROXX", b"\r\n\r\nX"])
def test_the_first_wrong_byte_is_enough(data: bytes) -> None:
    with pytest.raises(ProxyError, match="no PROXY header"):
        parse(data)


def test_more_than_wanted_is_refused() -> None:
    with pytest.raises(ValueError, match="more bytes"):
        ProxyParser().receive(b"PROXY TCP4 1.")


# An IPv4 address mapped into IPv6 is read as the IPv4 address that it is: its own test is below.
WIDE = st.ip_addresses(v=6).filter(lambda address: address.ipv4_mapped is None)
ADDRESS = st.tuples(st.one_of(st.ip_addresses(v=4), WIDE).map(str), st.integers(0, 65535))


@settings(max_examples=60)
@given(ADDRESS, ADDRESS, st.integers(1, 20))
def test_what_is_built_is_read_back(source: tuple[str, int], destination: tuple[str, int], step: int) -> None:
    header, rest = parse(build_v2(source, destination) + b"rest", step)
    assert rest == b"rest"
    assert header is not None and header.source is not None and header.destination is not None
    assert (header.source[1], header.destination[1]) == (source[1], destination[1])
    if (":" in source[0]) == (":" in destination[0]):
        assert header.source == source
        assert header.destination == destination


def test_two_families_become_one() -> None:
    header, _ = parse(build_v2(("192.0.2.7", 1), ("2001:db8::1", 2)))
    assert header == ProxyHeader(2, ("192.0.2.7", 1), ("2001:db8::1", 2))


def test_without_a_client_the_proxy_speaks_for_itself() -> None:
    assert parse(build_v2(None, None)) == (ProxyHeader(2, None, None), b"")


@settings(max_examples=200)
@given(st.binary(max_size=300).flatmap(lambda data: st.sampled_from([data, SIGNATURE + data])), st.integers(1, 20))
def test_random_bytes_end_in_a_header_or_an_error(data: bytes, step: int) -> None:
    try:
        header, rest = parse(data, step)
    except ProxyError:
        return
    assert header is not None or rest == b""


def test_a_mapped_address_is_the_ipv4_address_that_it_is() -> None:
    header, _ = parse(build_v2(("::ffff:192.0.2.1", 25), ("2001:db8::1", 25)))
    assert header is not None and header.source == ("192.0.2.1", 25) and header.destination == ("2001:db8::1", 25)
