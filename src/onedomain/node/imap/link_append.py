"""XLINK APPEND: messages with the UIDs and mod-sequences that they have elsewhere, all of one command or none.

Knows how the literals come in. Does not know what a UID may name: store/link.py does.
"""

from __future__ import annotations

from functools import partial

from onedomain.model.failure import Failed
from onedomain.node.imap.append import MAX_MESSAGES, fill
from onedomain.node.imap.link import outcome_lines
from onedomain.node.imap.reader import LinkAppend
from onedomain.node.imap.talk import Done, Talk
from onedomain.node.store import link as rows
from onedomain.node.store.staging import Staging
from onedomain.node.store.values import Rejected
from onedomain.node.store.writer import Body
from onedomain.protocol.imap.cursor import BadCommand
from onedomain.protocol.imap.lines import Literal
from onedomain.protocol.imap.link import parse_link_append_more
from onedomain.protocol.imap.link_command import GivenMessage


async def append(talk: Talk, command: LinkAppend) -> Done:
    """Raises Failed, Rejected, BadCommand: then nothing was added, and the command has been read to its end."""
    staged: list[tuple[Staging, GivenMessage]] = []
    try:
        await _check(talk, command)
        await _receive(talk, command, staged)
        bodies = [await staging.finish() for staging, _ in staged]
    except BaseException:
        for staging, _ in staged:
            await staging.abort()
        raise
    return await _add(talk, command, staged, bodies)


async def _check(talk: Talk, command: LinkAppend) -> None:
    try:
        lack = talk.store.room()
        if lack is not None:
            raise Failed(lack)
        await talk.store.read(lambda reading: rows.find(reading.db, command.folder))
    except (Failed, Rejected):
        await talk.reader.skip(command.literal)
        raise


async def _receive(talk: Talk, command: LinkAppend, staged: list[tuple[Staging, GivenMessage]]) -> None:
    message: GivenMessage | None = command.message
    literal: Literal | None = command.literal
    while message is not None:
        assert literal is not None
        staging = talk.store.stage()
        staged.append((staging, message))
        await fill(talk, staging, literal)
        line = await talk.reader.after_literal()
        literal = line.literal
        try:
            message = parse_link_append_more(line.data)
            if message is None and literal is not None:
                raise BadCommand("Expected nothing behind the message")
            if len(staged) >= MAX_MESSAGES and message is not None:
                raise BadCommand("Too many messages")
        except BadCommand:
            if literal is not None:
                await talk.reader.skip(literal)
            raise


async def _add(
    talk: Talk, command: LinkAppend, staged: list[tuple[Staging, GivenMessage]], bodies: list[Body]
) -> Done:
    # An id that only the message itself tells counts as well
    given = [message._replace(delivery=message.delivery or staging.delivery or "") for staging, message in staged]
    try:
        outcome = await talk.store.write(
            partial(rows.append, ref=command.folder, given=given, now=talk.store.now()), bodies
        )
    except Rejected:
        talk.store.discard(bodies)  # only here is it certain that no row names them
        raise
    talk.say(*outcome_lines(outcome))
    return Done("Append completed")
