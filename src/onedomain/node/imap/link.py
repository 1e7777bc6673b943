"""XLINK: what a link asks and gives (docs/replication-protocol.md), over one connection for all accounts.

Knows what is answered. Does not know how it is found or applied: store/changes.py and store/link.py do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any

from onedomain.decision.link.identity import identity_of
from onedomain.node.imap.fetch import PORTION_BYTES, stream
from onedomain.node.imap.talk import Done, Talk
from onedomain.node.services import account_name
from onedomain.node.store import changes, expunges
from onedomain.node.store import link as rows
from onedomain.node.store.bodies import LARGE, BodyFile
from onedomain.node.store.changes import Described
from onedomain.node.store.readers import Reading
from onedomain.node.store.values import Account, Folder, Rejected
from onedomain.node.store.writer import Transaction
from onedomain.protocol.imap import link_command as c
from onedomain.protocol.imap import render
from onedomain.protocol.imap.link import parse_link
from onedomain.protocol.imap.sequence import format_ranges, format_set

ACCOUNTS_AT_ONCE = 200
BODIES_IN_ALL = 4 * 2**20
"""Octets that MESSAGES tells of bodies."""


async def link(talk: Talk, data: bytes) -> Done:
    """One command other than APPEND. Raises BadCommand, BadName, Rejected, Failed."""
    command = parse_link(data)
    return await _HANDLERS[type(command)](talk, command)


def outcome_lines(outcome: rows.Outcome) -> Iterator[bytes]:
    for word in ("done", "known", "newer", "missing"):
        uids = getattr(outcome, word)
        if uids:
            yield b"* XLINK %b %b\r\n" % (word.upper().encode(), format_set(uids))


async def _changes(talk: Talk, command: c.Changes) -> Done:
    def begin(reading: Reading) -> tuple[str, int, list[Account]]:
        node, last = changes.mark(reading.db)
        if command.since > last:
            # What the link has seen is not there any more: the database is older than that, or another one
            raise Rejected(f"ROLLEDBACK {node} {last}", "The last commit is before that")
        if command.accounts is None:
            return node, last, changes.accounts_since(reading.db, command.since)
        return node, last, changes.accounts_named(reading.db, list(dict.fromkeys(command.accounts)))

    node, last, accounts = await talk.store.read(begin)
    for some in _portions(accounts, ACCOUNTS_AT_ONCE):
        lines = partial(_accounts, accounts=some, since=command.since, counted=command.counted)
        await talk.say_all(await talk.store.read(lines))
    there = {account.name for account in accounts}
    for name in dict.fromkeys(command.accounts or ()):
        if name not in there:
            talk.say(b"* XLINK NOACCOUNT %b\r\n" % _name(name))
    talk.say(b"* XLINK NODE %b %d\r\n" % (node.encode(), last))
    return Done("Changes completed")


def _accounts(reading: Reading, accounts: Sequence[Account], since: int, counted: bool) -> list[bytes]:
    lines: list[bytes] = []
    for account in accounts:
        subscribed, there = changes.of_account(reading.db, account.id, since)
        if subscribed is not None:
            names = b" ".join(map(render.mailbox, subscribed))
            lines.append(b"* XLINK ACCOUNT %b (%b)\r\n" % (_name(account.name), names))
        for folder in there:
            messages = changes.count(reading.db, folder.id) if counted else None
            lines.append(_folder_line(account.name, folder, messages))
    return lines


async def _messages(talk: Talk, command: c.Messages) -> Done:
    def begin(reading: Reading) -> tuple[Folder, Sequence[int], bytes, int | None]:
        folder = rows.find(reading.db, command.folder)
        uids = changes.uids_since(reading.db, folder.id, command.since, command.first)
        messages = changes.count(reading.db, folder.id) if command.counted else None
        return folder, uids, _vanished(reading, folder, command.since), messages

    folder, uids, vanished, messages = await talk.store.read(begin)
    talk.say(_folder_line(command.folder.account, folder, messages))
    if vanished:
        talk.say(b"* XLINK VANISHED " + vanished + b"\r\n")
    (first, limit), left = command.bodies or (0, -1), BODIES_IN_ALL
    for some in _portions(uids, changes.STEP):
        found = await talk.store.read(partial(_described, folder=folder.id, uids=some))
        wanted = []
        for each in found:
            comes = each.uid >= first and each.size <= min(limit, left)
            left -= each.size if comes else 0
            wanted.append((each, comes))
        for portion in _by_size(wanted):
            await _send(talk, portion)
    return Done("Messages completed")


def _vanished(reading: Reading, folder: Folder, since: int) -> bytes:
    if expunges.knows(folder, since):
        return format_set(expunges.since(reading.db, folder.id, since))
    there = changes.uids_since(reading.db, folder.id, 0)
    return format_ranges(expunges.absent(there, [(1, folder.uidnext - 1)]))


def _wanted(reading: Reading, command: c.Bodies | c.Identities) -> tuple[Folder, list[int]]:
    """The folder, and those of the UIDs that are there."""
    folder = rows.find(reading.db, command.folder)
    lowest = min(map(min, command.uids.ranges))  # 0, which stands for `*`, could be any
    there = changes.uids_since(reading.db, folder.id, 0, lowest)
    return folder, [there[at] for at in command.uids.positions_of_uids(there)]


async def _bodies(talk: Talk, command: c.Bodies) -> Done:
    folder, uids = await talk.store.read(partial(_wanted, command=command))
    for some in _portions(uids, changes.STEP):
        found = await talk.store.read(partial(_described, folder=folder.id, uids=some))
        for portion in _by_size([(each, True) for each in found]):
            await _send(talk, portion)
    return Done("Bodies completed")


async def _identities(talk: Talk, command: c.Identities) -> Done:
    """What BODIES would show, without the bytes: a link compares two servers by it."""
    folder, uids = await talk.store.read(partial(_wanted, command=command))
    for some in _portions(uids, changes.STEP):
        found = await talk.store.read(partial(_described, folder=folder.id, uids=some))
        for portion in _by_size([(each, True) for each in found]):
            await talk.say_all(await talk.store.read(partial(_identity_lines, portion=portion)))
    return Done("Identities completed")


def _identity_lines(reading: Reading, portion: Sequence[Wanted]) -> list[bytes]:
    lines: list[bytes] = []
    for message, _ in portion:
        file = reading.body(message.body)
        if file is None:  # expunged meanwhile
            continue
        with file:
            known = identity_of(file.read(0, file.size))
        delivery = render.string(known.delivery.encode("latin-1")) if known.delivery else render.NIL
        digest = render.string(known.digest.encode())
        lines.append(b"* XLINK IDENTITY %d %b %b %d\r\n" % (message.uid, digest, delivery, known.filler))
    return lines


def _described(reading: Reading, folder: int, uids: Sequence[int]) -> list[Described]:
    return list(changes.described(reading.db, folder, uids))


Wanted = tuple[Described, bool]
"""A message, and whether its bytes go along."""


def _by_size(messages: Sequence[Wanted]) -> Iterator[list[Wanted]]:
    """Portions whose bytes may be in memory together; a large one alone."""
    portion: list[Wanted] = []
    size = 0
    for each in messages:
        size += each[0].size if each[1] else 0
        portion.append(each)
        if size >= PORTION_BYTES:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


async def _send(talk: Talk, portion: Sequence[Wanted]) -> None:
    """A message that is expunged meanwhile is left out: it will be among the next changes."""
    bodies = await talk.store.read(partial(_read, portion=portion))
    try:
        for (message, wanted), body in zip(portion, bodies, strict=True):
            if wanted and body is None:
                continue
            talk.say(b"* XLINK MESSAGE " + _describe(message))
            if isinstance(body, bytes):
                talk.say(b" " + render.literal(body))
            elif body is not None:
                talk.say(b" {%d}\r\n" % body.size)
                await talk.flush()
                await stream(talk, body, 0, body.size)
            await talk.say_all([b"\r\n"])
    finally:
        for body in bodies:
            if isinstance(body, BodyFile):
                body.close()


def _read(reading: Reading, portion: Sequence[Wanted]) -> list[bytes | BodyFile | None]:
    """Small bodies as bytes, large ones open, for the caller to close."""
    bodies: list[bytes | BodyFile | None] = []
    for message, wanted in portion:
        file = reading.body(message.body) if wanted else None
        if file is not None and file.size <= LARGE:
            with file:
                bodies.append(file.read(0, file.size))
        else:
            bodies.append(file)
    return bodies


def _describe(message: Described) -> bytes:
    delivery = render.string(message.delivery.encode()) if message.delivery else render.NIL
    return b"%d %d %d %b %d %b %b" % (
        message.uid, message.modseq, message.date, render.flags(message.flags), message.size,
        message.digest.hex().encode(), delivery,
    )  # fmt: skip


async def _find(talk: Talk, command: c.Find) -> Done:
    def read(reading: Reading) -> list[bytes]:
        account = rows.owner(reading.db, command.account)
        lines: list[bytes] = []
        for delivery, places in changes.deliveries(reading.db, account.id, command.deliveries):
            if places is not None:
                where = b" ".join(b"(%b %d)" % (mailbox_id.encode(), uid) for mailbox_id, uid in places)
                lines.append(b"* XLINK DELIVERY %b (%b)\r\n" % (render.string(delivery.encode()), where))
        return lines

    await talk.say_all(await talk.store.read(read))
    return Done("Find completed")


async def _give_account(talk: Talk, command: c.GiveAccount) -> Done:
    name, now = account_name(command.account), talk.store.now()
    if name != command.account:
        raise Rejected("CANNOT", f"The account's key form is {name}")
    await talk.store.write(partial(rows.give_account, name=name, now=now))
    return Done("Account completed")


async def _give_folder(talk: Talk, command: c.GiveFolder) -> Done:
    await talk.store.write(partial(rows.give_folder, given=command, now=talk.store.now()))
    return Done("Folder completed")


async def _drop_folder(talk: Talk, command: c.DropFolder) -> Done:
    await talk.store.write(partial(rows.drop_folder, ref=command.folder, now=talk.store.now()))
    return Done("Delete completed")


async def _give_subscriptions(talk: Talk, command: c.GiveSubscriptions) -> Done:
    await talk.store.write(partial(rows.give_subscriptions, name=command.account, names=command.names))
    return Done("Subscriptions completed")


async def _give_delivered(talk: Talk, command: c.GiveDelivered) -> Done:
    now = talk.store.now()
    await talk.store.write(
        partial(rows.give_delivered, name=command.account, deliveries=command.deliveries, now=now)
    )
    return Done("Delivered completed")


async def _give_flags(talk: Talk, command: c.GiveFlags) -> Done:
    return await _apply(talk, partial(rows.give_flags, ref=command.folder, given=command.flags), "Flags completed")


async def _give_expunges(talk: Talk, command: c.GiveExpunges) -> Done:
    return await _apply(talk, partial(rows.expunge, ref=command.folder, given=command.gone), "Expunge completed")


async def _give_gaps(talk: Talk, command: c.GiveGaps) -> Done:
    await talk.store.write(partial(rows.give_gaps, given=command.gaps))
    return Done("Gap completed")


async def _apply(talk: Talk, work: Callable[[Transaction], rows.Outcome], text: str) -> Done:
    talk.say(*outcome_lines(await talk.store.write(work)))
    return Done(text)


def _folder_line(account: str, folder: Folder, messages: int | None) -> bytes:
    use = render.string(folder.special_use.encode()) if folder.special_use else render.NIL
    counted = b"" if messages is None else b" %d" % messages
    return b"* XLINK FOLDER %b %b %d %b %d %d %b%b\r\n" % (
        _name(account), folder.mailbox_id.encode(), folder.uidvalidity, render.mailbox(folder.name), folder.uidnext,
        folder.highestmodseq, use, counted,
    )  # fmt: skip


def _name(account: str) -> bytes:
    return render.string(account.encode())


def _portions(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[at:at + size] for at in range(0, len(items), size))


_HANDLERS: dict[type, Callable[[Talk, Any], Awaitable[Done]]] = {
    c.Changes: _changes,
    c.Messages: _messages,
    c.Bodies: _bodies,
    c.Identities: _identities,
    c.Find: _find,
    c.GiveAccount: _give_account,
    c.GiveFolder: _give_folder,
    c.DropFolder: _drop_folder,
    c.GiveSubscriptions: _give_subscriptions,
    c.GiveDelivered: _give_delivered,
    c.GiveFlags: _give_flags,
    c.GiveExpunges: _give_expunges,
    c.GiveGaps: _give_gaps,
}
