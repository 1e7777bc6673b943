"""xtext: what goes in comes out; what is none is refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onedomain.protocol.smtp.xtext import (
    decode_utf8_addr_xtext,
    decode_xtext,
    encode_utf8_addr_xtext,
    encode_xtext,
)


def test_rfc_3461_example() -> None:
    assert decode_xtext("Dana+40Ivory.EDU") == "Dana@Ivory.EDU"
    assert encode_xtext("a+b=c d") == "a+2Bb+3Dc+20d"


def test_rfc_6533_form() -> None:
    assert encode_utf8_addr_xtext("用a+b@例") == "\\x{7528}a\\x{2B}b@\\x{4F8B}"


@pytest.mark.parametrize("text", ["+", "+4", "+4g", "a+2b", "a=b", "+0D+0A", "+00", "+FF"])
def test_no_xtext(text: str) -> None:
    with pytest.raises(ValueError):
        decode_xtext(text)


@given(st.one_of(st.text(max_size=30), st.text("+=0AfZ\\x{}", max_size=20)))
@settings(max_examples=200)
def test_noise_is_text_without_control_characters_or_an_error(noise: str) -> None:
    for decode in (decode_xtext, decode_utf8_addr_xtext):
        try:
            text = decode(noise)
        except ValueError:
            continue
        assert isinstance(text, str)
        assert decode is not decode_xtext or not any(c < " " or c == "\x7f" for c in text)


@given(st.text(st.characters(blacklist_categories=("Cs", "Cc"))))
@settings(max_examples=100)
def test_round(text: str) -> None:
    assert decode_xtext(encode_xtext(text)) == text
    assert encode_xtext(text).isascii()
    assert decode_utf8_addr_xtext(encode_utf8_addr_xtext(text)) == text
