"""Lines out of bytes, however they come."""

import pytest

from onedomain.protocol.smtp.lines import BadLine, Fault, Input


def lines(*chunks: bytes, limit: int = 10) -> list[bytes | BadLine]:
    source = Input()
    found = []
    for chunk in chunks:
        source.receive(chunk)
        while (line := source.line(limit)) is not None:
            found.append(line)
    return found


@pytest.mark.parametrize(("data", "expected"), [
    (b"a\r\nbc\r\n", [b"a", b"bc"]),
    (b"\r\n", [b""]),
    (b"a\nb\r\n", [BadLine(b"a", Fault.BARE_LF), b"b"]),
    (b"\n", [BadLine(b"", Fault.BARE_LF)]),
    (b"a\rb\r\n", [b"a\rb"]),
    (b"12345678\r\n", [b"12345678"]),
    (b"incomplete", []),
])
def test_whole_and_byte_by_byte(data: bytes, expected: list[bytes | BadLine]) -> None:
    assert lines(data) == expected
    assert lines(*(data[i:i + 1] for i in range(len(data)))) == expected


def test_too_long_is_said_once_and_dropped_to_its_end() -> None:
    data = b"x" * 50 + b"\r\nok\r\n" + b"123456789\r\nok\r\n"
    for chunks in ((data,), tuple(data[i:i + 1] for i in range(len(data)))):
        found = lines(*chunks)
        assert [line.fault if isinstance(line, BadLine) else line for line in found] == [
            Fault.TOO_LONG, b"ok", Fault.TOO_LONG, b"ok"]


def test_octets_between_lines() -> None:
    source = Input()
    source.receive(b"a\r\n12345b\r\n")
    assert source.line(10) == b"a"
    assert source.take(7) == b"12345b\r"
    source.put_back(2)
    assert source.line(10) == b"b"
    assert source.clear() == 0
    source.receive(b"xyz")
    assert source.clear() == 3 and len(source) == 0
