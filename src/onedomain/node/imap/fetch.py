r"""FETCH: which messages, what sets \Seen, in which portions it is read and sent (RFC 3501 section 6.4.5).

Knows what is in memory and what is on disk. Does not know how a section is cut out of a message: sections.py does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from onedomain.node.imap import resync
from onedomain.node.imap.sections import Pieces, cut
from onedomain.node.imap.talk import FLUSH_AT, Done, Talk
from onedomain.node.imap.view import View
from onedomain.node.store import messages
from onedomain.node.store.bodies import BodyFile
from onedomain.node.store.readers import Reading
from onedomain.node.store.values import Message
from onedomain.protocol.imap import command as c
from onedomain.protocol.imap import render
from onedomain.protocol.imap.cursor import BadCommand
from onedomain.protocol.imap.flags import Mode, has
from onedomain.protocol.imap.sequence import BadSet, SequenceSet

STEP = 1000
"""Messages whose flags are changed in one work, so that deliveries get their turn in between."""

PORTION_MESSAGES = 64
PORTION_BYTES = 1024 * 1024
"""How much is read in one go of a reader's thread, and held in memory."""

GONE = Done("Some messages were expunged meanwhile", "NO", "EXPUNGEISSUED", expunges=False)

_FROM_INDEX = frozenset({"UID", "FLAGS", "INTERNALDATE", "RFC822.SIZE", "MODSEQ"})


def chosen(view: View, wanted: SequenceSet, uid: bool) -> list[int]:
    """UIDs of the messages that a command names. Raises BadCommand for a number that the session doesn't have."""
    if uid:
        return [view.uids[at] for at in wanted.positions_of_uids(view.uids)]
    try:
        return [view.uids[at] for at in wanted.positions(len(view.uids))]
    except BadSet as error:
        raise BadCommand(str(error)) from None


async def fetch(talk: Talk, arguments: c.Fetch) -> Done:
    view = talk.selected
    if arguments.vanished and not view.enabled.qresync:
        raise BadCommand("VANISHED needs ENABLE QRESYNC")
    uids = chosen(view, arguments.messages, arguments.uid)
    items = arguments.items if not arguments.uid or "UID" in arguments.items else ("UID", *arguments.items)
    if arguments.changed_since is not None and "MODSEQ" not in items:
        items = (*items, "MODSEQ")
    if "MODSEQ" in items:
        talk.enable_condstore()
    if arguments.changed_since is not None:
        changed = set(view.index.since(arguments.changed_since))
        # What is gone stays in: a command by numbers has to say so
        uids = [uid for uid in uids if uid in changed or (view.index.flags(uid) is None and not arguments.uid)]
    if arguments.vanished and arguments.changed_since is not None:
        within = arguments.messages.resolve(max(view.uidnext - 1, 1))
        await resync.vanished(talk, view, arguments.changed_since, within)
    from_body = [item for item in items if item not in _FROM_INDEX]
    seen: set[int] = set()
    if not view.read_only and any(isinstance(item, c.Section) and not item.peek for item in items):
        seen = await _mark_seen(talk, view, uids)
    if from_body:
        complete = await _from_bodies(talk, view, uids, items, from_body, seen)
    else:
        await talk.say_all(_from_index(view, uids, items))
        complete = all(view.index.flags(uid) is not None for uid in uids)
    if not complete and not arguments.uid:
        return GONE
    return Done("Fetch completed", expunges=arguments.uid)


async def _mark_seen(talk: Talk, view: View, uids: Sequence[int]) -> set[int]:
    folder = view.index.folder.id
    seen: set[int] = set()
    unseen = [uid for uid in uids if (flags := view.index.flags(uid)) is not None and not has(flags, r"\Seen")]
    for step in (unseen[at:at + STEP] for at in range(0, len(unseen), STEP)):
        flagged = await talk.store.write(
            lambda tx, step=step: messages.store_flags(tx, folder, step, Mode.ADD, r"\Seen", view)  # type: ignore[misc]
        )
        if flagged is not None:
            seen.update(uid for uid, _ in flagged.flags)
    return seen


def _from_index(view: View, uids: Sequence[int], items: Sequence[str | c.Section]) -> Iterator[bytes]:
    for uid in uids:
        message = view.index.get(uid)
        if message is not None:
            yield _head(view, message, items) + b")\r\n"


def _head(view: View, message: Message, items: Sequence[str | c.Section], with_flags: bool = False) -> bytes:
    """`* n FETCH (` and what the index knows."""
    words: list[bytes] = []
    for item in items:
        if item == "UID":
            words.append(b"UID %d" % message.uid)
        elif item == "FLAGS":
            words.append(b"FLAGS " + render.flags(message.flags, message.uid in view.recent))
        elif item == "INTERNALDATE":
            words.append(b"INTERNALDATE " + render.internal_date(message.date))
        elif item == "RFC822.SIZE":
            words.append(b"RFC822.SIZE %d" % message.size)
        elif item == "MODSEQ":
            words.append(b"MODSEQ (%d)" % message.modseq)
    if with_flags and "FLAGS" not in items:
        words.append(b"FLAGS " + render.flags(message.flags, message.uid in view.recent))
    if with_flags and view.enabled.condstore and "MODSEQ" not in items:
        words.append(b"MODSEQ (%d)" % message.modseq)
    return b"* %d FETCH (" % view.sequence(message.uid) + b" ".join(words)


async def _from_bodies(
    talk: Talk, view: View, uids: Sequence[int], items: Sequence[str | c.Section],
    from_body: Sequence[str | c.Section], seen: set[int],
) -> bool:  # fmt: skip
    complete = True
    for portion in _portions(view, uids):
        found = [message for uid in portion if (message := view.index.get(uid)) is not None]
        heads = [_head(view, message, items, message.uid in seen) for message in found]

        def read(reading: Reading, found: Sequence[Message] = found) -> list[Pieces | None]:
            return [cut(reading, message, from_body) for message in found]

        answers = await talk.store.read(read)
        complete = complete and len(found) == len(portion)
        try:
            for head, pieces in zip(heads, answers, strict=True):
                if pieces is None:
                    complete = False
                    continue
                talk.say(head if head.endswith(b"(") else head + b" ")
                await _send(talk, pieces)
                talk.say(b")\r\n")
        finally:
            for pieces in answers:
                if pieces is not None and pieces.file is not None:
                    pieces.file.close()
    return complete


def _portions(view: View, uids: Sequence[int]) -> Iterator[list[int]]:
    portion: list[int] = []
    size = 0
    for uid in uids:
        message = view.index.get(uid)
        size += message.size if message is not None else 0
        portion.append(uid)
        if len(portion) >= PORTION_MESSAGES or size >= PORTION_BYTES:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


async def _send(talk: Talk, pieces: Pieces) -> None:
    for piece in pieces.pieces:
        if isinstance(piece, bytes):
            await talk.say_all([piece])
            continue
        assert pieces.file is not None
        await talk.flush()
        await stream(talk, pieces.file, *piece)


async def stream(talk: Talk, file: BodyFile, start: int, end: int) -> None:
    """A span of a large body, in portions: what is in memory doesn't depend on its size."""
    size = 4 * FLUSH_AT
    for at in range(start, end, size):
        talk.patience(talk.services.settings.idle_timeout)
        length = min(size, end - at)
        await talk.stream.write(await talk.store.read(lambda _, at=at, length=length: file.read(at, length)))  # type: ignore[misc]
