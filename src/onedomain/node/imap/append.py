"""APPEND, of one message or several (RFC 3501 section 6.3.11, MULTIAPPEND RFC 3502, UIDPLUS RFC 4315).

Knows when a literal is asked for, and that all messages come in or none. Does not know where the bytes go.
"""

from __future__ import annotations

from onedomain.model.failure import Failed
from onedomain.node.imap.reader import Append
from onedomain.node.imap.talk import Done, Talk
from onedomain.node.store import folders, messages
from onedomain.node.store.staging import Staging
from onedomain.node.store.values import Rejected
from onedomain.node.store.writer import Body, Transaction
from onedomain.protocol.imap.command import NewMessage
from onedomain.protocol.imap.cursor import BadCommand
from onedomain.protocol.imap.lines import Literal
from onedomain.protocol.imap.parser import parse_append_more
from onedomain.protocol.imap.sequence import format_set

MAX_MESSAGES = 1000


async def append(talk: Talk, command: Append) -> Done:
    """Raises Failed, Rejected, BadCommand: then nothing was added, and the command has been read to its end."""
    staged: list[tuple[Staging, NewMessage]] = []
    try:
        await _check(talk, command)
        await _receive(talk, command, staged)
        bodies = [await staging.finish() for staging, _ in staged]
    except BaseException:
        for staging, _ in staged:
            await staging.abort()
        raise
    return await _add(talk, command.mailbox, staged, bodies)


async def _check(talk: Talk, command: Append) -> None:
    """Before a byte of the message is asked for. The literal is skipped when it isn't wanted."""
    owner = talk.owner.id
    try:
        if command.literal.binary:
            raise BadCommand("Binary literals are not taken")
        lack = talk.store.room()
        if lack is not None:
            raise Failed(lack)
        found = await talk.store.read(lambda reading: folders.find(reading.db, owner, command.mailbox))
        if found is None:
            raise Rejected("TRYCREATE", "No such mailbox")
    except (BadCommand, Failed, Rejected):
        await talk.reader.skip(command.literal)
        raise


async def _receive(talk: Talk, command: Append, staged: list[tuple[Staging, NewMessage]]) -> None:
    message: NewMessage | None = command.message
    literal: Literal | None = command.literal
    while message is not None:
        assert literal is not None
        staging = talk.store.stage()
        staged.append((staging, message))
        await fill(talk, staging, literal)
        line = await talk.reader.after_literal()
        literal = line.literal
        try:
            message = parse_append_more(line.data)
            if message is None and literal is not None:
                raise BadCommand("Expected nothing behind the message")
            if len(staged) >= MAX_MESSAGES and message is not None:
                raise BadCommand("Too many messages")
        except BadCommand:
            if literal is not None:
                await talk.reader.skip(literal)
            raise


async def fill(talk: Talk, staging: Staging, literal: Literal) -> None:
    """One message's bytes. Reads the whole literal, also when the disk stops taking it."""
    await talk.reader.accept(literal)
    failure: Failed | None = None
    while True:
        talk.patience(talk.services.settings.idle_timeout)
        chunk = await talk.reader.chunk()
        if failure is None:
            try:
                await staging.write(chunk.data)
            except Failed as failed:
                failure = failed
        if chunk.last:
            break
    if failure is not None:
        line = await talk.reader.after_literal()
        if line.literal is not None:
            await talk.reader.skip(line.literal)
        raise failure


async def _add(talk: Talk, mailbox: str, staged: list[tuple[Staging, NewMessage]], bodies: list[Body]) -> Done:
    owner, now = talk.owner.id, talk.store.now()

    def work(tx: Transaction) -> tuple[int, list[int]]:
        folder = folders.find(tx.db, owner, mailbox)
        if folder is None:
            raise Rejected("TRYCREATE", "Mailbox was deleted meanwhile")
        new: list[messages.New] = []
        for place, (staging, message) in zip(tx.places, staged, strict=True):
            body = messages.add_body(tx, place, staging.delivery)
            date = now if message.date is None else message.date
            new.append(messages.New(body, place.size, date, message.flags))
        added = messages.add(tx, folder.id, new)
        return folder.uidvalidity, [each.uid for each in added.messages]

    try:
        uidvalidity, uids = await talk.store.write(work, bodies)
    except Rejected:
        talk.store.discard(bodies)  # only here is it certain that no row names them
        raise
    return Done("Append completed", code=f"APPENDUID {uidvalidity} {format_set(uids).decode()}")
