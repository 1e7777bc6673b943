"""Replies: whole, byte by byte, at random splits, on random bytes; limits; meaning."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onedomain.model.failure import Kind
from onedomain.protocol.smtp.reply import BadReply, Reply, ReplyReader

TABLE = [
    (b"250 OK\r\n", [Reply(250, "", ("OK",))]),
    (b"250\r\n", [Reply(250, "", ("",))]),
    (b"250 2.1.5 fine\r\n", [Reply(250, "2.1.5", ("fine",))]),
    (b"250 2.1.5\r\n", [Reply(250, "2.1.5", ("",))]),
    (b"250 2.1.500.1 no code\r\n", [Reply(250, "", ("2.1.500.1 no code",))]),
    (b"550 2.1.5 odd class\r\n", [Reply(550, "", ("2.1.5 odd class",))]),
    (b"550-5.1.1 no\r\n550-5.1.1 such\r\n550 5.1.1 user\r\n", [Reply(550, "5.1.1", ("no", "such", "user"))]),
    (b"250-a\r\n250-b\r\n250 c\r\n354 go\r\n", [Reply(250, "", ("a", "b", "c")), Reply(354, "", ("go",))]),
    ("250 届いた\r\n".encode(), [Reply(250, "", ("届いた",))]),
    (b"250 \x83\x81 \x1b[2J\r\n", [Reply(250, "", ("\\x83\\x81 ?[2J",))]),
]


def read(*pieces: bytes) -> list[Reply]:
    reader = ReplyReader()
    found = []
    for piece in pieces:
        reader.receive(piece)
        while (reply := reader.next_reply()) is not None:
            found.append(reply)
    assert reader.buffered == 0
    return found


@pytest.mark.parametrize(("data", "replies"), TABLE)
def test_whole_and_byte_by_byte(data: bytes, replies: list[Reply]) -> None:
    assert read(data) == replies
    assert read(*(data[i:i + 1] for i in range(len(data)))) == replies


@given(st.data())
@settings(max_examples=50)
def test_random_splits(data: st.DataObject) -> None:
    whole = b"".join(row[0] for row in TABLE)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=12)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert read(*pieces) == [reply for row in TABLE for reply in row[1]]


@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([b"250 ", b"250-", b"\r\n", b"\r", b"\n", b"354"]))))
@settings(max_examples=200)
def test_random_bytes_end_in_replies_or_a_failure(pieces: list[bytes]) -> None:
    reader = ReplyReader()
    try:
        for piece in pieces:
            reader.receive(piece)
            while (reply := reader.next_reply()) is not None:
                assert 200 <= reply.code < 600
                assert not any(c < " " for line in reply.lines for c in line)
    except BadReply as bad:
        assert bad.failure.kind is Kind.AGAIN


@pytest.mark.parametrize("garbage", [
    b"\r\n", b"hello\r\n", b"25 x\r\n", b"2500 x\r\n", b"150 x\r\n", b"600 x\r\n", b"250_x\r\n", b"250 a\n250 b\r\n",
    b"250 a\rb\r\n", b"250 a\0b\r\n", b"250-a\r\n251 b\r\n", b"* OK IMAP4rev1\r\n", b" 250 x\r\n",
    b"\xb2\xb5\xb0 x\r\n"])
def test_garbage(garbage: bytes) -> None:
    with pytest.raises(BadReply):
        read(garbage)


def test_limits() -> None:
    reader = ReplyReader(max_line=20, max_lines=3)
    reader.receive(b"250 " + b"x" * 16 + b"\r\n")
    assert reader.next_reply() is not None
    reader.receive(b"250-a\r\n250-b\r\n250-c\r\n250 d\r\n")
    with pytest.raises(BadReply, match="no SMTP"):
        reader.next_reply()
    for tail in (b"", b"\r\n"):
        long = ReplyReader(max_line=20)
        long.receive(b"250 " + b"x" * 17 + tail)
        with pytest.raises(BadReply):
            long.next_reply()


@pytest.mark.parametrize(("reply", "kind", "code", "enhanced"), [
    (Reply(550, "5.1.1", ("who?",)), Kind.GIVE_UP, 550, "5.1.1"),
    (Reply(554), Kind.GIVE_UP, 554, "5.0.0"),
    (Reply(451, "4.3.0"), Kind.AGAIN, 451, "4.3.0"),
    (Reply(354), Kind.AGAIN, 451, "4.0.0"),
    (Reply(250, "2.0.0"), Kind.AGAIN, 451, "4.0.0")])
def test_meaning(reply: Reply, kind: Kind, code: int, enhanced: str) -> None:
    failure = reply.failure("RCPT")
    assert (failure.kind, failure.code, failure.enhanced) == (kind, code, enhanced)
    assert failure.text and failure.reason.startswith("RCPT: ")
