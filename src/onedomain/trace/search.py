"""Asks the logs: every step of a message, an account or a server, in order of time.

Knows files of JSON lines and how to find lines in them quickly. Does not know who wants the answer or how it is shown.

A needle is an address, a Message-ID, a queue id, a server's name. Lines that hold it give queue ids;
every line with one of those belongs to the answer too: the delivery of a message whose Message-ID stands only in its
"received" line is found that way.
"""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_LINES = 2000
MAX_IDS = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """`events` in order of time; `cut` when there were more than the limit."""

    events: list[dict[str, Any]]
    cut: bool


def search(directory: Path, needle: str, *, limit: int = MAX_LINES) -> Answer:
    needle = needle.strip().strip("<>")
    if len(needle) < 3:
        return Answer([], False)
    lines: dict[bytes, None] = {}
    ids: dict[str, None] = {}
    cut = False
    for line in _matching(directory, [needle.encode()], fold=True):
        lines.setdefault(line)
        queue_id = _load(line).get("queue_id")
        if isinstance(queue_id, str) and len(ids) < MAX_IDS:
            ids.setdefault(queue_id)
        if len(lines) >= limit:
            cut = True
            break
    if ids:
        for line in _matching(directory, [f'"{i}"'.encode() for i in ids], fold=False):
            if len(lines) >= limit:
                cut = True
                break
            lines.setdefault(line)
    events = [event for event in map(_load, lines) if event]
    events.sort(key=lambda event: event.get("time", 0))
    return Answer(events, cut)


def _load(line: bytes) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        return {}  # a torn last line of a killed process
    return event if isinstance(event, dict) else {}


def _matching(directory: Path, needles: list[bytes], *, fold: bool) -> Iterator[bytes]:


    pattern = re.compile(b"|".join(map(re.escape, needles)), re.IGNORECASE if fold else 0)
    for path in sorted(directory.glob("*.jsonl"), key=lambda p: p.stat().st_mtime, reverse=True):
        with path.open("rb") as file:
            if path.stat().st_size == 0:
                continue
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
                at = 0
                while found := pattern.search(text, at):
                    start = text.rfind(b"\n", 0, found.start()) + 1
                    end = text.find(b"\n", found.end())
                    end = len(text) if end < 0 else end
                    yield text[start:end]
                    at = end
