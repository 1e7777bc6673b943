"""Which line of a TOML file a key stands on.

Knows just enough of TOML's layout (headers, keys, strings and lists over several lines) to point at a line; the
standard library's reader keeps no positions. Does not judge: a file that it misreads is judged by tomllib all the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from onedomain.config.problem import Place

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"\s*((?:\"[^\"]*\"|'[^']*'|[\w-]+)(?:\s*\.\s*(?:\"[^\"]*\"|'[^']*'|[\w-]+))*)\s*=")
_WORD = re.compile(r"\"[^\"]*\"|'[^']*'|[\w-]+")
_TOKEN = re.compile(r'"""|\'\'\'|"(?:\\.|[^"\\])*"|\'[^\']*\'|#.*|[\[\]{}]')


def lines(text: str) -> dict[Place, int]:
    """Place -> line, counted from 1."""
    found: dict[Place, int] = {}
    table: Place = ()
    counts: dict[Place, int] = {}
    for number, line in _statements(text):
        if header := _HEADER.match(line):
            words = _words(header[2])
            table = _current(words[:-1], counts)
            if header[1] == "[[":
                index = counts[(*table, words[-1])] = counts.get((*table, words[-1]), -1) + 1
                found.setdefault((*table, words[-1]), number)
                table = (*table, words[-1], index)
            else:
                table = (*table, words[-1])
            found.setdefault(table, number)
        elif key := _KEY.match(line):
            found.setdefault((*table, *_words(key[1])), number)
    return found


def line_of(place: Place, known: dict[Place, int]) -> int:
    """The line of the place, or of the nearest thing around it; 0 for the file as a whole."""
    while place:
        if place in known:
            return known[place]
        place = place[:-1]
    return 0


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Lines that begin a statement, with their numbers: not those inside a string or a list."""
    depth, quote = 0, ""
    for number, line in enumerate(text.split("\n"), 1):
        rest = line
        if not depth and not quote:
            yield number, line
            if _HEADER.match(line):
                continue
        position = 0
        while position < len(rest):
            if quote:
                end = rest.find(quote, position)
                if end < 0:
                    break
                position, quote = end + 3, ""
                continue
            token = _TOKEN.search(rest, position)
            if token is None:
                break
            position = token.end()
            if token[0] in ('"""', "'''"):
                quote = token[0]
            elif token[0] in "[{":
                depth += 1
            elif token[0] in "]}":
                depth = max(0, depth - 1)


def _words(dotted: str) -> list[str]:
    return [word.strip("\"'") for word in _WORD.findall(dotted)] or [dotted]


def _current(words: list[str], counts: dict[Place, int]) -> Place:
    """`[server.imap]` means the last `[[server]]`."""
    place: Place = ()
    for word in words:
        place = (*place, word)
        if place in counts:
            place = (*place, counts[place])
    return place
