"""Every text for people: in both languages, with the same fields, which are names."""

from __future__ import annotations

import importlib
import pkgutil
import re
import string
from collections.abc import Iterator, Mapping

import pytest

import onedomain


def tables() -> Iterator[tuple[str, Mapping[str, tuple[str, str]]]]:
    for module in pkgutil.walk_packages(onedomain.__path__, "onedomain."):
        if module.name.endswith("texts") and module.name != "onedomain.texts":
            yield module.name, importlib.import_module(module.name).TEXTS


def fields(text: str) -> set[str]:
    return {re.split(r"[.\[]", name)[0] for _, name, _, _ in string.Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("name, table", list(tables()), ids=[name for name, _ in tables()])
def test_both_languages_can_be_filled_in(name: str, table: Mapping[str, tuple[str, str]]) -> None:
    for key, (english, japanese) in table.items():
        assert fields(english) == fields(japanese), key
        assert all(re.fullmatch(r"[a-z][a-z_0-9]*", field) for field in fields(english)), key


def test_there_are_tables() -> None:
    assert len(list(tables())) >= 7
