"""What a link makes of what IMAP servers say, by transcripts: those that real servers here don't say at will."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

import pytest

from onedomain.backend.link import folders, reading
from onedomain.backend.link.base import Letter, LinkEnd
from onedomain.backend.link.imap_end import ImapEnd
from onedomain.backend.link.registry import make_link_server
from onedomain.backend.mailserver import Tools
from onedomain.decision.link.actions import Copied, Refused
from onedomain.model.failure import Failed, Kind
from onedomain.model.replica import Folder, Mark
from onedomain.model.server import LoginWay, Server
from onedomain.net.tls import ClientContexts
from tests.backend.contract import Chance, Eyes, account, local
from tests.backend.test_imap_session import QUICK, FakeImap

ALL = "IMAP4rev1 ENABLE CONDSTORE QRESYNC UIDPLUS UNSELECT LIST-EXTENDED LIST-STATUS SPECIAL-USE NAMESPACE MULTIAPPEND"
PLAIN = "IMAP4rev1"
INBOX = b'* LIST () "/" INBOX\r\n* STATUS INBOX (MESSAGES 2 UIDNEXT 9 UIDVALIDITY 7 HIGHESTMODSEQ 20)'
SELECTED = (
    b"* 2 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n* OK [UIDNEXT 9] x\r\n* OK [HIGHESTMODSEQ 20] x\r\n"
    b"* OK [PERMANENTFLAGS (\\Seen \\Deleted)] x"
)


@asynccontextmanager
async def asked(capabilities: str, kind: str = "imap", **replies: bytes) -> AsyncIterator[tuple[LinkEnd, FakeImap]]:
    """An end at a server that answers so; keys with "_" for blanks."""
    table = {
        "AUTHENTICATE": b"{tag} OK [CAPABILITY " + capabilities.encode() + b"] in",
        "ENABLE": b"* ENABLED QRESYNC",
        "NAMESPACE": b'* NAMESPACE (("" "/")) NIL NIL',
        "SELECT": SELECTED,
        "EXAMINE": SELECTED,
        **{key.replace("_", " "): value for key, value in replies.items()},
    }
    async with FakeImap(replies=table).running() as fake:
        there = local(fake.port)
        server = Server("mail1", kind, there, there, login_way=LoginWay.MASTER, master_user="m", master_password="p")
        links = make_link_server(server, Tools(ClientContexts(), Eyes(), Chance(), "e", imap_times=QUICK))
        end = await links.end(account())
        try:
            yield end, fake
        finally:
            await end.close()
            await links.close()


def letter(raw: bytes = b"Subject: x\r\n\r\n", *flags: str) -> Letter:
    return Letter(0, frozenset(flags), 0, raw)


# ---- folders


async def test_one_round_trip_for_all_folders() -> None:
    reply = INBOX + (
        b'\r\n* LIST (\\Subscribed \\Sent) "/" "Sent items"\r\n* LIST (\\NoSelect) "/" Top\r\n'
        b'* STATUS "Sent items" (MESSAGES 0 UIDNEXT 1 UIDVALIDITY 8 HIGHESTMODSEQ 1)\r\n'
        b'* LIST () "/" "shared/x"\r\n* LIST () "/" &ZeVnLIqe-\r\n'
        b"* STATUS &ZeVnLIqe- (UIDVALIDITY 9 UIDNEXT 4294967295 MESSAGES 1 HIGHESTMODSEQ 9223372036854775807)"
    )
    namespace = b'* NAMESPACE (("" "/")) (("other/" "/")) (("shared/" "/"))'
    async with asked(ALL, NAMESPACE=namespace, LIST=reply) as (end, fake):
        listing = await end.list_folders()
    assert listing.folders == (
        Folder("INBOX", Mark(7, 9, 20, 2), subscribed=False),
        Folder("Sent items", Mark(8, 1, 1, 0), special_use="\\Sent"),
        Folder("&ZeVnLIqe-", Mark(9, 4294967295, 9223372036854775807, 1), subscribed=False),
    )
    assert sum("LIST" in line for line in fake.lines) == 1


@pytest.mark.parametrize("early", [False, True])
async def test_what_is_new_comes_with_the_listing_in_one_round_trip(early: bool) -> None:
    """`early`: as Dovecot has it, which tells what was found for two FETCHes before the OK to the first."""
    new = b'(UID 8 FLAGS () INTERNALDATE "29-Nov-2026 02:52:18 +0000" MODSEQ (20)%b)'
    changes = b"* VANISHED (EARLIER) 3\r\n* 2 FETCH " + new % b""
    bodies = b"* 2 FETCH " + new % b" BODY[]<0> {3}\r\nx\r\n"
    asks = "UID FETCH 8:57 (UID FLAGS INTERNALDATE MODSEQ BODY.PEEK[]<0.65536>)"
    if early:
        changes, bodies = changes + b"\r\n" + bodies, b"* 2 EXISTS"
    async with asked(ALL, LIST=INBOX, UID_FETCH=changes, **{asks: bodies}) as (end, fake):
        await end.read("INBOX")  # which leaves a folder open
        done, reads = len(fake.lines), len(fake.reads)
        rows, listing = await end.look("INBOX", 19, 8)
        assert rows and [row.uid for row in rows.rows] == [8] and tuple(rows.vanished) == (3,) and rows.after == 20
        assert listing.folders == (Folder("INBOX", Mark(7, 9, 20, 2), subscribed=False),)
        (letter,) = [each async for each in end.letters("INBOX", [8], 7)]
        assert (letter.uid, letter.raw, letter.modseq) == (8, b"x\r\n", 20)
        assert [line.split(" ")[1] for line in fake.lines[done:]] == ["EXAMINE", "UID", "UID", "UNSELECT", "LIST"]
        assert len(fake.reads) == reads + 1
        assert (await end.look("INBOX", 19, 8))[1] is listing, "the same words are not read twice"
        fake.replies["LIST"] = INBOX.replace(b"UIDNEXT 9", b"UIDNEXT 10")
        assert (await end.list_folders()).folders[0].mark.uidnext == 10


async def test_new_folders_of_one_second_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Courier makes UIDVALIDITYs: from the time alone."""
    monkeypatch.setattr(folders, "SECOND", 0.0)
    mark = b"* STATUS %b (MESSAGES 0 UIDNEXT 1 UIDVALIDITY %d HIGHESTMODSEQ 1)"
    async with asked(ALL, LIST=INBOX, STATUS=mark % (b"x", 7)) as (end, fake):
        answer = fake._answer

        async def ticking(line: str, writer: asyncio.StreamWriter) -> None:
            if " DELETE " in line:
                fake.replies["STATUS"] = mark % (line[-1:].encode(), 8)
            await answer(line, writer)

        monkeypatch.setattr(fake, "_answer", ticking)
        await end.list_folders()
        assert await end.create_folder("x", 3) == Mark(8, 1, 1, 0)
        assert await end.create_folder("x", 3) == Mark(8, 1, 1, 0), "its own value is none of another's"
        fake.replies["STATUS"] = mark % (b"y", 8)
        assert await end.create_folder("y", 3) == Mark(8, 1, 1, 0), "where the time stands still it is left as it is"
    made = [line.split(" ", 1)[1] for line in fake.lines if "CREATE" in line or "DELETE" in line]
    assert made == ["CREATE x", "DELETE x", "CREATE x", "CREATE x"] + 3 * ["CREATE y", "DELETE y"] + ["CREATE y"]


async def test_a_folder_with_mail_is_not_made_anew() -> None:
    reply = b"* STATUS x (MESSAGES 1 UIDNEXT 2 UIDVALIDITY 7 HIGHESTMODSEQ 1)"
    async with asked(ALL, LIST=INBOX, STATUS=reply) as (end, fake):
        await end.list_folders()
        assert (await end.create_folder("x", 3)).uidvalidity == 7
    assert not any("DELETE" in line for line in fake.lines)


async def test_a_folder_without_status_is_gone_or_nothing_is_known() -> None:
    reply = INBOX + b'\r\n* LIST () "/" Gone'
    no = b"{tag} NO not now"
    every = 'LIST "" "*" RETURN (SUBSCRIBED SPECIAL-USE STATUS (MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ))'
    async with asked(ALL, STATUS=no, **{every: reply}) as (end, _):
        assert [folder.name for folder in (await end.list_folders()).folders] == ["INBOX"]
    async with asked(ALL, STATUS=no, LIST=reply) as (end, _):
        with pytest.raises(Failed) as raised:
            await end.list_folders()
        assert "not now" in raised.value.failure.reason
    reply += b"\r\n* STATUS Gone (MESSAGES 1)"
    async with asked(ALL, LIST=reply) as (end, _):
        with pytest.raises(Failed):
            await end.list_folders()


@pytest.mark.parametrize("reply", [b"", b"{tag} NO x", b'* LIST () "/" Other', b"* LIST INBOX", b"* LIST () NIL"])
async def test_a_list_that_can_not_be_trusted(reply: bytes) -> None:
    async with asked(ALL, LIST=reply) as (end, _):
        with pytest.raises(Failed) as raised:
            await end.list_folders()
        assert raised.value.failure.kind is Kind.AGAIN


async def test_a_server_that_can_nothing() -> None:
    replies = {
        'LIST "" ""': b'* LIST (\\NoSelect) "." ""',
        'LIST "" "*"': b'* LIST () "." INBOX\r\n* LIST () "." INBOX.Sent',
        "LSUB": b'* LSUB () "." INBOX.Sent\r\n* LSUB () "." INBOX.gone',
        "STATUS INBOX (MESSAGES UIDNEXT UIDVALIDITY)": b"* STATUS INBOX (MESSAGES 2 UIDNEXT 9 UIDVALIDITY 7)",
        "STATUS INBOX.SENT (MESSAGES UIDNEXT UIDVALIDITY)": b"* STATUS INBOX.Sent (MESSAGES 0 UIDNEXT 1 UIDVALIDITY 8)",
    }
    async with asked(PLAIN, **replies) as (end, fake):
        await end.read("INBOX")
        listing = await end.list_folders()
        assert "CLOSE" in [line.split()[1] for line in fake.lines]
    assert listing.separator == "." and not end.powers.changes and not end.powers.names_uids
    assert listing.folders == (
        Folder("INBOX", Mark(7, 9, 0, 2), subscribed=False), Folder("INBOX.Sent", Mark(8, 1, 0, 0)),
    )


async def test_identity_by_objectid_is_asked_alone() -> None:
    both = INBOX + b"\r\n* STATUS INBOX (MAILBOXID (abc))"
    async with asked(f"{ALL} OBJECTID", LIST=both) as (end, fake):
        assert (await end.list_folders()).folders[0].identity == "abc"
        assert fake.lines[-1].endswith('LIST "" "*" RETURN (STATUS (MAILBOXID))')


# ---- reading


async def test_uidnext_that_select_does_not_tell_is_asked_before() -> None:
    selected = b"* 2 EXISTS\r\n* OK [UIDVALIDITY 7] x"
    status = b"* STATUS INBOX (UIDNEXT 9)"
    async with asked(PLAIN, EXAMINE=selected, STATUS=status) as (end, fake):
        for _ in range(2):
            assert (await end.read("INBOX")).before == Mark(7, 9, 0, 2)
        said = [line.split()[1] for line in fake.lines[-7:]]
    assert said == ["EXAMINE", "CLOSE", "STATUS", "EXAMINE", "UID", "CLOSE", "STATUS"] or said[-4:] == [
        "CLOSE", "STATUS", "EXAMINE", "UID",
    ]  # fmt: skip
    async with asked(PLAIN, EXAMINE=selected) as (end, _):
        with pytest.raises(Failed):
            await end.read("INBOX")


async def test_changes_with_more_vanished_than_there_can_be() -> None:
    rows = (
        b'* VANISHED (EARLIER) 1:3,8:4294967295\r\n'
        b'* 1 FETCH (UID 4 MODSEQ (25) FLAGS (\\seen) INTERNALDATE "01-Jan-1970 00:00:00 +0000")\r\n'
        b"* 2 FETCH (UID 5 FLAGS (\\Seen) MODSEQ (26))"
    )
    async with asked(ALL, UID_FETCH=rows) as (end, fake):
        found = await end.read("INBOX", since=10)
        assert [(row.uid, row.flags) for row in found.rows] == [(4, {"\\Seen"})]
        assert tuple(found.vanished) == (1, 2, 3, 8) and found.after == 25
        items = "(UID FLAGS INTERNALDATE MODSEQ)"
        assert fake.lines[-1].endswith(f"UID FETCH 1:4294967294 {items} (CHANGEDSINCE 10 VANISHED)")


@pytest.mark.parametrize(
    "rows", [b"* VANISHED (EARLIER) x", b"* 1 FETCH (UID 4 FLAGS () INTERNALDATE NIL)", b"* FETCH"]
)
async def test_rows_of_odd_shape(rows: bytes) -> None:
    async with asked(ALL, UID_FETCH=rows) as (end, _):
        with pytest.raises(Failed):
            await end.read("INBOX", since=10)


async def test_messages_that_went_meanwhile_are_left_out() -> None:
    letters = (
        b'* 1 FETCH (UID 4 FLAGS () INTERNALDATE "01-Jan-1970 00:00:00 +0000" BODY[] {3}\r\nabc)\r\n'
        b'* 2 FETCH (UID 5 FLAGS () INTERNALDATE "01-Jan-1970 00:00:00 +0000" BODY[] NIL)\r\n'
        b"{tag} NO [EXPUNGEISSUED] some are gone"
    )
    async with asked(ALL, UID_FETCH=letters) as (end, _):
        assert [(each.uid, each.raw) async for each in end.letters("INBOX", [4, 5, 6], 7)] == [(4, b"abc")]
    async with asked(ALL, UID_FETCH=letters.replace(b"[EXPUNGEISSUED]", b"[SERVERBUG]")) as (end, _):
        with pytest.raises(Failed):
            _ = [each async for each in end.letters("INBOX", [4, 5, 6], 7)]


@pytest.mark.parametrize(("octets", "then"), [(40, ["9:40", "41:128"]), (1000, ["9:12", "13:16"]), (9000, ["9"])])
async def test_as_many_bodies_are_asked_as_will_be_taken(
    octets: int, then: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who stops in the middle has asked for little more, and the next question is as small from its beginning."""
    monkeypatch.setattr(reading, "OCTETS_AT_ONCE", 4000)
    one = b'* %d FETCH (UID %d FLAGS () INTERNALDATE "01-Jan-1970 00:00:00 +0000" BODY[] {%d}\r\n%b)'
    replies = b"\r\n".join(one % (uid, uid, octets, b"x" * octets) for uid in range(1, 31))
    async with asked(ALL, UID_FETCH=replies) as (end, fake):
        async with aclosing(end.letters("INBOX", range(1, 201), 7)) as letters:
            assert [(await anext(letters)).uid for _ in range(8)] == list(range(1, 9))
        _ = [each.uid async for each in end.letters("INBOX", range(9, 201), 7)]
        sets = [line.split()[3] for line in fake.lines if "UID FETCH" in line]
        assert sets[0] == "1:8" and sets[1 : 1 + len(then)] == then


async def test_only_mail_that_is_not_older_than_the_ids_is_searched() -> None:
    young, old, odd = "k4fcs9ty00abcdefg", "k4fcs9ty00aaaaaaa", "1700000000-1"
    async with asked(ALL, LIST=INBOX) as (end, fake):
        assert not await end.find([young, old])
        day = time.strftime("%-d-%b-%Y", time.gmtime(int(old[:10], 36) / 1e6 - 2 * 86400))
        search = next(line for line in fake.lines if "SEARCH" in line)
        assert f"UID SEARCH SINCE {day} OR HEADER X-OneDomain-Delivery " in search
        assert not await end.find([odd, young])
        assert "SINCE" not in [line for line in fake.lines if "SEARCH" in line][1]


# ---- writing


REFUSALS: list[tuple[bytes, bool]] = [
    (b"NO [OVERQUOTA] full", True),
    (b"NO [TOOBIG] x", True),
    (b"NO Message contains NUL characters", True),
    (b"NO Message contains invalid header", True),
    (b"NO Can't save a zero byte message", True),
    (b"NO [TRYCREATE] no such folder", False),
    (b"NO [SERVERBUG] internal error", False),
    (b"NO [UNAVAILABLE] later", False),
    (b"NO System I/O error", False),
    (b"NO No space left on device", False),
    (b"BAD what?", False),
]


@pytest.mark.parametrize(("reply", "for_good"), REFUSALS)
async def test_what_is_refused_for_good_and_what_may_pass(reply: bytes, for_good: bool) -> None:
    async with asked(ALL, APPEND=b"{tag} " + reply) as (end, _):
        if for_good:
            [outcome] = await end.append("INBOX", [letter(), letter()])
            assert isinstance(outcome, Refused) and outcome.reason in reply.decode()
        else:
            with pytest.raises(Failed) as raised:
                await end.append("INBOX", [letter()])
            assert raised.value.failure.kind is Kind.AGAIN


async def test_a_literal_waits_unless_the_server_is_known_to_swallow_it() -> None:
    """And then the refused message has never left: it can't be taken for commands."""
    evil = b"x DELETE INBOX\r\n"
    capabilities = f"{ALL} LITERAL+"
    for kind, flags, leaves in (
        ("imap", (), False), ("dovecot", ("\\Seen", "Work", "$Label1"), True), ("dovecot", ("\\Seen", "a|b"), False),
        ("dovecot", ("k" * 60,), False), ("dovecot", ("\\Strange",), True), ("dovecot", ("a]b", "(", "請求"), True),
    ):  # fmt: skip
        async with asked(capabilities, kind, APPEND=b"{tag} NO [OVERQUOTA] full") as (end, fake):
            [outcome] = await end.append("INBOX", [letter(evil, *flags)])
            assert isinstance(outcome, Refused)
            assert ("x DELETE INBOX" in fake.lines) == leaves, (kind, flags)
            appended = next(line for line in fake.lines if "APPEND" in line)
            assert not {"\\Strange", "a]b", "(", "請求"} & set(appended.split("(", 1)[1].split(")")[0].split())


async def test_after_bad_nothing_more_is_said() -> None:
    async with asked(ALL, APPEND=b"{tag} BAD what?") as (end, fake):
        with pytest.raises(Failed):
            await end.append("INBOX", [letter()])
        said = len(fake.lines)
        with pytest.raises(Failed):
            await end.read("INBOX")
        assert len(fake.lines) == said


async def test_more_than_the_server_takes_is_not_sent() -> None:
    async with asked(f"{ALL} APPENDLIMIT=20", APPEND=b"+ go") as (end, fake):
        [outcome] = await end.append("INBOX", [letter(b"x" * 21)])
        assert isinstance(outcome, Refused) and "20" in outcome.reason
        assert not any("APPEND" in line for line in fake.lines)


@pytest.mark.parametrize("code", [b"[APPENDUID 7 9:10]", b"[APPENDUID 7 9:1000000000]", b"[APPENDUID 7 x]"])
async def test_uids_that_do_not_fit(code: bytes) -> None:
    async with asked(f"{ALL} LITERAL+", "dovecot", APPEND=b"{tag} OK " + code + b" done") as (end, _):
        with pytest.raises(Failed):
            await end.append("INBOX", [letter()])


async def test_uids_are_what_the_server_says() -> None:
    async with asked(f"{ALL} LITERAL+", "dovecot", APPEND=b"{tag} OK [APPENDUID 7 9,12] done") as (end, _):
        outcomes = await end.append("INBOX", [letter(), letter()])
        assert [each.uid for each in outcomes if isinstance(each, Copied)] == [9, 12]


async def test_flags_that_a_server_does_not_keep() -> None:
    shown = b"* 1 FETCH (UID 4 FLAGS (\\Seen \\Recent))"
    async with asked(ALL, UID_STORE=shown) as (end, fake):
        lost = await end.set_flags("INBOX", [4], frozenset({"\\Seen", "\\Deleted", "\\Flagged", "Work"}))
        assert lost == {"\\Deleted", "\\Flagged", "Work"}
        assert fake.lines[-1].endswith("UID STORE 4 FLAGS (\\Deleted \\Seen)")


async def test_expunge_waits_for_store_and_stops_where_it_fails() -> None:
    async with asked(ALL) as (end, fake):
        await end.expunge("INBOX", [5, 4, 8])
        assert [line.split(" ", 1)[1] for line in fake.lines[-2:]] == [
            "UID STORE 4:5,8 +FLAGS.SILENT (\\Deleted)", "UID EXPUNGE 4:5,8",
        ]  # fmt: skip
    async with asked(ALL, UID_STORE=b"{tag} NO x") as (end, fake):
        with pytest.raises(Failed):
            await end.expunge("INBOX", [4])
        assert not any("EXPUNGE" in line for line in fake.lines)
    async with asked(PLAIN) as (end, fake):
        with pytest.raises(Failed):
            await end.expunge("INBOX", [4])
        assert not any("STORE" in line for line in fake.lines)


async def test_no_way_in() -> None:
    server = Server("mail1", "imap", local(1), local(1))
    tools = Tools(ClientContexts(), Eyes(), Chance(), "e")
    with pytest.raises(Failed) as raised:
        await make_link_server(server, tools).end(account())
    assert raised.value.failure.kind is Kind.GIVE_UP
    eyes = Eyes()
    with pytest.raises(Failed):
        master = replace(server, login_way=LoginWay.MASTER, master_user="m", master_password="p")
        await make_link_server(master, replace(tools, watch=eyes)).end(account())
    assert [sighting.server for sighting in eyes.sightings] == ["mail1"]


class Waiting:
    """Helpers that never come back."""

    async def close(self) -> None:
        await asyncio.Event().wait()


async def test_who_is_cancelled_while_it_closes_gives_back_its_place() -> None:
    async with asked(ALL) as (end, _):
        assert isinstance(end, ImapEnd)
        back = []
        give_back = end._give_back
        end._helpers = Waiting()  # type: ignore[assignment]
        end._give_back = lambda connection, whole: (back.append(whole), give_back(connection, whole))[1]
        closing = asyncio.create_task(end.close())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert back == [True]


async def test_a_large_folder_of_which_every_other_message_vanished() -> None:
    gone = ",".join(str(uid) for uid in range(1, 60_001, 2))
    selected = SELECTED.replace(b"UIDNEXT 9", b"UIDNEXT 70000")
    assert selected != SELECTED
    async with asked(ALL, EXAMINE=selected, UID_FETCH=f"* VANISHED (EARLIER) {gone}".encode()) as (end, _):
        assert len((await end.read("INBOX", since=10)).vanished.ranges) == 30_000
