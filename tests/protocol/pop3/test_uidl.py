"""UIDL templates: those of Dovecot, Cyrus and Courier, and what has to be refused before it costs a re-download."""

from __future__ import annotations

import pytest

from onedomain.protocol.pop3.uidl import UidlFormatError, uidl_format


@pytest.mark.parametrize(
    "template, uidl",
    [
        ("%08Xu%08Xv", "0000000b4e5f6a7b"),
        ("%v.%u", "1314876027.11"),
        ("UID%u-%v", "UID11-1314876027"),
        ("%Xu%%{x}", "b%{x}"),
        ("%010u", "0000000011"),
    ],
)
def test_formats(template: str, uidl: str) -> None:
    assert uidl_format(template).make(0x4E5F6A7B, 11) == uidl


@pytest.mark.parametrize(
    "template, says",
    [
        ("", "without %u"),
        ("%v", "without %u"),
        ("%g", "'%g' is not known"),
        ("%08Xf", "'%08Xf' is not known"),
        ("%u%", "'%' is not known"),
        ("%0%u", "'%0%' is not known"),
        ("%8Xu", "needs a 0"),
        ("%u %v", "blanks"),
        ("%ué", "blanks"),
        ("%099u", "70 characters"),
        ("%u" + "x" * 61, "70 characters"),
    ],
)
def test_what_cannot_be_used_says_why(template: str, says: str) -> None:
    with pytest.raises(UidlFormatError, match=says):
        uidl_format(template)
