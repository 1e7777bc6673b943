"""Mailbox names: RFC examples, real folders, everything there and back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onedomain.protocol.imap.mutf7 import decode, encode


@pytest.mark.parametrize(
    "text, wire",
    [
        ("INBOX", "INBOX"),
        ("", ""),
        ("a&b", "a&-b"),
        ("~peter/mail/台北/日本語", "~peter/mail/&U,BTFw-/&ZeVnLIqe-"),  # RFC 3501 section 5.1.3
        ("Entwürfe", "Entw&APw-rfe"),
        ("送信済み", "&kAFP4W4IMH8-"),
        ("📧", "&2D3c5w-"),
    ],
)
def test_both_ways(text: str, wire: str) -> None:
    assert encode(text) == wire
    assert decode(wire) == text


@pytest.mark.parametrize("wire", ["&", "a&U,BT", "&!-", "&AA-", "&AGE-", "&U,BTFw-&ZeVnLIqe-", "é", "a\tb", "&2D0-"])
def test_other_spellings_are_refused(wire: str) -> None:
    with pytest.raises(ValueError):
        decode(wire)


@settings(deadline=None, max_examples=100)
@given(st.text())
def test_there_and_back(text: str) -> None:
    assert decode(encode(text)) == text


@settings(deadline=None, max_examples=100)
@given(st.text(st.sampled_from("&-Aa,+/="), max_size=12))
def test_noise_decodes_once_or_not_at_all(wire: str) -> None:
    try:
        assert encode(decode(wire)) == wire
    except ValueError:
        pass
