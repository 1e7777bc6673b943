"""What servers say: lines of the RFCs and of real servers, whole, byte by byte, at random splits; limits; noise."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onedomain.protocol.imap.lines import Chunk
from onedomain.protocol.imap.response import (
    Big,
    Code,
    Continuation,
    ResponseError,
    ResponseLimits,
    ResponseParser,
    Tagged,
    Untagged,
    _simple_values,
    fetched,
    parse_values,
)


def run(pieces: list[bytes], limits: ResponseLimits | None = None) -> list[Any]:
    parser = ResponseParser(limits)
    events: list[Any] = []
    for piece in pieces:
        parser.receive(piece)
        while (event := parser.next_event()) is not None:
            if isinstance(event, Chunk) and isinstance(events[-1], Chunk) and not events[-1].last:
                events[-1] = Chunk(events[-1].data + event.data, event.last)
            else:
                events.append(event)
    return events


def data(name: str, *values: Any, number: int | None = None) -> Untagged:
    return Untagged(name, number, list(values), None, "")


TABLE: list[tuple[bytes, list[Any]]] = [
    (
        b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] Dovecot ready.\r\n",
        [Untagged("OK", None, [], Code("CAPABILITY", ["IMAP4rev1", "SASL-IR", "AUTH=PLAIN"]), "Dovecot ready.")],
    ),
    (b"* BYE\r\n", [Untagged("BYE", None, [], None, "")]),
    (b"* ok trust me {5}\r\n* NO [ALERT] x\r\n",
     [Untagged("OK", None, [], None, "trust me {5}"), Untagged("NO", None, [], Code("ALERT", []), "x")]),
    (b"a1 OK [READ-WRITE] SELECT completed\r\n", [Tagged("a1", "OK", Code("READ-WRITE", []), "SELECT completed")]),
    (b"a1 NO {7}\r\n", [Tagged("a1", "NO", None, "{7}")]),
    (b"a1 OK\r\n", [Tagged("a1", "OK", None, "")]),
    (b"a1 BAD [] huh\r\n", [Tagged("a1", "BAD", Code("", []), "huh")]),
    (b"a OK [APPENDUID 38505 3955] done\n", [Tagged("a", "OK", Code("APPENDUID", [38505, 3955]), "done")]),
    (b"a OK [COPYUID 38505 304,319:320 3956:3958] Done\r\n",
     [Tagged("a", "OK", Code("COPYUID", [38505, "304,319:320", "3956:3958"]), "Done")]),
    (b"* OK [PERMANENTFLAGS (\\Deleted \\Seen \\*)] Limited\r\n",
     [Untagged("OK", None, [], Code("PERMANENTFLAGS", [["\\Deleted", "\\Seen", "\\*"]]), "Limited")]),
    (b'* OK [X "a]b" c] t\r\n', [Untagged("OK", None, [], Code("X", [b"a]b", "c"]), "t")]),
    (b"* OK [no end\r\n", [Untagged("OK", None, [], None, "[no end")]),
    (b"* OK [URL imap://{x(] t\r\n", [Untagged("OK", None, [], Code("URL", ["imap://{x("]), "t")]),
    (b"+ \r\n+\r\n+ idling\r\n", [Continuation(""), Continuation(""), Continuation("idling")]),
    (b"* 172 EXISTS\r\n", [data("EXISTS", number=172)]),
    (b"* SEARCH\r\n* SEARCH 2 84 882\r\n", [data("SEARCH"), data("SEARCH", 2, 84, 882)]),
    (b"* CAPABILITY IMAP4rev1 X\r\n", [data("CAPABILITY", "IMAP4rev1", "X")]),
    (b'* LIST (\\HasNoChildren) "/" "a \\"b\\" \\\\c"\r\n', [data("LIST", ["\\HasNoChildren"], b"/", b'a "b" \\c')]),
    (b'* LIST () NIL [Gmail]/x\r\n* LIST () "." 007\r\n',
     [data("LIST", [], None, "[Gmail]/x"), data("LIST", [], b".", "007")]),
    (b"* LIST () \"/\" {3}\r\na\"b\r\n", [data("LIST", [], b"/", b'a"b')]),
    (b"* LIST () \"/\" {0}\r\n\r\n", [data("LIST", [], b"/", b"")]),
    (b"* LIST () \"/\" x{5}y\r\n", [data("LIST", [], b"/", "x{5}y")]),
    (b"* STATUS blurdybloop (MESSAGES 231 UIDNEXT 44292)\r\n",
     [data("STATUS", "blurdybloop", ["MESSAGES", 231, "UIDNEXT", 44292])]),
    (b'* ESEARCH (TAG "A285") UID MIN 7 MAX 3800\r\n',
     [data("ESEARCH", ["TAG", b"A285"], "UID", "MIN", 7, "MAX", 3800)]),
    (b'* 23 FETCH (FLAGS (\\Seen) RFC822.SIZE 44827 nil NIL)\r\n',
     [data("FETCH", ["FLAGS", ["\\Seen"], "RFC822.SIZE", 44827, None, None], number=23)]),
    (b"* 12 FETCH (BODY[HEADER] {4}\r\nA:\r\n UID 9 "
     b"BODY[HEADER.FIELDS (From \"X Y\")]<0> ~{2}\r\n\0) X (A (B) ()))\r\n",
     [data("FETCH", ["BODY[HEADER]", b"A:\r\n", "UID", 9, 'BODY[HEADER.FIELDS (From "X Y")]<0>', b"\0)", "X",
                     ["A", ["B"], []]], number=12)]),
    (b'* NAMESPACE (("" "/")) NIL NIL\r\n', [data("NAMESPACE", [[b"", b"/"]], None, None)]),
    (b'* ID ("name" "Dovecot")\r\n* ID NIL\r\n', [data("ID", [b"name", b"Dovecot"]), data("ID", None)]),
    (b"* VANISHED (EARLIER) 41,43:116\r\n", [data("VANISHED", ["EARLIER"], "41,43:116")]),
]


@pytest.mark.parametrize("line, expected", TABLE)
def test_whole_and_byte_by_byte(line: bytes, expected: list[Any]) -> None:
    assert run([line]) == expected
    assert run([line[i:i + 1] for i in range(len(line))]) == expected


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(TABLE), max_size=4), st.lists(st.integers(0, 400), max_size=6))
def test_random_splits(rows: list[tuple[bytes, list[Any]]], cuts: list[int]) -> None:
    whole = b"".join(row[0] for row in rows)
    edges = [0, *sorted(cuts), len(whole)]
    assert run([whole[a:b] for a, b in pairwise(edges)]) == [event for row in rows for event in row[1]]


def test_a_big_literal_streams_and_its_response_still_comes() -> None:
    body = b"x\r\n" * 40
    line = b"* 5 FETCH (UID 17 BODY[] {120}\r\n" + body + b" FLAGS (\\Seen) BODY[HEADER] {3}\r\nA:B)\r\n"
    big = Big(120, b"* 5 FETCH (UID 17 BODY[] {120}\r\n")
    expected = [
        big,
        Chunk(body, True),
        data("FETCH", ["UID", 17, "BODY[]", big, "FLAGS", ["\\Seen"], "BODY[HEADER]", b"A:B"], number=5),
    ]
    limits = ResponseLimits(response=200, stream_above=100)
    assert run([line], limits) == expected
    assert run([line[i:i + 1] for i in range(len(line))], limits) == expected


BAD = [
    b"\r\n",
    b"a1\r\n",
    b"a1 MAYBE x\r\n",
    b" OK x\r\n",
    b"220 smtp.example.com ESMTP Postfix\r\n",
    b"+OK POP3 ready\r\n",
    b"*\r\n",
    b"* \r\n",
    b"* 12\r\n",
    b"* (a)\r\n",
    b"* X (a\r\n",
    b"* X a)\r\n",
    b'* X "a\r\n',
    b"* X {a}\r\n",
    b"* X foo{1}\r\na\r\n",
    b"* X " + b"(" * 65 + b")" * 65 + b"\r\n",
    b'* X ""' + b"(" * 65 + b")" * 65 + b"\r\n",
]


@pytest.mark.parametrize("line", BAD)
def test_what_is_no_imap_stays_an_error(line: bytes) -> None:
    parser = ResponseParser()
    parser.receive(line)
    for _ in range(2):
        with pytest.raises(ResponseError):
            parser.next_event()
        parser.receive(b"* OK fine\r\n")


def test_limits() -> None:
    limits = ResponseLimits(line=50, response=80)
    with pytest.raises(ResponseError):
        run([b"* X " + b"y" * 50], limits)
    with pytest.raises(ResponseError):
        run([b"* X " + b"y" * 50 + b"\r\n"], limits)
    with pytest.raises(ResponseError):
        run([b"* X {90}\r\n"], limits)
    with pytest.raises(ResponseError):
        run([b"* X {40}\r\n", b"y" * 40, b" {40}\r\n"], limits)
    assert len(run([b"* X {30}\r\n" + b"y" * 30 + b"\r\n"] * 20, limits)) == 20


def test_no_quadratic_or_exponential_input() -> None:
    with pytest.raises(ResponseError):
        run([b'* X "' + b"\\\\" * 100_000 + b"\r\n"])
    assert run([b"* OK [" + b'"' * 100_001 + b"\r\n"])[0].code is None


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from(["a", *"() *\té0", "12", "007", "nil", "\\Seen", "9" * 21])).map("".join))
def test_simple_lines_are_read_as_all_others(line: str) -> None:
    """The short cut for lines without strings against the way for all lines."""

    def outcome(parse: Any) -> Any:
        try:
            return parse()
        except ResponseError as error:
            return type(error)

    data = line.encode()
    simple = outcome(lambda: _simple_values(b"* " + data + b"\r\n", 3))
    assert simple == outcome(lambda: parse_values([data + b"\r\n"], [], 3))


def test_fetched() -> None:
    assert fetched([["UID", 17, "body[]", b"x"]]) == {"UID": 17, "BODY[]": b"x"}
    for bad in ([], [["UID"]], ["UID"]):
        with pytest.raises(ResponseError):
            fetched(bad)


def test_the_rest_is_handed_on() -> None:
    parser = ResponseParser()
    parser.receive(b"a OK done\r\n* 1 EX")
    assert isinstance(parser.next_event(), Tagged)
    assert parser.next_event() is None
    assert parser.take_rest() == b"* 1 EX"
    assert parser.next_event() is None


@settings(deadline=None, max_examples=200)
@given(st.lists(st.binary(max_size=30) | st.sampled_from([b"* ", b"{2}\r\n", b"\r\n", b"1 FETCH (", b'"', b")"])))
def test_random_bytes_give_responses_or_an_error(pieces: list[bytes]) -> None:
    outcomes = []
    whole = b"".join(pieces)
    for cut in ([whole], [whole[i:i + 1] for i in range(len(whole))]):
        try:
            outcomes.append(run(cut, ResponseLimits(line=60, response=100, stream_above=40)))
        except ResponseError:
            outcomes.append([])
    assert outcomes[0] == outcomes[1]
