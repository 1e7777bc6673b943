"""Edges of one domain that would act differently: what of their files has to be the same, and where it is not.

Knows the values as each edge publishes them. Does not know where they stand, nor who is told.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Difference:
    """`here` and `there` as they are shown; None: an edge of an older version does not know the key."""

    edge: str
    key: str
    here: Any
    there: Any

    def __str__(self) -> str:
        return f"[failover] {self.key} is {_shown(self.here)} here, and {_shown(self.there)} at {self.edge}"


def published(failover: Mapping[str, Any]) -> str:
    return json.dumps({"failover": dict(failover)}, sort_keys=True)


def differences(mine: str, others: Mapping[str, str]) -> list[Difference]:
    """Of what is `published` here and by others, by name. Who publishes nothing yet, or what is none, says nothing."""
    found = []
    here = _failover(mine)
    for edge, text in sorted(others.items()):
        there = _failover(text)
        if here and there:
            found += [Difference(edge, key, here.get(key), there.get(key))
                      for key in sorted({*here, *there}) if here.get(key) != there.get(key)]
    return found


def _failover(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)["failover"]
    except (ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _shown(value: Any) -> str:
    return json.dumps(value)
