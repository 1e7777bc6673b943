"""Values of model/replica.py as JSON and back: how link states and promotions stand in the database.

Knows shapes: dataclasses, tuples, sets of texts, enumerations. Does not know what they mean. A field that has its
default is left out, so a folder is some hundred octets; one that this version does not know is passed over.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


def spelt(value: Any) -> str:
    """A server's octets that are no UTF-8 are lone surrogates here, which a database does not take: `\\udcXX`."""
    text = json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def read(kind: type[T], text: str) -> T:
    """Raises ValueError for what `spelt` did not write of this kind."""
    try:
        made: T = _reader(_any(kind))(json.loads(text))
    except (TypeError, KeyError, AttributeError, LookupError) as error:
        raise ValueError(f"no {kind.__name__}: {error!r}") from error
    return made


def _any(kind: Any) -> Any:
    return kind  # a type is hashable, which mypy does not know of type[T]


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind is int or kind is str:
        return value
    if kind is tuple:
        return [_plain(each) for each in value]
    if kind is frozenset:
        return sorted(value)
    if defaults := _defaults(_any(kind)):
        return {name: _plain(at) for name, default in defaults if (at := getattr(value, name)) != default}
    return value.value if isinstance(value, Enum) else value


@cache
def _defaults(kind: Any) -> tuple[tuple[str, Any], ...]:
    """Of a dataclass, by field; where there is none it is dataclasses.MISSING, which equals nothing."""
    return tuple((each.name, each.default) for each in fields(kind)) if is_dataclass(kind) else ()


@cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        readers = {each.name: _reader(hints[each.name]) for each in fields(kind)}
        return lambda plain: kind(**{name: readers[name](at) for name, at in plain.items() if name in readers})
    if get_origin(kind) is tuple:
        item = _reader(get_args(kind)[0])
        return lambda plain: tuple(map(item, plain))
    if get_origin(kind) is frozenset:
        return frozenset
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind
    return _checked(kind)


def _checked(kind: Any) -> Callable[[Any], Any]:
    def reader(plain: Any) -> Any:
        if not isinstance(plain, (int, float) if kind is float else kind):
            raise TypeError(f"{plain!r} is no {kind.__name__}")
        return plain

    return reader
