"""Texts for people, in English and Japanese.

Knows which language is wanted and how a text is filled in. Does not know the texts: each part keeps a table of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

Table = Mapping[str, tuple[str, str]]
"""Key -> (English, Japanese); both with the same {fields}."""

LANGUAGES = ("en", "ja")


def language(environment: Mapping[str, str] = os.environ) -> str:
    """"en" or "ja": ONEDOMAIN_LANG decides, else the locale as POSIX orders its variables."""
    for variable in ("ONEDOMAIN_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        if value := environment.get(variable):
            return "ja" if value.lower().startswith("ja") else "en"
    return "en"


def speaker(table: Table) -> Callable[..., str]:
    """A function `say(key, **fields)` for one table, in the language of this process."""

    def say(key: str, /, **fields: object) -> str:
        return table[key][LANGUAGES.index(language())].format(**fields)

    return say
