"""PLAIN and LOGIN, both sides against each other; malformed answers; secrets stay out of a repr."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onedomain.protocol import sasl
from onedomain.protocol.sasl import Credentials, LoginServer, PlainServer, SaslError


def test_plain() -> None:
    assert PlainServer().challenge() == b""
    assert PlainServer().answer(b"\0tim\0tanstaaftanstaaf") == Credentials("tim", "tanstaaftanstaaf")  # RFC 4616
    assert PlainServer().answer(b"Ursel\0Kurt\0xipj3plmq") == Credentials("Kurt", "xipj3plmq", "Ursel")
    assert PlainServer().answer(sasl.plain("请", "p", "z")) == Credentials("请", "p", "z")


def test_login() -> None:
    server = LoginServer()
    assert server.challenge() == b"Username:"
    assert server.answer(b"joe") is None
    assert server.challenge() == b"Password:"
    assert server.answer(b"pw") == Credentials("joe", "pw")


@pytest.mark.parametrize(
    "data",
    [b"", b"a", b"\0a", b"\0a\0", b"\0\0p", b"\0a\0b\0c", b"\0a\r\0p", b"\0\xff\0p", b"\xff\0a\0p",
     b"\0" + b"a" * 1025 + b"\0p", b"\0a\0" + b"p" * 4097, b"z" * 1025 + b"\0a\0p"],
)
def test_malformed_plain(data: bytes) -> None:
    with pytest.raises(SaslError):
        PlainServer().answer(data)


@pytest.mark.parametrize("answers", [[b""], [b"a\0"], [b"a\n"], [b"a", b""], [b"a", b"p\0"], [b"\xff", b"p"]])
def test_malformed_login(answers: list[bytes]) -> None:
    server = LoginServer()
    with pytest.raises(SaslError):
        for answer in answers:
            assert server.answer(answer) is None


def test_base64() -> None:
    assert sasl.decode(b"AHRpbQB0YW5zdGFhZnRhbnN0YWFm") == b"\0tim\0tanstaaftanstaaf"
    assert sasl.decode(b"=") == sasl.decode(b"") == b""
    with pytest.raises(sasl.Cancelled):
        sasl.decode(b"*")
    for bad in (b"A", b"AHRp bQB0", b"====", "é".encode(), b"QUJD\0", b"A" * 12_292):
        with pytest.raises(SaslError):
            sasl.decode(bad)


def test_old_charsets_in_passwords_arrive_as_they_were() -> None:
    credentials = sasl.credentials(b"joe", b"\x83p\xff")
    assert sasl.plain("joe", credentials.password) == b"\0joe\0\x83p\xff"


def test_names() -> None:
    assert isinstance(sasl.server("plain"), PlainServer)
    assert isinstance(sasl.server("Login"), LoginServer)
    assert sasl.server("CRAM-MD5") is None


def test_secrets_stay_out_of_a_repr() -> None:
    assert "hunter2" not in repr(Credentials("joe", "hunter2"))
    with pytest.raises(ValueError):
        sasl.plain("a\0b", "p")


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=60))
def test_noise(data: bytes) -> None:
    for run in (sasl.decode, PlainServer().answer, LoginServer().answer):
        try:
            run(data)  # type: ignore[operator]
        except SaslError:
            pass
