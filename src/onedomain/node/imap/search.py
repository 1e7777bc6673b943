"""SEARCH and UID SEARCH (RFC 3501 section 6.4.4, ESEARCH of RFC 4731).

Knows how a search is spread over turns of the loop and of the readers, so that it holds up nobody. Does not know what
a key means: matching.py does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial

from onedomain.node.imap.matching import DELIVERY, Candidate, Question, matches, needs_body
from onedomain.node.imap.talk import Done, Talk
from onedomain.node.imap.view import View
from onedomain.node.store import messages
from onedomain.node.store.bodies import BodyFile
from onedomain.node.store.readers import Reading
from onedomain.protocol.imap import command as c
from onedomain.protocol.imap.cursor import BadCommand
from onedomain.protocol.imap.sequence import BadSet, format_set

IN_MEMORY = 1000
WITH_BODIES = 50
"""Messages looked at in one go."""


async def search(talk: Talk, tag: str, arguments: c.Search) -> Done:
    view = talk.selected
    with_modseq = any(isinstance(key, c.Modified) for key in _leaves(arguments.key))
    if with_modseq:
        talk.enable_condstore()
    question = await _question(talk, view, arguments.key)
    positions = _positions(view, question)
    step = WITH_BODIES if needs_body(question.key) else IN_MEMORY
    found: list[int] = []  # UIDs: numbers are stable within SEARCH, but cost a look-up only for what is found
    for some in (positions[at:at + step] for at in range(0, len(positions), step)):
        found += await _among(talk, view, question, some)
    numbers = found if arguments.uid else [view.sequence(uid) for uid in found]
    if arguments.give is None:
        modseq = _modseq(view, found) if with_modseq and found else b""
        talk.say(b"* SEARCH" + b"".join(b" %d" % number for number in numbers) + modseq + b"\r\n")
    else:
        named = _named(arguments.give, found) if with_modseq else []
        talk.say(_esearch(tag, arguments, numbers, _modseq(view, named)[2:-1] if named else b""))
    return Done("Search completed", expunges=arguments.uid)


async def _question(talk: Talk, view: View, key: c.Key) -> Question:
    sets: dict[c.Among, frozenset[int]] = {}
    deliveries: dict[str, frozenset[int]] = {}
    folder = view.index.folder.id
    for each in _leaves(key):
        if isinstance(each, c.Among):
            sets[each] = _numbers(view, each)
        elif isinstance(each, c.HeaderText) and each.name == DELIVERY and each.text:
            text = each.text
            uids = await talk.store.read(lambda reading, text=text: messages.with_delivery(reading.db, folder, text))  # type: ignore[misc]
            deliveries[text] = frozenset(uids)
    return Question(key, talk.store.now(), sets, deliveries, view.index.doubt)


def _leaves(key: c.Key) -> Iterator[c.Key]:
    match key:
        case c.And(keys=keys):
            for inner in keys:
                yield from _leaves(inner)
        case c.Or(left=left, right=right):
            yield from _leaves(left)
            yield from _leaves(right)
        case c.Not(key=inner):
            yield from _leaves(inner)
        case _:
            yield key


def _numbers(view: View, key: c.Among) -> frozenset[int]:
    """The UIDs or sequence numbers that are there. Raises BadCommand."""
    if key.uid:
        return frozenset(view.uids[at] for at in key.messages.positions_of_uids(view.uids))
    try:
        return frozenset(at + 1 for at in key.messages.positions(len(view.uids)))
    except BadSet as error:
        raise BadCommand(str(error)) from None


def _positions(view: View, question: Question) -> list[int]:
    """Where to look at all: a set or an id that everything must fit spares the rest."""
    keys = question.key.keys if isinstance(question.key, c.And) else (question.key,)
    for key in keys:
        uids: frozenset[int] | None = None
        if isinstance(key, c.Among):
            if not key.uid:
                return sorted(number - 1 for number in question.sets[key])
            uids = question.sets[key]
        elif isinstance(key, c.HeaderText) and key.name == DELIVERY and key.text:
            uids = question.deliveries[key.text]
        if uids is not None:
            return sorted(number - 1 for number in map(view.sequence, uids) if number)
    return list(range(len(view.uids)))


async def _among(talk: Talk, view: View, question: Question, positions: Sequence[int]) -> list[int]:
    rows = [
        (at + 1, message, message.uid in view.recent)
        for at in positions
        if (message := view.index.get(view.uids[at])) is not None
    ]

    def fitting(reading: Reading | None) -> list[int]:
        return [
            message.uid
            for number, message, recent in rows
            if matches(
                question,
                Candidate(number, message, recent, partial(_open, reading, message.body)),
            )
        ]

    if needs_body(question.key):
        return await talk.store.read(fitting)
    await asyncio.sleep(0)  # a turn for the other sessions
    return fitting(None)


def _open(reading: Reading | None, body: int) -> BodyFile | None:
    return reading.body(body) if reading is not None else None


def _modseq(view: View, uids: Sequence[int]) -> bytes:
    """The highest of those found (RFC 7162 section 3.1.5)."""
    highest = max((message.modseq for uid in uids if (message := view.index.get(uid)) is not None), default=0)
    return b" (MODSEQ %d)" % highest if highest else b""


def _named(give: frozenset[str], found: Sequence[int]) -> Sequence[int]:
    """Those whose mod-sequence counts: all, unless only MIN or MAX are named (RFC 4731 section 3.2)."""
    if give & {"ALL", "COUNT"}:
        return found
    return [*(found[:1] if "MIN" in give else ()), *(found[-1:] if "MAX" in give else ())]


def _esearch(tag: str, arguments: c.Search, numbers: Sequence[int], modseq: bytes) -> bytes:
    give = arguments.give or frozenset()
    words = [b'(TAG "%b")' % tag.encode()]
    if arguments.uid:
        words.append(b"UID")
    if "MIN" in give and numbers:
        words.append(b"MIN %d" % min(numbers))
    if "MAX" in give and numbers:
        words.append(b"MAX %d" % max(numbers))
    if "ALL" in give and numbers:
        words.append(b"ALL " + format_set(numbers))
    if "COUNT" in give:
        words.append(b"COUNT %d" % len(numbers))
    if modseq:
        words.append(modseq)
    return b"* ESEARCH " + b" ".join(words) + b"\r\n"
