"""Commands: which spelling of a string, when to wait; nothing can be smuggled in."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onedomain.protocol.imap.client import Argument, Commands
from onedomain.protocol.imap.response import ResponseParser, Untagged

PLUS = ("IMAP4rev1", "LITERAL+")
MINUS = ("IMAP4rev1", "LITERAL-")


@pytest.mark.parametrize(
    "capabilities, arguments, pieces",
    [
        ((), ("NOOP",), (b"a1 NOOP\r\n",)),
        ((), ("LOGIN", b"joe@example.com", b'p "\\ w'), (b'a1 LOGIN joe@example.com "p \\"\\\\ w"\r\n',)),
        ((), ("LOGIN", b"joe", b"", b"nil"), (b'a1 LOGIN joe "" "nil"\r\n',)),
        ((), ("LOGIN", "请".encode(), b"x"), (b"a1 LOGIN {3}\r\n", "请 x\r\n".encode())),
        (PLUS, ("LOGIN", "请".encode(), b"x\n"), (b"a1 LOGIN {3+}\r\n" + "请 {2+}\r\nx\n\r\n".encode(),)),
        (MINUS, ("X", b"\r" * 4096), (b"a1 X {4096+}\r\n" + b"\r" * 4096 + b"\r\n",)),
        (MINUS, ("X", b"\r" * 4097), (b"a1 X {4097}\r\n", b"\r" * 4097 + b"\r\n")),
        ((), ("X", b"y" * 1000 + b" "), (b"a1 X {1001}\r\n", b"y" * 1000 + b" \r\n")),
        ((), ("UID STORE", "1:*", "+FLAGS.SILENT", ["\\Seen", "$x"]),
         (b"a1 UID STORE 1:* +FLAGS.SILENT (\\Seen $x)\r\n",)),
        ((), ("ID", [b"name", b"One Domain", b"v", None]), (b'a1 ID (name "One Domain" v NIL)\r\n',)),
        ((), ("X", 7, [], [[1], b"("]), (b'a1 X 7 () ((1) "(")\r\n',)),
    ],
)
def test_commands(capabilities: tuple[str, ...], arguments: tuple[str, Argument], pieces: tuple[bytes, ...]) -> None:
    command = Commands(capabilities).make(*arguments)  # type: ignore[arg-type]
    assert (command.tag, command.pieces) == ("a1", pieces)


def test_tags_go_on() -> None:
    commands = Commands(prefix="x")
    assert [commands.make("NOOP").tag, commands.tag(), commands.make("NOOP").data] == ["x1", "x2", b"x3 NOOP\r\n"]


@pytest.mark.parametrize("arguments", [("NOOP\r\na DELETE x",), ("X", "a\nb"), ("X", ["é"]), ("X", b"a\0b")])
def test_what_cannot_be_said(arguments: tuple[str, Argument]) -> None:
    with pytest.raises(ValueError):
        Commands(PLUS).make(*arguments)  # type: ignore[arg-type]


def test_no_data_without_waiting() -> None:
    with pytest.raises(ValueError):
        _ = Commands().make("X", b"\n").data


def test_passwords_do_not_show() -> None:
    assert "secret" not in repr(Commands().make("LOGIN", b"joe", b"secret"))


@settings(deadline=None, max_examples=100)
@given(st.lists(st.binary(max_size=30).filter(lambda value: b"\0" not in value), min_size=1))
def test_any_string_arrives_as_itself(values: list[bytes]) -> None:
    parser = ResponseParser()
    parser.receive(b"* X " + Commands(PLUS).make("Y", values).data[5:].replace(b"+}\r\n", b"}\r\n"))
    # Only where the replacement didn't touch a value itself.
    if not any(b"+}\r\n" in value for value in values):
        event = parser.next_event()
        assert isinstance(event, Untagged)
        assert [v if isinstance(v, bytes) else str(v).encode() for v in event.values[0]] == values
