"""What every kind of server has to do for links; test_real.py runs it against each.

Imports the public face only (backend/link/base.py). A kind comes as a `Case`: a running server of the lab and how it is
configured. What is there is looked at by imaplib, which knows nothing of ours.
"""

from __future__ import annotations

import imaplib
import os
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from onedomain.app.real import RealClock
from onedomain.backend.link.base import Letter, LinkEnd, LinkServer
from onedomain.backend.link.registry import make_link_server
from onedomain.backend.mailserver import Tools
from onedomain.decision.link.actions import Copied, Raise, Refused
from onedomain.decision.link.identity import filler, identity_of
from onedomain.model.failure import Failed, Kind
from onedomain.model.message import DELIVERY_ID_HEADER
from onedomain.model.replica import Listing, Numbering
from onedomain.model.server import Server
from onedomain.net.tls import ClientContexts
from onedomain.queue.ids import Ids
from tests.backend.contract import Chance, Eyes, account

NAME = "hanako@example.com"
DATE = 1_763_000_000
NONE: frozenset[str] = frozenset()
SEEN = frozenset({"\\Seen"})
COMMON = b"Date: Sat, 21 Nov 2026 22:00:00 +0900\r\nMessage-ID: <common@outside.example>\r\n"
SHIFT_JIS = "Subject: 請求書①\r\n\r\n".encode("cp932") + "㈱髙島様\r\n".encode("cp932")


@dataclass
class Case:
    """`sets_uidvalidity`: new folders get the one that is wanted. `munges`: 8-bit header octets become X.

    `takes_nul`: messages with NULs are taken. `quotes`: names may have them. `separator` and `prefix` are of its names.
    """

    lab: Any
    server: Server
    numbering: Numbering
    sets_uidvalidity: bool = True
    changes: bool = True
    names_uids: bool = True
    identity: bool = True
    munges: bool = False
    takes_nul: bool = True
    quotes: bool = True
    separator: str = "/"
    prefix: str = ""
    eyes: Eyes = field(default_factory=Eyes)
    made: list[LinkServer] = field(default_factory=list)

    def links(self, **changes: Any) -> LinkServer:
        server = replace(self.server, **changes)
        self.made.append(make_link_server(server, Tools(ClientContexts(), self.eyes, Chance(), "edge.example")))
        return self.made[-1]

    def path(self, *parts: str) -> str:
        return self.prefix + self.separator.join(parts)

    @asynccontextmanager
    async def end(self, name: str = NAME) -> AsyncIterator[LinkEnd]:
        """An end of one account; everything is closed afterwards."""
        links = self.made[0] if self.made else self.links()
        await links.provide(account(name))
        end = await links.end(account(name))
        try:
            yield end
        finally:
            await end.close()

    async def close(self) -> None:
        for links in self.made:
            await links.close()
        self.made.clear()


def look(case: Case, folder: str = "INBOX", name: str = NAME) -> dict[int, tuple[frozenset[str], bytes]]:
    """UID -> flags and bytes, by imaplib."""
    session: imaplib.IMAP4 = case.lab.imap(name)
    try:
        answer, _ = session.select(f'"{folder}"', readonly=True)
        assert answer == "OK", folder
        _, found = session.uid("FETCH", "1:*", "(FLAGS BODY.PEEK[])")
        shown = {}
        for each in found:
            if isinstance(each, tuple):
                uid = re.search(rb"UID (\d+)", each[0])
                flags = re.search(rb"FLAGS \(([^)]*)\)", each[0])
                assert uid and flags, each[0]
                shown[int(uid[1])] = (frozenset(flags[1].decode().split()) - {"\\Recent"}, each[1])
        return shown
    finally:
        session.logout()


def text(number: int, size: int = 0, delivery: str = "") -> bytes:
    header = f"Date: Sat, 21 Nov 2026 22:00:00 +0900\r\nMessage-ID: <{number}@outside.example>\r\n".encode()
    if delivery:
        header += f"{DELIVERY_ID_HEADER}: {delivery}\r\n".encode()
    line = b"%06d 0123456789012345678901234567890123456789\r\n" % number
    return header + f"Subject: number {number}\r\n\r\n".encode() + line * (1 + size // 50)


def letters(case: Case, bodies: Sequence[bytes], first: int, **values: Any) -> list[Letter]:
    given = case.numbering is Numbering.GIVEN
    return [
        Letter(first + i if given else 0, values.get("flags", NONE), values.get("date", DATE), raw)
        for i, raw in enumerate(bodies)
    ]


async def fill(case: Case, end: LinkEnd, folder: str, bodies: Sequence[bytes], **values: Any) -> list[int]:
    """Appended, whatever the kind; their UIDs."""
    folder_now = (await end.list_folders()).find(folder)
    assert folder_now is not None
    first = folder_now.mark.uidnext
    outcomes = await end.append(folder, letters(case, bodies, first, **values))
    assert all(isinstance(each, Copied) for each in outcomes), outcomes
    return list(range(first, first + len(bodies)))


def names(listing: Listing) -> set[str]:
    return {folder.name for folder in listing.folders}


def only(request: pytest.FixtureRequest, names: set[str]) -> None:
    """What another class runs in full is run for another form of names or log-in where it makes a difference."""
    if request.function.__name__ not in names and not os.environ.get("ONEDOMAIN_LONG"):
        pytest.skip("long form: ONEDOMAIN_LONG=1")


class Contract:
    @pytest.fixture
    async def target(self, case: Case) -> AsyncIterator[Case]:
        yield case
        await case.close()

    async def test_what_it_can_do(self, target: Case) -> None:
        async with target.end() as end:
            powers = end.powers
        assert (powers.numbering, powers.changes, powers.names_uids) == (
            target.numbering, target.changes, target.names_uids
        )
        assert target.made[0].powers.numbering is target.numbering

    # ---- folders

    async def test_folders_come_and_go(self, target: Case) -> None:
        async with target.end() as end:
            before = await end.list_folders()
            assert (before.separator, before.prefix) == (target.separator, target.prefix)
            inbox = before.find("INBOX")
            assert inbox and inbox.mark.uidvalidity and inbox.mark.uidnext >= 1
            assert (inbox.mark.modseq > 0) == target.changes and bool(inbox.identity) == target.identity
            name, other = target.path("Lists"), target.path("Old lists")
            mark = await end.create_folder(name, 1_700_000_000)
            assert (mark.uidvalidity == 1_700_000_000) == target.sets_uidvalidity
            assert (await end.create_folder(name, 1_700_000_000)) == mark  # again is fine
            listed = (await end.list_folders()).find(name)
            assert listed and listed.mark == mark and bool(listed.identity) == target.identity
            await fill(target, end, name, [text(1)])
            await end.rename_folder(name, other)
            renamed = await end.list_folders()
            moved = renamed.find(other)
            assert renamed.find(name) is None and moved and moved.identity == listed.identity
            assert moved.mark.uidvalidity == mark.uidvalidity and moved.mark.messages == 1
            await end.delete_folder(other)
            await end.delete_folder(other)  # again is fine
            assert names(await end.list_folders()) == names(before)

    async def test_a_special_use_comes_and_goes(self, target: Case) -> None:
        name = target.path("Spam")
        async with target.end() as end:
            await end.create_folder(name, 0)
            for use in ("\\Junk", "\\Junk", "", ""):
                await end.set_use(name, use)
                folder = (await end.list_folders()).find(name)
                assert folder and folder.special_use in ((use,) if target.numbering is Numbering.GIVEN else (use, ""))

    async def test_a_folder_with_messages_keeps_its_uidvalidity(self, target: Case) -> None:
        async with target.end() as end:
            name = target.path("Full")
            mark = await end.create_folder(name, 0)
            await fill(target, end, name, [text(1)])
            again = await end.create_folder(name, mark.uidvalidity + 1000)
            assert again.uidvalidity == mark.uidvalidity and again.messages == 1

    async def test_names_that_are_hard_to_spell(self, target: Case) -> None:
        quoted = 'quote"d' if target.quotes and target.separator == "/" else "quoted"
        hard = ["&ZeVnLIqe-", "a&-b", "two words", quoted, "under_score"]
        async with target.end() as end:
            for name in hard:
                path = target.path(name)
                await end.create_folder(path, 1_700_000_001)
                await fill(target, end, path, [text(1)])
            listing = await end.list_folders()
            assert {target.path(name) for name in hard} <= names(listing)
            for name in hard:
                assert len((await end.read(target.path(name))).rows) == 1
                await end.delete_folder(target.path(name))

    async def test_folders_below_folders_and_their_subscriptions(self, target: Case) -> None:
        async with target.end() as end:
            top, below, to = target.path("Top"), target.path("Top", "Below"), target.path("Up")
            await end.create_folder(top, 0)
            await end.create_folder(below, 0)
            await end.subscribe(top, False)
            await end.subscribe(below, True)
            listing = await end.list_folders()
            subscribed = {folder.name: folder.subscribed for folder in listing.folders}
            assert not subscribed[top] and subscribed[below]
            await end.rename_folder(top, to)
            listing = await end.list_folders()
            subscribed = {folder.name: folder.subscribed for folder in listing.folders}
            assert top not in subscribed and below not in subscribed
            assert not subscribed[to] and subscribed[target.path("Up", "Below")]
            await end.delete_folder(target.path("Up", "Below"))
            await end.delete_folder(to)
        session = target.lab.imap(NAME)
        lines = b"".join(each or b"" for each in session.lsub()[1])
        assert b"Below" not in lines  # nothing is subscribed that is not there
        session.logout()

    async def test_a_look_is_a_read_and_a_listing(self, target: Case) -> None:
        if not target.changes:
            pytest.skip("no changes are told, so everything is read")
        async with target.end() as end:
            old = await fill(target, end, "INBOX", [text(n) for n in range(3)])
            before = (await end.read("INBOX")).before
            uids = await fill(target, end, "INBOX", [text(8, delivery="d8"), text(9, size=200_000)])
            await end.set_flags("INBOX", old[:1], SEEN)
            await end.expunge("INBOX", old[1:2])
            rows, listing = await end.look("INBOX", before.modseq, uids[0])
            assert rows == await end.read("INBOX", before.modseq) and listing == await end.list_folders()
            assert rows and [row.uid for row in rows.rows] == [old[0], *uids] and tuple(rows.vanished) == (old[1],)
            inbox = listing.find("INBOX")
            assert inbox and inbox.mark == rows.before, "it is one moment"
            again = await end.look("INBOX", before.modseq, uids[0])
            assert again == (rows, listing)
            for some in (uids[:1], uids, [*old[:1], *uids]):  # some came along, some are too large, some too old
                async with aclosing(end.letters("INBOX", some, inbox.mark.uidvalidity)) as letters:  # type: ignore[type-var]
                    found = {letter.uid: letter.raw async for letter in letters}
                raws = look(target)
                assert found == {uid: raws[uid][1] for uid in some}
            with pytest.raises(Failed):
                async with aclosing(end.letters("INBOX", uids[:1], inbox.mark.uidvalidity + 1)) as letters:  # type: ignore[type-var]
                    assert not [letter async for letter in letters]
            missing = await end.look(target.path("Missing"), 1, 1)
            assert missing[0] is None and missing[1] == listing
            nothing, _ = await end.look("INBOX", inbox.mark.modseq, inbox.mark.uidnext)
            assert nothing and not nothing.rows and not nothing.vanished

    async def test_a_folder_that_is_not_there(self, target: Case) -> None:
        async with target.end() as end:
            missing = target.path("Missing")
            with pytest.raises(Failed):
                await end.read(missing)
            with pytest.raises(Failed):
                await end.read_identities(missing, [1])
            with pytest.raises(Failed):
                await end.append(missing, letters(target, [text(1)], 1))
            await fill(target, end, "INBOX", [text(1)])  # and nothing is lost of what comes next

    # ---- reading

    async def test_lists_and_changes(self, target: Case) -> None:
        async with target.end() as end:
            uids = await fill(target, end, "INBOX", [text(n) for n in range(6)], flags=frozenset({"\\Seen", "Work"}))
            await end.set_flags("INBOX", uids[1:2], frozenset({"\\Flagged", "\\Answered", "$Label1"}))
            whole = await end.read("INBOX")
            inbox = (await end.list_folders()).find("INBOX")
            assert inbox and whole.before == inbox.mark and whole.before.messages == 6
            assert [row.uid for row in whole.rows] == uids and not whole.vanished
            assert {row.date for row in whole.rows} == {DATE}
            assert [row.flags for row in whole.rows[:2]] == [{"\\Seen", "Work"}, {"\\Flagged", "\\Answered", "$Label1"}]
            assert whole.after >= whole.before.modseq
            assert [row.uid for row in (await end.read("INBOX", first=uids[4])).rows] == uids[4:]
            assert not (await end.read("INBOX", first=uids[5] + 1)).rows
            if not target.changes:
                return
            none = await end.read("INBOX", since=whole.before.modseq)
            assert not none.rows and not none.vanished
            await end.set_flags("INBOX", uids[2:3], frozenset({"\\Draft"}))
            await end.expunge("INBOX", [uids[0], uids[5]])  # also the last there is
            more = await fill(target, end, "INBOX", [text(7)])
            changed = await end.read("INBOX", since=whole.before.modseq)
            assert changed.before.modseq > whole.before.modseq
            assert [(row.uid, row.flags) for row in changed.rows] == [(uids[2], {"\\Draft"}), (more[0], NONE)]
            assert tuple(changed.vanished) == (uids[0], uids[5])
            last = await end.read("INBOX", since=changed.before.modseq)
            await end.expunge("INBOX", more)
            gone = await end.read("INBOX", since=last.before.modseq)
            assert tuple(gone.vanished) == tuple(more) and not gone.rows

    async def test_reading_changes_nothing(self, target: Case) -> None:
        async with target.end() as end:
            uids = await fill(target, end, "INBOX", [text(1)])
            before = (await end.read("INBOX")).before
            assert [each async for each in end.letters("INBOX", uids)]
            await end.read_identities("INBOX", uids)
            assert (await end.read("INBOX")).before == before
            assert look(target)[uids[0]][0] == NONE

    async def test_letters_are_the_bytes(self, target: Case) -> None:
        bodies = [
            text(1), text(2)[:-20] + b"no end of line", COMMON + SHIFT_JIS, COMMON + b"Subject: x\r\n\r\n.\r\n..\r\n",
            COMMON + b"\r\n" + b"x" * 5000 + b"\r\n", text(3, 3_000_000),
        ]
        async with target.end() as end:
            uids = await fill(target, end, "INBOX", bodies, flags=SEEN, date=DATE + 5)
            asked = [uids[5], *uids[:5], uids[5] + 1000]
            got = [each async for each in end.letters("INBOX", asked)]
            assert [each.uid for each in got] == uids
            assert {(each.flags, each.date) for each in got} == {(SEEN, DATE + 5)}
            for each, raw in zip(got, bodies, strict=True):
                assert each.raw == raw or (target.munges and identity_of(each.raw) == identity_of(raw))
            validity = (await end.read("INBOX")).before.uidvalidity
            found = await end.read_identities("INBOX", asked, validity)
            assert found == {uid: identity_of(raw) for uid, raw in zip(uids, bodies, strict=True)}
            with pytest.raises(Failed):
                await end.read_identities("INBOX", uids, validity + 1)
            with pytest.raises(Failed):
                _ = [each async for each in end.letters("INBOX", uids, validity + 1)]
            assert not await end.read_identities("INBOX", [])

    async def test_what_is_left_in_the_middle(self, target: Case) -> None:
        async with target.end() as end:
            uids = await fill(target, end, "INBOX", [text(n, 50_000) for n in range(20)])
            async with aclosing(end.letters("INBOX", uids)) as some:  # type: ignore[type-var]
                async for _ in some:
                    break
            assert len((await end.read("INBOX")).rows) == 20
        end = await target.made[0].end(account(NAME))
        async with aclosing(end.letters("INBOX", uids)) as some:  # type: ignore[type-var]
            async for _ in some:
                break
        await end.close(broken=True)
        async with target.end() as end:
            assert len([each async for each in end.letters("INBOX", uids)]) == 20

    # ---- writing

    async def test_appended_as_it_was(self, target: Case) -> None:
        async with target.end() as end:
            first = (await end.read("INBOX")).before.uidnext
            bodies = [text(n, delivery=f"0abc{n}") for n in range(120)]
            flags = frozenset({"\\Seen", "\\Flagged", "\\Answered", "\\Draft", "\\Deleted", "$Forwarded", "Work"})
            outcomes = await end.append("INBOX", letters(target, bodies, first, flags=flags))
            there = range(first, first + 120)
            wanted = there if target.names_uids else [0] * 120
            assert outcomes == tuple(Copied(u, identity_of(b)) for u, b in zip(wanted, bodies, strict=True))
            assert outcomes[5].identity.delivery == "0abc5"
            assert look(target) == {uid: (flags, raw) for uid, raw in zip(there, bodies, strict=True)}
            assert {row.date for row in (await end.read("INBOX")).rows} == {DATE}
            assert not await end.append("INBOX", [])

    async def test_no_message_is_taken_for_a_command(self, target: Case) -> None:
        """Words that a server does not understand must not make it read the bytes of a message as commands."""
        async with target.end() as end:
            victim = target.path("Victim")
            await end.create_folder(victim, 0)
            evil = b"x DELETE %s\r\nx DELETE %s\r\n" % (victim.encode(), victim.encode())
            first = (await end.read("INBOX")).before.uidnext
            for flag in ("a]b", "k" * 300, "\\Strange", "(", "{3}", "\u8acb"):
                first = (await end.read("INBOX")).before.uidnext
                await end.append("INBOX", letters(target, [evil, text(1)], first, flags=frozenset({flag, "\\Seen"})))
            assert victim in names(await end.list_folders())
            await end.delete_folder(victim)

    async def test_what_is_refused(self, target: Case) -> None:
        async with target.end() as end:
            first = (await end.read("INBOX")).before.uidnext
            nul = COMMON + b"Subject: nul\r\n\r\nnul \0 here, bare\nline feed\r\n"
            outcomes = await end.append("INBOX", letters(target, [text(1), nul, text(2)], first))
            if target.takes_nul:
                assert len(outcomes) == 3 and all(isinstance(each, Copied) for each in outcomes)
                found = await end.read_identities("INBOX", [first + 1])
                assert found[first + 1].digest == identity_of(nul).digest
                return
            assert isinstance(outcomes[0], Copied) and isinstance(outcomes[1], Refused) and outcomes[1].reason
            assert outcomes[1].identity == identity_of(nul)
            assert len(outcomes) == (3 if target.numbering is Numbering.GIVEN else 2)

    async def test_flags(self, target: Case) -> None:
        async with target.end() as end:
            uids = await fill(target, end, "INBOX", [text(n) for n in range(3)], flags=SEEN)
            flags = frozenset({"\\Flagged", "\\Deleted", "NonJunk", "$MDNSent"})
            assert not await end.set_flags("INBOX", uids[:2], flags)
            assert [flags for flags, _ in look(target).values()] == [flags, flags, SEEN]
            assert not await end.set_flags("INBOX", uids[:1], NONE)
            assert [flags for flags, _ in look(target).values()] == [NONE, flags, SEEN]
            lost = await end.set_flags("INBOX", uids[2:], frozenset({"\\Draft", "\u8acb\u6c42"}))
            assert lost <= {"\u8acb\u6c42"}
            assert "\\Draft" in look(target)[uids[2]][0]
            await end.set_flags("INBOX", [uids[2] + 100], SEEN)  # gone is fine
            if target.changes:  # what was there already is a change, too: it may have been otherwise on the source
                before = (await end.read("INBOX")).before.modseq
                now = look(target)[uids[1]][0]
                await end.set_flags("INBOX", uids[1:2], now)
                changed = await end.read("INBOX", since=before)
                assert [(row.uid, row.flags) for row in changed.rows] == [(uids[1], now)]

    async def test_expunged_are_these_and_no_others(self, target: Case) -> None:
        async with target.end() as end:
            uids = await fill(target, end, "INBOX", [text(n) for n in range(50)])
            await end.set_flags("INBOX", uids[10:11], frozenset({"\\Deleted"}))
            if target.names_uids:
                await end.expunge("INBOX", uids[20:])
                await end.expunge("INBOX", uids[20:22])  # again is fine
                assert list(look(target)) == uids[:20]
            await end.expunge_deleted("INBOX")
            left = uids[:20] if target.names_uids else uids
            assert list(look(target)) == [uid for uid in left if uid != uids[10]]

    async def test_a_gap(self, target: Case) -> None:
        async with target.end() as end:
            uids = await fill(target, end, "INBOX", [text(1)])
            goal = uids[0] + 20
            if target.numbering is Numbering.BURNED:
                burned = await end.burn("INBOX", uids[0] + 1, 19)
                made = tuple(range(uids[0] + 1, goal)) if target.names_uids else (0,) * 19
                assert tuple(each.uid for each in burned if isinstance(each, Copied)) == made
                raws = {uid: raw for uid, (_, raw) in look(target).items() if uid != uids[0]}
                assert raws == {uid: filler("INBOX", uid) for uid in range(uids[0] + 1, goal)}
                with pytest.raises(Failed) as raised:
                    await end.raise_uidnext([Raise("INBOX", goal)])
                assert raised.value.failure.kind is Kind.GIVE_UP
                return
            modseq = (await end.read("INBOX")).before.modseq
            name = target.path("Lists")
            await end.create_folder(name, 1_700_000_000)
            await end.raise_uidnext([Raise("INBOX", goal, modseq + 1000, modseq), Raise(name, 500)])
            listed = await end.list_folders()
            other, inbox = listed.find(name), listed.find("INBOX")
            assert other and other.mark.uidnext == 500
            assert inbox and inbox.mark.uidnext == goal and inbox.mark.modseq >= modseq
            await end.raise_uidnext([Raise("INBOX", goal - 5)])  # it never goes down
            assert await fill(target, end, "INBOX", [text(2)]) == [goal]
            now = await end.read("INBOX")
            assert [row.uid for row in now.rows] == [uids[0], goal] and now.before.modseq > modseq + 1000

    # ---- deliveries

    async def test_deliveries_are_found_in_whatever_folder(self, target: Case) -> None:
        ids = [os.urandom(8).hex() for _ in range(130)]
        async with target.end() as end:
            folder = target.path("Filed")
            await end.create_folder(folder, 0)
            await fill(target, end, "INBOX", [text(n, delivery=each) for n, each in enumerate(ids[:60])])
            await fill(target, end, folder, [text(n, delivery=each) for n, each in enumerate(ids[60:120])])
            assert await end.find(ids) == frozenset(ids[:120])
            assert await end.find([ids[0], ids[0][:-1], ids[125]]) == frozenset(ids[:1])  # not substrings
            assert not await end.find([])

    async def test_deliveries_of_today_among_older_mail(self, target: Case) -> None:
        ids = Ids(RealClock(), Chance())
        wanted, missing = ids.next(), ids.next()
        async with target.end() as end:
            await fill(target, end, "INBOX", [text(n) for n in range(3)], date=DATE)
            await fill(target, end, "INBOX", [text(9, delivery=wanted)], date=int(RealClock().time()))
            assert await end.find([wanted, missing]) == frozenset([wanted])

    # ---- trouble

    async def test_a_dead_server(self, target: Case) -> None:
        async with target.end() as end:
            await fill(target, end, "INBOX", [text(1)])
            target.lab.kill()
            with pytest.raises(Failed) as raised:
                await end.read("INBOX")
            assert raised.value.failure.kind is Kind.AGAIN
            await end.close(broken=True)
        with pytest.raises(Failed) as raised:
            await target.made[0].end(account(NAME))
        assert raised.value.failure.kind is Kind.AGAIN
        target.lab.start()
        async with target.end() as end:
            assert len((await end.read("INBOX")).rows) == 1

    async def test_the_wrong_key(self, target: Case) -> None:
        links = target.links(master_password="wrong", replication_password="wrong")
        with pytest.raises(Failed) as raised:
            await links.end(account(NAME))
        assert raised.value.failure.kind is Kind.AGAIN and "wrong" not in raised.value.failure.reason

    async def test_two_accounts_side_by_side(self, target: Case) -> None:
        other = "taro@example.com"
        async with target.end() as one, target.end(other) as two:
            await fill(target, one, "INBOX", [text(1)])
            await fill(target, two, "INBOX", [text(2), text(3)])
            assert len((await one.read("INBOX")).rows) == 1 and len((await two.read("INBOX")).rows) == 2
