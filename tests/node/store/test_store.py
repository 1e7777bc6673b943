"""The store: what a commit brings, what stays after a failure, what is told to whom."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from onedomain.model.failure import Failed
from onedomain.node.store import accounts, bodies, folders, messages, schema
from onedomain.node.store.bodies import LARGE, Segments
from onedomain.node.store.index import Index
from onedomain.node.store.readers import Reading
from onedomain.node.store.staging import delivery_id
from onedomain.node.store.store import InUse, Store
from onedomain.node.store.values import Account, Added, Change, Expunged, Flagged, Rejected, Removed, Taken
from onedomain.node.store.verify import verify
from onedomain.node.store.writer import Transaction
from onedomain.protocol.imap.flags import Mode
from tests.node.lab import Clock, Notes


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await Store.open(tmp_path, Clock(), Notes())
    yield store
    await store.close()
    assert verify(tmp_path).findings == ()


async def put(store: Store, account: Account, data: bytes) -> Taken:
    staging = store.stage()
    await staging.write(data)
    body = await staging.finish()
    return (await store.deliver(body, staging.delivery, [account]))[0]


async def inbox(store: Store, account: Account) -> Index:
    folder = await store.read(lambda reading: folders.get(reading.db, account.id, "INBOX"))
    return await store.indexes.open(folder.id)


async def body_of(store: Store, body: int) -> bytes | None:
    def read(reading: Reading) -> bytes | None:
        file = reading.body(body)
        if file is None:
            return None
        with file:
            return file.read(0, file.size)

    return await store.read(read)


class Watching:
    def __init__(self) -> None:
        self.changes: list[Change] = []

    def changed(self, change: Change) -> None:
        self.changes.append(change)


async def test_an_account_begins_with_the_folders_that_clients_look_for(store: Store) -> None:
    account = await store.create_account("u@example.com")
    found = await store.read(lambda reading: folders.of_account(reading.db, account.id))
    assert {folder.name: folder.special_use for folder in found} == {"INBOX": "", **accounts.DEFAULT_FOLDERS}
    subscribed = await store.read(lambda reading: folders.subscriptions(reading.db, account.id))
    assert set(subscribed) == {folder.name for folder in found}
    assert len({folder.uidvalidity for folder in found}) == len(found)
    assert await store.create_account("u@example.com") == account


async def test_a_delivery_id_is_taken_once_per_account(store: Store) -> None:
    one, two = await store.create_account("one@x.jp"), await store.create_account("two@x.jp")
    data = b"X-OneDomain-Delivery: d1\r\n\r\nbody\r\n"
    assert await put(store, one, data) is Taken.STORED
    assert await put(store, one, data) is Taken.ALREADY
    assert await put(store, two, data) is Taken.STORED
    assert await put(store, one, b"no id\r\n\r\n") is Taken.STORED
    assert await put(store, one, b"no id\r\n\r\n") is Taken.STORED
    assert len(await inbox(store, one)) == 3


async def test_the_id_of_an_expunged_message_stays_taken(store: Store) -> None:
    account = await store.create_account("u@x.jp")
    await put(store, account, b"X-OneDomain-Delivery: d1\r\n\r\n")
    index = await inbox(store, account)
    await store.write(lambda tx: messages.expunge(tx, index.folder.id, [1], only=lambda _: True))
    assert await put(store, account, b"X-OneDomain-Delivery: d1\r\n\r\n") is Taken.ALREADY


async def test_several_recipients_share_one_body(store: Store, tmp_path: Path) -> None:
    everyone = [await store.create_account(f"{n}@x.jp") for n in range(3)]
    staging = store.stage()
    await staging.write(b"shared\r\n")
    assert await store.deliver(await staging.finish(), None, everyone) == [Taken.STORED] * 3
    report = verify(tmp_path)
    assert (report.messages, report.bodies) == (3, 1)


async def test_an_account_that_is_gone_takes_nothing(store: Store) -> None:
    account = await store.create_account("u@x.jp")
    await store.write(lambda tx: accounts.remove(tx, account.id))
    assert await put(store, account, b"\r\n") is Taken.NO_ACCOUNT
    assert await put(store, account, b"X-OneDomain-Delivery: d\r\n\r\n") is Taken.NO_ACCOUNT


async def test_modseq_grows_with_every_change_and_expunges_are_remembered(store: Store) -> None:
    account = await store.create_account("u@x.jp")
    index = await inbox(store, account)
    folder = index.folder.id
    watching = Watching()
    index.watchers.add(watching)
    await put(store, account, b"1")
    await put(store, account, b"2")
    await store.write(lambda tx: messages.store_flags(tx, folder, [1, 2, 9], Mode.ADD, r"\Seen Work"))
    await store.write(lambda tx: messages.store_flags(tx, folder, [1], Mode.ADD, r"\Seen"))  # changes nothing
    await store.write(lambda tx: messages.expunge(tx, folder, [1, 2], only=lambda m: m.uid == 1))
    modseqs = []
    for change in watching.changes:
        assert isinstance(change, (Added, Flagged, Expunged))
        modseqs.append(change.messages[0].modseq if isinstance(change, Added) else change.modseq)
    assert modseqs == [2, 3, 4, 5]
    assert watching.changes[2:] == [
        Flagged(folder, 4, ((1, r"\Seen Work"), (2, r"\Seen Work"))), Expunged(folder, 5, (1,)),
    ]  # fmt: skip
    rows = await store.read(lambda r: r.db.execute("SELECT uid, modseq FROM expunged").fetchall())
    assert rows == [(1, 5)]
    fresh = await store.read(lambda r: Index(folders.by_id(r.db, folder), messages.of_folder(r.db, folder)))
    assert list(fresh) == list(index) and fresh.highestmodseq == index.highestmodseq == 5
    assert (fresh.uidnext, index.uidnext) == (3, 3)


async def test_a_work_that_raises_is_undone_alone(store: Store) -> None:
    account = await store.create_account("u@x.jp")

    def half(tx: Transaction) -> None:
        folders.create(tx, account.id, "half", 1)
        raise Rejected("", "no")

    works = [store.write(lambda tx, n=n: folders.create(tx, account.id, f"f{n}", 1)) for n in range(20)]
    results = await asyncio.gather(store.write(half), *works, store.write(half), return_exceptions=True)
    assert [type(result) for result in (results[0], results[-1])] == [Rejected, Rejected]
    names = {folder.name for folder in await store.read(lambda r: folders.of_account(r.db, account.id))}
    assert {f"f{n}" for n in range(20)} <= names and "half" not in names


async def test_a_defect_in_a_work_hurts_its_batch_only(store: Store) -> None:
    account = await store.create_account("u@x.jp")
    with pytest.raises(Failed):
        await store._writer.run(lambda tx: 1 / 0, rejects=False)
    assert await put(store, account, b"goes on") is Taken.STORED


async def test_what_is_queued_together_is_committed_together(store: Store) -> None:
    account = await store.create_account("u@x.jp")
    before = store._writer.batches
    await asyncio.gather(*(put(store, account, b"%d" % n) for n in range(200)))
    assert len(await inbox(store, account)) == 200
    assert store._writer.batches - before < 100


async def test_uidvalidity_is_never_given_twice(store: Store) -> None:
    account = await store.create_account("u@x.jp")
    seen = set()
    for _ in range(5):
        made = await store.write(lambda tx: folders.create(tx, account.id, "again", 1))
        assert made.uidvalidity not in seen
        seen.add(made.uidvalidity)
        await store.write(lambda tx: folders.delete(tx, account.id, "again", 1))


@pytest.mark.parametrize(
    ("name", "code"),
    [("", "LIMIT"), ("a//b", "CANNOT"), ("/a", "CANNOT"), ("a*", "CANNOT"), ("a\x01", "CANNOT"), ("x" * 256, "LIMIT"),
     ("/".join("x" * 33), "LIMIT"), ("inbox", "CANNOT"), ("INBOX", "ALREADYEXISTS")],
)  # fmt: skip
async def test_names_that_are_refused(store: Store, name: str, code: str) -> None:
    account = await store.create_account("u@x.jp")
    with pytest.raises(Rejected) as refused:
        await store.write(lambda tx: folders.create(tx, account.id, name, 1))
    assert refused.value.code == code


async def test_rename_takes_children_along_and_keeps_uids(store: Store) -> None:
    account = await store.create_account("u@x.jp")
    for name in ("a", "a/b", "a/b/c", "ab"):
        await store.write(lambda tx, name=name: folders.create(tx, account.id, name, 1))
    before = await store.read(lambda r: folders.get(r.db, account.id, "a/b"))
    await store.write(lambda tx: folders.rename(tx, account.id, "a", "z/y", 1))
    after = await store.read(lambda r: folders.get(r.db, account.id, "z/y/b"))
    assert (after.id, after.uidvalidity, after.mailbox_id) == (before.id, before.uidvalidity, before.mailbox_id)
    names = {folder.name for folder in await store.read(lambda r: folders.of_account(r.db, account.id))}
    assert {"z/y", "z/y/b", "z/y/b/c", "ab"} <= names and not any(name.startswith("a/") for name in names)
    with pytest.raises(Rejected):
        await store.write(lambda tx: folders.rename(tx, account.id, "z", "z/q", 1))


async def test_renaming_inbox_moves_its_messages_out(store: Store) -> None:
    account = await store.create_account("u@x.jp")
    await put(store, account, b"1")
    index = await inbox(store, account)
    watching = Watching()
    index.watchers.add(watching)
    await store.write(lambda tx: folders.rename(tx, account.id, "INBOX", "old", 1))
    assert len(index) == 0 and [type(change) for change in watching.changes] == [Expunged]
    old = await store.read(lambda r: folders.get(r.db, account.id, "old"))
    assert len(await store.indexes.open(old.id)) == 1


async def test_a_deleted_folder_empties_the_index_of_those_who_watch(store: Store) -> None:
    account = await store.create_account("u@x.jp")
    folder = await store.write(lambda tx: folders.create(tx, account.id, "f", 1))
    index = await store.indexes.open(folder.id)
    watching = Watching()
    index.watchers.add(watching)
    await store.write(lambda tx: folders.delete(tx, account.id, "f", 1))
    assert watching.changes == [Removed(folder.id)] and index.removed
    with pytest.raises(Rejected):
        await store.indexes.open(folder.id)


async def test_an_index_loaded_while_mail_comes_in_misses_nothing_and_doubles_nothing(store: Store) -> None:
    account = await store.create_account("u@x.jp")
    folder = await store.read(lambda r: folders.get(r.db, account.id, "INBOX"))
    arriving = [asyncio.create_task(put(store, account, b"%d" % n)) for n in range(300)]
    indexes = []
    for _ in range(10):
        await asyncio.sleep(0.005)
        store.indexes._indexes.clear()  # so that each is loaded anew
        indexes.append(await store.indexes.open(folder.id))
    await asyncio.gather(*arriving)
    assert list(indexes[-1].uids) == list(range(1, 301))


@pytest.mark.parametrize("size", [0, 1, LARGE, LARGE + 1, 3 * LARGE + 17])
async def test_bodies_come_back_as_they_went_in(store: Store, size: int) -> None:
    account = await store.create_account("u@x.jp")
    data = bytes(range(256)) * (size // 256 + 1)
    staging = store.stage()
    for at in range(0, size, 70_001):
        await staging.write(data[at:min(size, at + 70_001)])
    assert (await store.deliver(await staging.finish(), None, [account])) == [Taken.STORED]
    (stored,) = await inbox(store, account)
    assert stored.size == size and await body_of(store, stored.body) == data[:size]


async def test_a_large_body_leaves_with_its_last_message(store: Store, tmp_path: Path) -> None:
    account = await store.create_account("u@x.jp")
    await put(store, account, b"x" * (LARGE + 1))
    index = await inbox(store, account)
    target = await store.read(lambda r: folders.get(r.db, account.id, "Trash"))
    assert len(list((tmp_path / bodies.FOLDER).iterdir())) == 1
    given = await store.write(lambda tx: messages.move(tx, index.folder.id, target.id, [1]))
    assert given.target == (1,) and len(list((tmp_path / bodies.FOLDER).iterdir())) == 1
    await store.write(lambda tx: messages.expunge(tx, target.id, [1], only=lambda _: True))
    assert list((tmp_path / bodies.FOLDER).iterdir()) == []


async def test_an_aborted_large_body_leaves_nothing(store: Store, tmp_path: Path) -> None:
    staging = store.stage()
    await staging.write(b"x" * (LARGE + 1))
    assert len(list((tmp_path / bodies.FOLDER).iterdir())) == 1
    await staging.abort()
    assert list((tmp_path / bodies.FOLDER).iterdir()) == []


async def test_compaction_keeps_what_lives_and_frees_the_rest(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "SEGMENT_SIZE", 64 * 1024)
    account = await store.create_account("u@x.jp")
    for n in range(40):
        await put(store, account, b"%03d" % n + b"x" * 5000)
    index = await inbox(store, account)
    await store.write(
        lambda tx: messages.expunge(tx, index.folder.id, list(range(1, 41)), only=lambda m: m.uid % 4 != 0)
    )
    before = set(store._segments.sizes())
    await store.compact()
    after = store._segments.sizes()
    assert len(before) == 4 and not (before - {max(before)}) & set(after)  # all but the one still open have gone
    for message in index:
        assert await body_of(store, message.body) == b"%03d" % (message.uid - 1) + b"x" * 5000


async def test_compaction_leaves_a_damaged_segment_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "SEGMENT_SIZE", 8 * 1024)
    notes = Notes()
    store = await Store.open(tmp_path, Clock(), notes)
    account = await store.create_account("u@x.jp")
    for n in range(3):
        await put(store, account, b"%d" % n + b"x" * 3500)
    index = await inbox(store, account)
    await store.write(lambda tx: messages.expunge(tx, index.folder.id, [1], only=lambda _: True))
    first = min((tmp_path / bodies.FOLDER).iterdir())
    data = bytearray(first.read_bytes())
    data[-100] ^= 1
    first.write_bytes(data)
    monkeypatch.setattr("onedomain.node.store.compact.WORTH_IT", 0.1)
    await store.compact()
    assert first.exists() and "segment damaged" in [event for event, _ in notes.events]
    await store.close()
    assert [finding.rule for finding in verify(tmp_path).findings] == ["body"]


async def test_orphans_are_removed_at_the_start(tmp_path: Path) -> None:
    segments = Segments(tmp_path / bodies.FOLDER)
    segments.open([])
    segments.append(b"x", bytes(32))
    segments.close()
    store = await Store.open(tmp_path, Clock(), Notes())
    assert list((tmp_path / bodies.FOLDER).iterdir()) == []
    await store.close()


async def test_only_one_node_runs_on_a_directory(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InUse):
        await Store.open(tmp_path, Clock(), Notes())


async def test_after_a_failed_sync_nothing_is_taken_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = Notes()
    store = await Store.open(tmp_path, Clock(), notes)
    account = await store.create_account("u@x.jp")
    await put(store, account, b"kept")

    def fail(_: Segments) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Segments, "sync", fail)
    with pytest.raises(Failed):
        await put(store, account, b"lost")
    monkeypatch.undo()
    with pytest.raises(Failed) as refused:
        await put(store, account, b"refused")
    assert refused.value.failure.code == 451
    assert [event for event, _ in notes.events] == ["storage failed"]
    assert len(await inbox(store, account)) == 1
    await store.close()


async def test_a_full_disk_passes(store: Store) -> None:
    account = await store.create_account("u@x.jp")
    (pages,) = store._writer.db.execute("PRAGMA page_count").fetchone()
    store._writer.db.execute(f"PRAGMA max_page_count = {pages + 4}")
    with pytest.raises(Failed) as refused:
        for n in range(200):
            await put(store, account, b"X-OneDomain-Delivery: " + b"%0150d" % n + b"\r\n\r\n")
    assert refused.value.failure.code == 452
    held = len(await inbox(store, account))
    store._writer.db.execute("PRAGMA max_page_count = 1000000")
    assert await put(store, account, b"goes on") is Taken.STORED
    assert len(await inbox(store, account)) == held + 1


async def test_verify_sees_what_is_wrong(tmp_path: Path) -> None:
    store = await Store.open(tmp_path, Clock(), Notes())
    account = await store.create_account("u@x.jp")
    for n in range(3):
        await put(store, account, b"%d" % n)
    await store.close()
    assert verify(tmp_path).is_clean
    db = sqlite3.connect(tmp_path / "node.db")
    db.execute("UPDATE folder SET uidnext = 2, highestmodseq = 3 WHERE name = 'INBOX'")
    db.execute("DELETE FROM message WHERE uid = 3")
    db.execute("UPDATE body SET digest = x'00' WHERE id = 1")
    db.execute("DELETE FROM folder WHERE name = 'Junk'")
    db.commit()
    db.close()
    assert {finding.rule for finding in verify(tmp_path).findings} == {
        "uid not below uidnext", "body without a message", "body",
    }  # fmt: skip


async def test_a_database_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "node.db", isolation_level=None)
    db.executescript(f"BEGIN; {schema._FIRST} PRAGMA user_version = 1; COMMIT;")
    db.execute("INSERT INTO account (name, uidvalidity, created) VALUES ('u@x.jp', 7, 1)")
    db.execute("INSERT INTO folder (account, name, mailbox_id, uidvalidity) VALUES (1, 'INBOX', 'm', 7)")
    db.execute("INSERT INTO expunged VALUES (1, 1, 1)")
    db.execute("UPDATE folder SET uidnext = 2")
    db.close()
    store = await Store.open(tmp_path, Clock(), Notes())
    account = await store.account("u@x.jp")
    assert account is not None
    await put(store, account, b"x")
    assert list((await inbox(store, account)).uids) == [2]
    await store.close()
    assert verify(tmp_path).findings == ()
    assert schema.open_for_writing(tmp_path).execute("PRAGMA user_version").fetchone() == (schema.VERSION,)


def test_a_database_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    db = schema.open_for_writing(tmp_path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(schema.WrongVersion, match="99"):
        schema.open_for_writing(tmp_path)


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b"Subject: x\r\nX-OneDomain-Delivery: abc\r\n\r\n", "abc"),
        (b"x-onedomain-delivery:abc \r\n\r\n", "abc"),
        (b"X-OneDomain-Delivery: abc\n\nbody", "abc"),
        (b"Subject: x\r\n\r\nX-OneDomain-Delivery: abc\r\n", None),
        (b"X-OneDomain-Delivery: a b\r\n\r\n", None),
        (b"X-OneDomain-Delivery: " + b"a" * 201 + b"\r\n\r\n", None),
        (b"", None),
    ],
)
def test_the_delivery_id_is_found_in_the_header_only(head: bytes, found: str | None) -> None:
    assert delivery_id(head) == found
