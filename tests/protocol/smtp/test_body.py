"""Bodies on their way in: the end of data and nothing but it; smuggling; the policy on line ends, lines, NUL, size."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onedomain.protocol.smtp.body import BodyCheck, BodyPolicy, DataReader, Manners
from onedomain.protocol.smtp.dot import DotStuffer
from tests.protocol.smtp.talk import pieces

TABLE = [
    (b".\r\n", b""),
    (b"a\r\n.\r\n", b"a\r\n"),
    (b"..\r\n.\r\n", b".\r\n"),
    (b"...\r\n.\r\n", b"..\r\n"),
    (b".a\r\n.\r\n", b"a\r\n"),
    (b"\r\n.\r\n", b"\r\n"),
    (b"\r\n\r\n.\r\n", b"\r\n\r\n"),
    (b"a\r\n.\rb\r\n.\r\n", b"a\r\n\rb\r\n"),
    (b"a\r\n.\nb\r\n.\r\n", b"a\r\n\nb\r\n"),
    (b"a\r\r\n.\r\n", b"a\r\r\n"),
    (b"\r.\r\n.\r\n", b"\r.\r\n"),
]


def read(*chunks: bytes) -> tuple[bytes, bytes]:
    """(body, what follows its end)."""
    reader = DataReader()
    body = b""
    for number, chunk in enumerate(chunks):
        part, used = reader.feed(chunk)
        body += part
        if used >= 0:
            return body, chunk[used:] + b"".join(chunks[number + 1:])
    raise AssertionError(f"no end in {chunks!r}")


@pytest.mark.parametrize(("wire", "body"), TABLE)
def test_end_of_data_whole_and_at_every_cut(wire: bytes, body: bytes) -> None:
    assert read(wire + b"QUIT\r\n") == (body, b"QUIT\r\n")
    assert read(*(wire[i:i + 1] for i in range(len(wire)))) == (body, b"")
    for cut in range(len(wire)):
        assert read(wire[:cut], wire[cut:] + b"NOOP") == (body, b"NOOP")


# Every sequence that some server has taken for the end of data (SEC Consult 2023, and Postfix's, Exim's and sendmail's
# corrections): with us none of them is.
SMUGGLED = [
    b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\n.\r", b"\r.\n", b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\n.\r\r\n", b"\n\n.\r\n", b"\r\n. \r\n", b"\r\n.\x85", b"\x85.\x85", b"\r\r\n.\n", b"\n.\r\n.\n"]
EVIL = b"MAIL FROM:<admin@foo.com>\r\nRCPT TO:<victim@foo.com>\r\nDATA\r\nevil\r\n"


@pytest.mark.parametrize("ending", SMUGGLED)
def test_nothing_is_smuggled(ending: bytes) -> None:
    wire = b"Subject: x\r\n\r\nlure" + ending + EVIL + b".\r\n"
    for chunks in ((wire,), tuple(wire[i:i + 1] for i in range(len(wire)))):
        body, rest = read(*chunks)
        assert rest == b""
        assert b"MAIL FROM:<admin@foo.com>" in body


@pytest.mark.parametrize("ending", [e for e in SMUGGLED if re.search(rb"(?<!\r)\n|\r(?!\n)", e)])
def test_and_what_would_be_smuggled_further_is_refused(ending: bytes) -> None:
    body, _ = read(b"lure" + ending + EVIL + b".\r\n")
    check = BodyCheck(BodyPolicy())
    check.feed(body)
    check.end()
    assert check.failure is not None and check.failure.code == 550


def read_carelessly(wire: bytes) -> tuple[bytes, bytes]:
    """As Dovecot's and Cyrus's LMTP do: LF alone ends a line, too; and a CR, as for others -> body, what follows it."""
    lines = re.split(rb"(?<=\n)|(?<=\r)(?!\n)", wire)
    for number, line in enumerate(lines):
        if line.rstrip(b"\r\n") == b"." and line != b".":
            return b"".join(one.removeprefix(b".") for one in lines[:number]), b"".join(lines[number + 1:])
    return wire, b""


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"x", b"\n.\n", b"\r.\r"]), max_size=30), st.data())
@settings(max_examples=500, deadline=None)
def test_what_passes_ends_where_it_ends_for_careless_servers_too(parts: list[bytes], data: st.DataObject) -> None:
    body = b"".join(parts) + b"\r\n"
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=8))
    policy = BodyPolicy(bare=Manners.PASS)
    kept, check = checked(policy, *pieces(body, cuts))
    stuffer = DotStuffer()
    wire = stuffer.stuff(body) + stuffer.end() + b"QUIT\r\n"
    if check.failure is None:
        assert kept == body and read_carelessly(wire) == (body, b"QUIT\r\n")
    else:
        assert re.search(rb"(?<!\r)\n\.|\r\.", body)


@pytest.mark.parametrize("ending", [b"\n.\n", b"\n.\r\n", b"\n.\r", b"\r.\r", b"\r.\r\n", b"\r\r.\n"])
def test_a_dot_behind_a_bare_line_end_does_not_pass(ending: bytes) -> None:
    body = b"lure" + ending + EVIL
    for chunks in ((body,), tuple(body[i:i + 1] for i in range(len(body)))):
        _, check = checked(BodyPolicy(bare=Manners.PASS), *chunks)
        assert check.failure is not None and check.failure.code == 550
        kept, check = checked(BodyPolicy(bare=Manners.PASS, onward=False), *chunks)
        assert check.failure is None and kept == body, "whoever keeps it need not mind"


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"x", b"\0", b"\r\n.\r\n"]), max_size=30), st.data())
@settings(max_examples=200, deadline=None)
def test_what_a_client_stuffs_comes_out_again(parts: list[bytes], data: st.DataObject) -> None:
    body = b"".join(parts) + b"\r\n"
    stuffer = DotStuffer()
    wire = stuffer.stuff(body) + stuffer.end() + b"QUIT"
    cuts = data.draw(st.lists(st.integers(0, len(wire)), max_size=8))
    assert read(*pieces(wire, cuts)) == (body, b"QUIT")


def checked(policy: BodyPolicy, *chunks: bytes) -> tuple[bytes, BodyCheck]:
    check = BodyCheck(policy)
    kept = b"".join(check.feed(chunk) for chunk in chunks)
    return kept + check.end(), check


def simple(body: bytes, policy: BodyPolicy) -> bytes | None:
    """The policy, said as slowly and plainly as possible; None: refused."""
    if not policy.nul and b"\0" in body:
        return None
    if policy.bare is Manners.REFUSE and re.search(rb"(?<!\r)\n|\r(?!\n)", body):
        return None
    if policy.long_lines is Manners.REFUSE and any(len(line.removesuffix(b"\r")) > 998 for line in body.split(b"\n")):
        return None
    if policy.bare is Manners.NORMALISE:
        body = re.sub(rb"\r(?!\n)", b" ", re.sub(rb"(?<!\r)\n", b"\r\n", body))
    if policy.long_lines is Manners.NORMALISE:
        body = b"\n".join(cut(line) for line in body.split(b"\n"))
    return body


def cut(line: bytes) -> bytes:
    end = b"\r" if line.endswith(b"\r") else b""
    line = line.removesuffix(b"\r")
    return b"\r\n ".join([line[:998], *(line[i:i + 997] for i in range(998, len(line), 997))]) + end


LINES = [b"\r", b"\n", b"\r\n", b"x", b"y" * 997, b"z" * 998, b"w" * 999, b"v" * 2000, b"ab\r\ncd\r\n", b"\0",
         "①髙".encode("cp932")]


@given(
    st.lists(st.sampled_from(LINES), max_size=12), st.sampled_from(list(Manners)),
    st.sampled_from(list(Manners)), st.booleans(), st.data())
@settings(max_examples=400, deadline=None)
def test_policy_is_that_of_the_plain_one(
        parts: list[bytes], bare: Manners, long_lines: Manners, nul: bool, data: st.DataObject) -> None:
    policy = BodyPolicy(bare=bare, nul=nul, long_lines=long_lines)
    body = b"".join(parts) + b"\r\n"
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=8))
    kept, check = checked(policy, *pieces(body, cuts))
    expected = simple(body, policy)
    if expected is None:
        assert check.failure is not None
    else:
        assert check.failure is None and kept == expected
    assert check.size == len(body)


@pytest.mark.parametrize(("line", "long"), [
    (b"x" * 998 + b"\r\n", False), (b"x" * 998 + b"\n", False), (b"x" * 999 + b"\n", True),
    (b"x" * 999 + b"\r\n", True)])
def test_where_a_line_gets_too_long(line: bytes, long: bool) -> None:
    policy = BodyPolicy(bare=Manners.PASS, long_lines=Manners.REFUSE)
    rest = b"y\n" * 600
    for cut in (0, 1, 997, 998, 999, 1000):
        _, check = checked(policy, line[:cut], line[cut:] + rest)
        assert (check.failure is not None) is long


@pytest.mark.parametrize("length", [998, 999])
def test_long_line_at_every_cut(length: int) -> None:
    body = b"short\r\n" + b"x" * length + b"\r\nshort\r\n"
    policy = BodyPolicy(long_lines=Manners.REFUSE)
    for cut in range(0, len(body), 7):
        _, check = checked(policy, body[:cut], body[cut:])
        assert (check.failure is not None) is (length > 998)
    _, check = checked(policy, *(body[i:i + 1] for i in range(len(body))))
    assert (check.failure is not None) is (length > 998)


def test_a_lone_cr_at_the_very_end() -> None:
    assert checked(BodyPolicy(), b"a\r")[1].failure is not None
    assert checked(BodyPolicy(bare=Manners.NORMALISE), b"a\r")[0] == b"a "
    assert checked(BodyPolicy(bare=Manners.PASS), b"a\r")[0] == b"a\r"


def test_size_and_overrun() -> None:
    policy = BodyPolicy(max_size=10, overrun=5)
    _, check = checked(policy, b"12345678\r\n")
    assert check.failure is None
    kept, check = checked(policy, b"12345678\r\n", b"x", b"y")
    assert check.failure is not None and check.failure.code == 552
    assert kept == b"12345678\r\n" and not check.overrun
    check.feed(b"1234")
    assert check.overrun
