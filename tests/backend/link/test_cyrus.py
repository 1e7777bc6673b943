"""Cyrus as an end of a link: what only it does. Real servers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from onedomain.backend.link.base import Letter
from onedomain.backend.link.cyrus import CyrusEnd, CyrusLinks
from onedomain.backend.link.filling import AT_ONCE
from onedomain.backend.link.folders import Folders
from onedomain.backend.link.syncapply import SyncConnection
from onedomain.decision.link.actions import Copied, Raise, Refused
from onedomain.decision.link.identity import identity_of
from onedomain.model.failure import Failed
from onedomain.model.replica import Listing, Numbering
from tests.backend.contract import account
from tests.backend.link.contract import DATE, NAME, NONE, SEEN, Case, look, text
from tests.backend.link.test_given import NAMES, cyrus_server

pytestmark = pytest.mark.real


@pytest.fixture
async def case(start_cyrus: Callable[..., Any]) -> AsyncIterator[Case]:
    lab = start_cyrus(users=NAMES, munge8bit=True)
    case = Case(lab, cyrus_server(lab), Numbering.GIVEN)
    yield case
    await case.close()


@pytest.fixture
async def end(case: Case) -> AsyncIterator[CyrusEnd]:
    async with case.end() as end:
        assert isinstance(end, CyrusEnd)
        yield end


def letter(uid: int, raw: bytes, flags: frozenset[str] = NONE, modseq: int = 0) -> Letter:
    return Letter(uid, flags, DATE, raw, modseq)


async def test_bytes_that_append_would_refuse_or_change(case: Case, end: CyrusEnd) -> None:
    odd = [b"no header\r\n\r\n", b"Subject: bare\nline feeds\n\n.\n", b"Subject: \xe8\xab\x8b\r\n\r\n", b"x", b"\r\n",
           b"From x y z\r\nSubject: mbox\r\n\r\n"]
    twins = [text(1)] * 25
    outcomes = await end.append("INBOX", [letter(uid, raw) for uid, raw in enumerate([*odd, *twins], 11)])
    assert [each.uid for each in outcomes if isinstance(each, Copied)] == [*range(11, 11 + len(odd) + 25)]
    assert [raw for _, raw in look(case).values()] == [*odd, *twins]


async def test_what_would_end_the_server_or_harm_clients_is_refused(case: Case, end: CyrusEnd) -> None:
    outcomes = await end.append("INBOX", [letter(1, b""), letter(2, text(2)), letter(3, b"a\0b"), letter(4, text(4))])
    assert [type(each) for each in outcomes] == [Refused, Copied, Refused, Copied]
    assert [each.identity for each in outcomes] == [identity_of(raw) for raw in (b"", text(2), b"a\0b", text(4))]
    assert list(look(case)) == [2, 4]
    assert all(isinstance(each, Refused) for each in await end.append("INBOX", [letter(9, b"")]))


async def test_many_letters_and_what_is_staged(
    case: Case, end: CyrusEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onedomain.backend.link.syncapply.STAGED", 60)
    for start in range(0, 2 * AT_ONCE, AT_ONCE + 20):
        await end.append("INBOX", [letter(start + i, text(start + i)) for i in range(1, AT_ONCE + 21)])
    assert list(look(case)) == [*range(1, 2 * AT_ONCE + 41)]


async def test_many_letters_lie_in_their_order_whoever_uploads_them(case: Case, end: CyrusEnd) -> None:
    uids = [number + 1000 * (number // 100) for number in range(1, 6 * AT_ONCE)]
    outcomes = await end.append("INBOX", [letter(uid, text(uid)) for uid in uids])
    assert [each.uid for each in outcomes if isinstance(each, Copied)] == uids
    assert {uid: raw for uid, (_, raw) in look(case).items()} == {uid: text(uid) for uid in uids}
    assert end._links.administrators.idle > 1


async def test_when_one_of_those_who_upload_fails_a_beginning_is_there(
    case: Case, end: CyrusEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, uploads = SyncConnection.upload, 0

    async def breaking(sync: SyncConnection, partition: str, messages: Sequence[bytes]) -> list[str]:
        nonlocal uploads
        uploads += 1
        if uploads == 4:
            sync.close()
        return await plain(sync, partition, messages)

    monkeypatch.setattr(SyncConnection, "upload", breaking)
    with pytest.raises(Failed):
        await end.append("INBOX", [letter(uid, text(uid)) for uid in range(1, 6 * AT_ONCE)])
    found = list(look(case))
    assert found == list(range(1, len(found) + 1)) and len(found) in range(0, 4 * AT_ONCE, AT_ONCE)


async def test_modseqs_are_not_below_those_of_the_source(end: CyrusEnd) -> None:
    await end.append("INBOX", [letter(5, text(5), modseq=5000), letter(6, text(6), modseq=40)])
    mark = (await end.read("INBOX")).before
    assert mark.modseq == 5000
    assert [row.uid for row in (await end.read("INBOX", 4999)).rows] == [5]
    await end.set_flags("INBOX", (6,), SEEN, 7000)
    await end.expunge("INBOX", (5,), 9000)
    rows = await end.read("INBOX", 6999)
    assert [row.uid for row in rows.rows] == [6] and tuple(rows.vanished) == (5,) and rows.before.modseq > 9000
    assert (await end.read("INBOX", 7500)).rows == ()
    await end.append("INBOX", [letter(8, text(8), modseq=100)])  # what is new has to be new for who knows the replica
    assert [row.uid for row in (await end.read("INBOX", rows.before.modseq)).rows] == [8]


async def test_a_uid_that_is_used_up_is_not_given_again(end: CyrusEnd) -> None:
    await end.append("INBOX", [letter(5, text(5))])
    for uid in (4, 5):
        with pytest.raises(Exception, match="not as it was"):
            await end.append("INBOX", [letter(uid, text(6))])


async def test_whichever_uid_comes_while_mail_comes_in(case: Case, end: CyrusEnd) -> None:
    await end.list_folders()
    post = case.lab.lmtp()
    for number in range(3):
        post.sendmail("a@outside.example", [NAME], text(number))
        (done,) = await end.append("INBOX", [letter(0, text(100 + number))])
        assert isinstance(done, Copied) and done.uid == 2 * number + 2
    post.quit()
    assert len(look(case)) == 6


async def test_a_mailbox_that_changes_under_it_is_looked_at_again(case: Case, end: CyrusEnd) -> None:
    await end.append("INBOX", [letter(1, text(1))])
    async with case.links().administrators.lend() as sync:  # type: ignore[attr-defined]
        there = await sync.mailbox(await end._id("INBOX"))
        await end.set_flags("INBOX", (1,), SEEN)
        with pytest.raises(Exception, match="refuses"):
            await sync.apply(there.but(HIGHESTMODSEQ=there.modseq + 10), since=there.modseq)


async def test_folders_are_listed_once_however_many_are_made_and_renamed(
    end: CyrusEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, listings = Folders.listing, 0

    async def counted(folders: Folders) -> Listing:
        nonlocal listings
        listings += 1
        return await plain(folders)

    monkeypatch.setattr(Folders, "listing", counted)
    ids = [f"5f1c0123456789abcd{number}" for number in range(10, 15)]
    for number, identity in enumerate(ids):
        mark = await end.create_folder(f"a{number}", 70 + number, identity=identity)
        assert (mark.uidvalidity, mark.uidnext) == (70 + number, 1)
        await end.append(f"a{number}", [letter(3, text(3))])
    await end.create_folder("a0/below", 99, "\\Archive", ids[0])  # which another has
    for number in range(len(ids)):
        await end.rename_folder(f"a{number}", f"b{number}")
    await end.append("b0/below", [letter(7, text(7))])
    await end.rename_folder("b0/below", "c")
    await end.delete_folder("b4")
    assert listings == 1
    there = {each.name: each for each in (await end.list_folders()).folders}
    assert sorted(there) == ["INBOX", "b0", "b1", "b2", "b3", "c"]
    assert [there[f"b{number}"].identity for number in range(4)] == ids[:4] and there["c"].special_use == "\\Archive"
    assert (there["b0"].mark.uidnext, there["c"].mark.uidnext) == (4, 8)


async def test_too_many_keywords(end: CyrusEnd) -> None:
    many = frozenset(f"k{number:03}" for number in range(140))
    outcomes = await end.append("INBOX", [letter(1, text(1), many | SEEN), letter(2, text(2), SEEN)])
    assert all(isinstance(each, Copied) for each in outcomes)
    assert {"\\Seen"} <= (await end.read("INBOX")).rows[0].flags
    assert await end.set_flags("INBOX", (2,), many | {"\\Flagged"})


async def test_inbox_takes_on_what_it_is_elsewhere(case: Case, end: CyrusEnd) -> None:
    await end.create_folder("Kept", 0)
    await end.create_folder("Other", 0)
    await end.subscribe("Kept", True)
    mark = await end.create_folder("INBOX", 1234, identity="5f1c0123456789abcdef")
    assert (mark.uidvalidity, mark.uidnext) == (1234, 1)
    inbox = (await end.list_folders()).find("INBOX")
    assert inbox and inbox.identity == "5f1c0123456789abcdef"
    assert [folder.name for folder in (await end.list_folders()).folders if folder.subscribed] == ["Kept"]
    post = case.lab.lmtp()
    post.sendmail("a@outside.example", [NAME], text(1))
    post.quit()
    assert (await end.create_folder("INBOX", 99)).uidvalidity == 1234


async def test_special_use_survives_everything(end: CyrusEnd) -> None:
    await end.create_folder("Sent", 77, "\\Sent")
    await end.append("Sent", [letter(1, text(1))])
    await end.raise_uidnext([Raise("Sent", 50)])
    assert (await end.list_folders()).find("Sent").special_use == "\\Sent"  # type: ignore[union-attr]
    await end.rename_folder("Sent", "Away")
    listing = await end.list_folders()
    away = listing.find("Away")
    assert away and (away.special_use, away.mark.uidvalidity, away.mark.uidnext) == ("\\Sent", 77, 50)
    await end.delete_folder("Away")
    assert (await end.list_folders()).find("Away") is None


async def test_who_is_no_administrator(case: Case) -> None:
    links = case.links(replication_user=case.lab.proxy, replication_password=case.lab.proxy_password)
    end = await links.end(account(NAME))
    assert end.powers.numbering is links.powers.numbering is Numbering.BURNED
    await end.close()


async def test_an_account_is_made(case: Case) -> None:
    case.lab.set_password("new.one@example.com", "secret")
    links = case.links()
    assert isinstance(links, CyrusLinks)
    for _ in range(2):
        await links.provide(account("new.one@example.com"))
    end = await links.end(account("new.one@example.com"))
    assert [folder.name for folder in (await end.list_folders()).folders] == ["INBOX"]
    await end.close()
