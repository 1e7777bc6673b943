"""What a row may contain: a table of good and bad ones."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onedomain.directory.rules import RowError, account_key, alias_key, checked_account, checked_alias, words
from onedomain.model.account import Alias, Home
from tests.directory.views import account, book

VIEW = book()
TARO = account("taro@example.com")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("Taro@Example.COM", "taro@example.com"),
        ("taro@example.co.jp", "taro@example.com"),
        ('"a..b"@example.com', "a..b@example.com"),
        ("か\u3099@example.com", "が@example.com"),
    ],
)
def test_keys(text: str, key: str) -> None:
    assert account_key(VIEW, text) == key
    assert checked_account(VIEW, replace(TARO, address=text)).address == key


def test_catch_alls() -> None:
    assert alias_key(VIEW, "@Example.co.jp") == "@example.com"
    assert checked_alias(VIEW, Alias("@example.com", ("a@b.example", "a@b.example"))) == Alias(
        "@example.com", ("a@b.example",)
    )


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"address": "taro"}, "bad_address"),
        ({"address": "@example.com"}, "bad_address"),
        ({"address": "taro@other.example"}, "not_ours"),
        ({"unit": "nix"}, "unknown_unit"),
        ({"home": Home("s9")}, "unknown_server"),
        ({"home": Home("s1", ("s9",))}, "unknown_server"),
        ({"home": Home("s1", ("s1",))}, "replica_twice"),
        ({"home": Home("s1", ("s2", "s2"))}, "replica_twice"),
        ({"password": "secret"}, "bad_password"),
        ({"mailbox": "a\r\nb"}, "bad_mailbox"),
        ({"forward_to": ("x",)}, "bad_target"),
        ({"forward_to": ("TARO@example.com",)}, "to_itself"),
        ({"forward_to": ("a@b.example",) * 1001}, "too_many_targets"),
    ],
)
def test_bad_accounts(change: dict[str, object], key: str) -> None:
    with pytest.raises(RowError) as caught:
        checked_account(VIEW, replace(TARO, **change))  # type: ignore[arg-type]
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("alias", "key"),
    [
        (Alias("info", ("a@b.example",)), "bad_address"),
        (Alias("info@other.example", ("a@b.example",)), "not_ours"),
        (Alias("@other.example", ("a@b.example",)), "not_ours"),
        (Alias("info@example.com", ()), "no_targets"),
        (Alias("info@example.com", ("a b@c.example",)), "bad_target"),
        (Alias("info@example.com", ("info@example.com",)), "to_itself"),
    ],
)
def test_bad_aliases(alias: Alias, key: str) -> None:
    with pytest.raises(RowError) as caught:
        checked_alias(VIEW, alias)
    assert caught.value.key == key


def test_words() -> None:
    assert words(' a@b "x y"@c,  d@e\tf ') == ("a@b", '"x y"@c', "d@e", "f")
    assert words("") == ()
