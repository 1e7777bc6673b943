"""Every key of the file with values that are no values of it: each is refused at its line, in words of ours, and
nothing else happens.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from onedomain.config import ConfigErrors, load
from onedomain.config.load import _models
from onedomain.config.schema import File
from tests.lab.edge import toml

BASE: dict[str, Any] = {
    "edge": {"name": "mx1.example.com", "state": "state"},
    "domain": [{"name": "example.com", "postmaster": "a@example.com"}],
    "server": [{"name": "s1", "kind": "dovecot", "imap": {"host": "h"}, "delivery": {"host": "h"}}],
    "unit": [{"name": "u"}],
    "listener": [{"protocol": "smtp"}],
}
INNER: dict[tuple[str, ...], Any] = {
    ("server", "doveadm"): {"host": "h", "port": 1, "api_key": "k"},
    ("server", "replication"): {"user": "x", "password": "y"},
    ("smarthost",): {"host": "h"},
    ("tls", "certificate"): [{"certificate": "a", "key": "b"}],
}
"""What a table has to have, where the base has none."""

WRONG = [-1, 1.5, 10**30, True, [1], {"a": 1}, "", "two words", "x" * 300, "a\0b", float("inf"), float("nan")]
FREE = {"login", "user", "password", "group", "tls_name", "api_key", "names", "postmaster"}
"""Keys that may be any text."""


def keys(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        here = (*path, field.alias or name)
        yield here
        inner = next(_models(field.annotation), None)
        if inner is not None:
            yield from keys(inner, here)


def written(value: Any) -> str:
    return str(value) if isinstance(value, float) else toml(value)


def document(tables: dict[str, Any]) -> str:
    lines = []
    for name, value in tables.items():
        if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            for table in value:
                lines += [f"[[{name}]]", *(f"{key} = {written(inner)}" for key, inner in table.items())]
        elif isinstance(value, dict):
            lines += [f"[{name}]", *(f"{key} = {written(inner)}" for key, inner in value.items())]
        else:
            lines.insert(0, f"{name} = {written(value)}")
    return "\n".join(lines) + "\n"


def changed(path: tuple[str, ...], value: Any) -> str:
    tables = copy.deepcopy(BASE)
    place: Any = tables
    for depth, step in enumerate(path[:-1], 1):
        place = place.setdefault(step, copy.deepcopy(INNER.get(path[:depth], {})))
        if isinstance(place, list):
            place = place[0]
    place[path[-1]] = value
    return document(tables)


def problems(path: Path) -> tuple[Any, ...]:
    try:
        load(path, {})
    except ConfigErrors as errors:
        return errors.problems
    return ()


@pytest.mark.parametrize("path", sorted(set(keys(File))), ids=".".join)
def test_wrong_values(path: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDOMAIN_LANG", "ja")
    file = tmp_path / "onedomain.toml"
    refused = 0
    for value in WRONG:
        file.write_text(changed(path, value))
        found = problems(file)
        refused += bool(found)
        for problem in found:
            assert problem.line, (value, problem)
            assert re.search(r"[ぁ-んァ-ヶ]", problem.message), (value, problem)
        if value in (-1, [1], {"a": 1}):
            assert found, value
    assert path[-1] in FREE or refused >= 4, refused


@pytest.mark.parametrize("key, values", [
    (("limits", "hold_append"), [0, "0s"]), (("failover", "silent"), [0]), (("failover", "max_lag"), [0]),
    (("links", "keep_deleted"), [0]), (("links", "deleted_size"), [0]), (("limits", "spool_free"), [0]),
    (("limits", "account_sessions"), [0]),
])  # fmt: skip
def test_where_nothing_is_a_value(key: tuple[str, ...], values: list[Any], tmp_path: Path) -> None:
    file = tmp_path / "onedomain.toml"
    for value in values:
        file.write_text(changed(key, value))
        assert problems(file) == (), value
