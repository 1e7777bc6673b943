"""What changes a mailbox from inside: STORE, COPY, MOVE, EXPUNGE (RFC 3501 section 6.4, UIDPLUS RFC 4315, MOVE RFC
6851, conditional STORE RFC 7162).

Knows what is answered, and that long lists are done in steps. Does not know how rows change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from onedomain.node.imap.fetch import GONE, STEP, chosen
from onedomain.node.imap.talk import Done, Talk
from onedomain.node.store import folders, messages
from onedomain.node.store.values import Rejected
from onedomain.node.store.writer import Transaction
from onedomain.protocol.imap import command as c
from onedomain.protocol.imap.sequence import format_set


async def store(talk: Talk, arguments: c.Store) -> Done:
    view = talk.writable()
    uids = chosen(view, arguments.messages, arguments.uid)
    folder = view.index.folder.id
    if arguments.unchanged_since is not None:
        talk.enable_condstore()

    def work(tx: Transaction, step: Sequence[int]) -> list[int]:
        """-> those that somebody has changed in the meantime, and that stay as they are."""
        changed: list[int] = []
        if arguments.unchanged_since is not None:
            since = folders.by_id(tx.db, folder).doubt.since(arguments.unchanged_since)
            changed = messages.modified_since(tx.db, folder, step, since)
            step = sorted(set(step).difference(changed))
        messages.store_flags(tx, folder, step, arguments.mode, arguments.flags, view)
        return changed

    changed: list[int] = []
    for step in _steps(uids):
        changed += await talk.store.write(partial(work, step=step))
    untouched = frozenset(changed)
    there = [message for uid in uids if uid not in untouched and (message := view.index.get(uid)) is not None]
    talk.say(*view.new_keywords())
    if not arguments.silent:
        await talk.say_all(map(view.fetch_flags, there))
    elif view.enabled.condstore:
        await talk.say_all(map(view.fetch_modseq, there))
    code = ""
    if changed:
        numbers = changed if arguments.uid else [view.sequence(uid) for uid in changed]
        code = f"MODIFIED {format_set(numbers).decode()}"
    if len(there) + len(changed) < len(uids) and not arguments.uid:
        return replace(GONE, code=code or GONE.code)
    return Done("Conditional store failed" if changed else "Store completed", code=code, expunges=arguments.uid)


async def copy(talk: Talk, arguments: c.Copy) -> Done:
    view = talk.writable() if arguments.move else talk.selected
    uids = chosen(view, arguments.messages, arguments.uid)
    owner, source = talk.owner.id, view.index.folder.id

    def work(tx: Transaction) -> messages.Given:
        target = folders.find(tx.db, owner, arguments.mailbox)
        if target is None:
            raise Rejected("TRYCREATE", "No such mailbox")
        if arguments.move:
            return messages.move(tx, source, target.id, uids)
        return messages.copy(tx, source, target.id, uids)

    given = await talk.store.write(work)
    code = ""
    if given.source:
        source_set = format_set(given.source, ordered=False).decode()
        target_set = format_set(given.target, ordered=False).decode()
        code = f"COPYUID {given.uidvalidity} {source_set} {target_set}"
    if arguments.move:
        if code:
            talk.say(f"* OK [{code}] Moved\r\n".encode())
        return Done("Move completed", modseq=bool(code))
    if len(given.source) < len(uids) and not arguments.uid:
        return Done("Some messages were expunged meanwhile", "NO", "EXPUNGEISSUED")
    return Done("Copy completed", code=code)


async def expunge(talk: Talk, arguments: c.Plain | c.UidExpunge) -> Done:
    view = talk.writable()
    folder = view.index.folder.id
    marked = view.index.uids_with(r"\Deleted")
    if isinstance(arguments, c.UidExpunge):
        named = set(chosen(view, arguments.messages, uid=True))
        marked = [uid for uid in marked if uid in named]
    some = False
    for step in _steps(marked):
        some |= await talk.store.write(partial(messages.expunge, folder=folder, uids=step)) is not None
    return Done("Expunge completed", modseq=some)


def _steps(uids: Sequence[int]) -> Iterator[Sequence[int]]:
    return (uids[at:at + STEP] for at in range(0, len(uids), STEP))
