"""Mailboxes as things: SELECT, CREATE, DELETE, RENAME, SUBSCRIBE, STATUS, NAMESPACE, CLOSE (RFC 3501 section 6.3).

Knows what is answered. Does not know how folders are kept, nor LIST, which has a file of its own.
"""

from __future__ import annotations

from onedomain.node.imap import resync
from onedomain.node.imap.talk import Done, Talk
from onedomain.node.imap.view import View
from onedomain.node.store import folders, messages
from onedomain.node.store.readers import Reading
from onedomain.node.store.values import Folder
from onedomain.protocol.imap import command as c
from onedomain.protocol.imap import render
from onedomain.protocol.imap.cursor import BadCommand


async def select(talk: Talk, arguments: c.Select) -> Done:
    was_open = talk.view is not None
    if arguments.resync is not None and not talk.enabled.qresync:
        raise BadCommand("QRESYNC has to be enabled first")  # RFC 7162 section 3.2.5
    talk.leave()
    if arguments.condstore:
        talk.enable_condstore()
    owner = talk.owner.id
    folder = await talk.store.read(lambda reading: folders.get(reading.db, owner, arguments.mailbox))
    view = await open_view(talk, folder, arguments.read_only)
    if was_open:
        talk.say(b"* OK [CLOSED] Previous mailbox is closed\r\n")
    talk.view = view
    index = view.index
    view.tell(expunges=True)  # what has come since the view was opened is part of what is shown now
    modseq = view.modseq
    talk.say(
        *view.flag_lines(),
        b"* %d EXISTS\r\n" % len(view.uids),
        b"* %d RECENT\r\n" % len(view.recent),
        b"* OK [UIDVALIDITY %d] UIDs valid\r\n" % index.folder.uidvalidity,
        b"* OK [UIDNEXT %d] Predicted next UID\r\n" % index.uidnext,
        b"* OK [HIGHESTMODSEQ %d] Highest\r\n" % modseq,
    )
    if view.first_unseen:
        talk.say(b"* OK [UNSEEN %d] First unseen\r\n" % view.first_unseen)
    if arguments.resync is not None and arguments.resync.uidvalidity == index.folder.uidvalidity:
        await resync.resync(talk, view, arguments.resync)
    if arguments.read_only:
        return Done("Examine completed", code="READ-ONLY")
    return Done("Select completed", code="READ-WRITE")


async def open_view(talk: Talk, folder: Folder, read_only: bool) -> View:
    view = await View.open(talk.store.indexes, folder.id, read_only, talk.enabled)
    claimed = view.index.recent_uid
    if not read_only and view.recent:
        await talk.store.write(lambda tx: folders.claim_recent(tx, folder.id, claimed))
    return view


async def create(talk: Talk, arguments: c.Create) -> Done:
    owner, now = talk.owner.id, talk.store.now()
    await talk.store.write(lambda tx: folders.create(tx, owner, arguments.mailbox, now, arguments.special_use))
    return Done("Create completed")


async def delete(talk: Talk, arguments: c.Delete) -> Done:
    owner = talk.owner.id
    now = talk.store.now()
    await talk.store.write(lambda tx: folders.delete(tx, owner, arguments.mailbox, now))
    return Done("Delete completed")


async def rename(talk: Talk, arguments: c.Rename) -> Done:
    owner, now = talk.owner.id, talk.store.now()
    await talk.store.write(lambda tx: folders.rename(tx, owner, arguments.old, arguments.new, now))
    return Done("Rename completed")


async def subscribe(talk: Talk, arguments: c.Subscribe) -> Done:
    owner = talk.owner.id
    change = folders.subscribe if arguments.wanted else folders.unsubscribe
    await talk.store.write(lambda tx: change(tx, owner, arguments.mailbox))
    return Done("Subscribe completed" if arguments.wanted else "Unsubscribe completed")


async def status(talk: Talk, arguments: c.Status) -> Done:
    owner = talk.owner.id
    if "HIGHESTMODSEQ" in arguments.items:
        talk.enable_condstore()

    def read(reading: Reading) -> bytes:
        return status_line(reading, folders.get(reading.db, owner, arguments.mailbox), arguments.items)

    talk.say(await talk.store.read(read))
    return Done("Status completed")


def status_line(reading: Reading, folder: Folder, items: tuple[str, ...]) -> bytes:
    values: dict[str, object] = {
        "UIDNEXT": folder.uidnext, "UIDVALIDITY": folder.uidvalidity, "HIGHESTMODSEQ": folder.highestmodseq,
        "MAILBOXID": f"({folder.mailbox_id})",
    }
    if not values.keys() >= set(items):
        total, unseen, deleted, size = messages.counts(reading.db, folder.id)
        recent = messages.count_from(reading.db, folder.id, folder.recent_uid) if "RECENT" in items else 0
        values |= {"MESSAGES": total, "UNSEEN": unseen, "DELETED": deleted, "SIZE": size, "RECENT": recent}
    words = " ".join(f"{item} {values[item]}" for item in items)
    return b"* STATUS " + render.mailbox(folder.name) + f" ({words})\r\n".encode()


async def namespace(talk: Talk, _: c.Plain) -> Done:
    talk.say(b'* NAMESPACE (("" "/")) NIL NIL\r\n')
    return Done("Namespace completed")


async def check(talk: Talk, _: c.Plain) -> Done:
    return Done("Check completed")


async def unselect(talk: Talk, _: c.Plain) -> Done:
    talk.leave()
    return Done("Unselect completed")


async def close(talk: Talk, _: c.Plain) -> Done:
    r"""What is \Deleted goes, without being told (RFC 3501 section 6.4.2)."""
    view = talk.selected
    if not view.read_only:
        folder = view.index.folder.id
        marked = view.index.uids_with(r"\Deleted")
        if marked:
            await talk.store.write(lambda tx: messages.expunge(tx, folder, marked))
    talk.leave()
    return Done("Close completed")
