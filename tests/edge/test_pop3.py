"""POP3 through the edge out of a scripted home's IMAP: reading, removing only what was asked, and every way to fail."""

from __future__ import annotations

import asyncio
import poplib
import socket
import tracemalloc
from dataclasses import replace

import pytest

from onedomain.backend.base import ClientInfo
from onedomain.edge.imap import MailboxParts
from onedomain.edge.mailbox import Mailbox
from onedomain.edge.pop3 import FOLDER, Pop3Edge, Pop3Rules, opened
from onedomain.model.account import Home
from onedomain.model.health import Verdict
from onedomain.net.stream import Stream
from onedomain.net.tls import CertificateFiles, ServerContexts
from onedomain.protocol.pop3.events import Answered, Close, Event, LogIn, Quit, Retrieve, StartTls
from onedomain.protocol.pop3.server import MAX_BAD, Pop3Server
from tests.edge.fakeimap import FakeImap
from tests.edge.kit import JOE, Client, Edge, down, edge
from tests.edge.parts import Lease
from tests.lab.tls import Certificate

ONE = b"Subject: one\r\n\r\n.hidden\r\nline 2\r\nline 3\r\n"
TWO = b"Subject: two\r\n\r\nno line end"


def clear(parts: MailboxParts, **rules: object) -> Pop3Edge:
    return Pop3Edge(parts, Pop3Rules(plaintext_login=True, **rules))  # type: ignore[arg-type]


async def inside(running: Edge) -> Client:
    client = await running.connect()
    assert await client.line() == "+OK OneDomain ready."
    assert await client.ask("USER joe") == "+OK Password, please."
    assert (await client.ask("PASS right")).startswith("+OK Logged in")
    return client


async def lines(client: Client, command: str) -> list[str]:
    """A multi-line answer, dots still stuffed."""
    client.send(command.encode() + b"\r\n")
    found = []
    while (line := await client.line()) != ".":
        found.append(line)
    return found


async def ended(running: Edge) -> None:
    while not running.notes.named("logout"):
        await asyncio.sleep(0.01)


async def test_reading() -> None:
    imap = FakeImap({4: ONE, 9: TWO})
    async with edge(imap, clear) as running:
        client = await inside(running)
        assert await client.ask("STAT") == f"+OK 2 {len(ONE) + len(TWO)}"
        assert await lines(client, "UIDL") == ["+OK", "1 000000040000004d", "2 000000090000004d"]
        assert await lines(client, "RETR 1") == [
            f"+OK {len(ONE)} octets", "Subject: one", "", "..hidden", "line 2", "line 3"]
        assert await lines(client, "TOP 1 1") == ["+OK", "Subject: one", "", "..hidden"]
        assert await lines(client, "RETR 2") == [f"+OK {len(TWO)} octets", "Subject: two", "", "no line end"]
        assert await client.ask("QUIT") == "+OK Bye."
        assert await client.rest() == b""
        await ended(running)
        assert len(running.parts.relays) == 0
    assert list(imap.bodies) == [4, 9]
    assert imap.said[-2:] == ["UID STORE 4,9 +FLAGS.SILENT (\\Seen)", "LOGOUT"]
    assert running.notes.changes == [("joe@example.com", "STORE", "INBOX")]


async def test_deleting_happens_at_quit_and_by_uid() -> None:
    imap = FakeImap(dict.fromkeys((1, 2, 3, 5, 8), ONE))
    imap.flags[8].add("\\Deleted")  # another client's, not to be touched
    async with edge(imap, clear) as running:
        client = await inside(running)
        for command in ("DELE 1", "DELE 2", "DELE 4"):
            assert (await client.ask(command)).startswith("+OK")
        assert imap.said == ["SELECT INBOX", "UID FETCH 1:* (UID RFC822.SIZE FLAGS)"]
        assert await client.ask("QUIT") == "+OK Bye."
        await ended(running)
    assert list(imap.bodies) == [3, 8]
    assert imap.said[2:] == ["UID STORE 1:2,5 +FLAGS.SILENT (\\Deleted)", "UID EXPUNGE 1:2,5", "LOGOUT"]
    assert running.notes.changes == [("joe@example.com", "EXPUNGE", "INBOX")]


@pytest.mark.parametrize("how", ["gone", "rset", "cut", "idle"])
async def test_without_quit_nothing_is_deleted(how: str) -> None:
    imap = FakeImap({1: ONE, 2: ONE})
    async with edge(imap, lambda parts: clear(parts, idle=0.5 if how == "idle" else 600.0)) as running:
        client = await inside(running)
        assert (await client.ask("DELE 1")).startswith("+OK")
        if how == "gone":
            client.close()
        elif how == "rset":
            await client.ask("RSET")
            await client.ask("QUIT")
        elif how == "cut":
            running.change(replace(JOE, home=Home("s2", epoch=2)))
            assert (await client.rest()).startswith(b"-ERR [SYS/TEMP] Your mailbox has moved")
        else:
            assert await client.rest() == b"-ERR [SYS/TEMP] Too long without a command.\r\n"
        await ended(running)
    assert list(imap.bodies) == [1, 2]
    assert not any("STORE" in said for said in imap.said)


async def test_a_home_that_is_none_any_more_is_not_written_to() -> None:
    """The account moves in the middle of an UPDATE: what was under way there ends."""
    imap = FakeImap({1: ONE, 2: ONE})
    imap.pause = asyncio.Event()
    async with edge(imap, clear) as running:
        client = await inside(running)
        await client.ask("DELE 1")
        client.send(b"QUIT\r\n")
        while not imap.said[-1].startswith("UID STORE"):
            await asyncio.sleep(0.01)
        running.change(replace(JOE, home=Home("s2", epoch=2)))
        await ended(running)
        imap.pause.set()
        await client.rest()
        await asyncio.gather(*running.home.connections, return_exceptions=True)
    assert imap.said[-1].startswith("UID STORE")
    assert list(imap.bodies) == [1, 2]


async def test_a_change_of_home_while_the_mailbox_is_opened() -> None:
    imap = FakeImap({1: ONE})
    imap.pause, imap.pause_at = asyncio.Event(), "SELECT"
    async with edge(imap, clear) as running:
        client = await running.connect()
        client.send(b"USER joe\r\nPASS right\r\nSTAT\r\n")
        while not imap.said:
            await asyncio.sleep(0.01)
        running.change(replace(JOE, home=Home("s2", epoch=2)))
        imap.pause.set()
        got = [await client.line() for _ in range(4)]
        assert got[2].startswith("-ERR [SYS/TEMP]")
        assert got[3] == "-ERR Unknown command, or log in first."


async def test_a_lease_that_is_lost_while_the_mailbox_is_opened() -> None:
    """Whoever cuts sessions then has passed this one over: it could not be cut yet."""
    imap, lease = FakeImap({1: ONE}), Lease()
    imap.pause, imap.pause_at = asyncio.Event(), "SELECT"
    async with edge(imap, clear, gate=lease) as running:
        client = await running.connect()
        client.send(b"USER joe\r\nPASS right\r\nSTAT\r\n")
        while not imap.said:
            await asyncio.sleep(0.01)
        lease.held = False
        assert running.parts.relays.cut_fenced(lease.may_write) == 0
        imap.pause.set()
        got = [await client.line() for _ in range(4)]
        assert got[2].startswith("-ERR [SYS/TEMP] Your mail server is not available")
        assert got[3] == "-ERR Unknown command, or log in first."


async def test_only_what_was_read_whole_and_stays_is_marked_as_read() -> None:
    imap = FakeImap(dict.fromkeys((1, 2, 3, 4), ONE))
    imap.flags[2].add("\\Seen")
    async with edge(imap, clear) as running:
        client = await inside(running)
        for number in (1, 2, 3):
            await lines(client, f"RETR {number}")
        await lines(client, "TOP 4 100")
        await client.ask("DELE 3")
        await client.ask("QUIT")
        await ended(running)
    assert imap.said[-2:] == ["UID STORE 1 +FLAGS.SILENT (\\Seen)", "LOGOUT"]


async def test_without_uidplus_others_marks_are_respected() -> None:
    imap = FakeImap({1: ONE, 2: ONE, 3: ONE})
    imap.flags[3].add("\\Deleted")
    async with edge(imap, clear) as running:
        running.home.capabilities = ("IMAP4REV1",)
        client = await inside(running)
        assert await client.ask("STAT") == f"+OK 2 {2 * len(ONE)}"  # what is marked counts as deleted here
        await client.ask("DELE 1")
        assert await client.ask("QUIT") == "+OK Bye."
        await ended(running)
        assert list(imap.bodies) == [1, 2, 3]
        assert imap.flags[1] == {"\\Deleted"}
        assert running.notes.named("pop3 marked only")
        # Once the other's is gone, ours can go as well.
        imap.flags[3].clear()
        client = await inside(running)
        assert await client.ask("STAT") == f"+OK 2 {2 * len(ONE)}"
    assert "EXPUNGE" not in imap.said


async def test_without_uidplus_and_marks_of_others() -> None:
    imap = FakeImap({1: ONE, 2: ONE})
    async with edge(imap, clear) as running:
        running.home.capabilities = ("IMAP4REV1",)
        client = await inside(running)
        await client.ask("DELE 1")
        await client.ask("QUIT")
        await ended(running)
    assert list(imap.bodies) == [2]
    assert imap.said[-4:] == ["UID STORE 1 +FLAGS.SILENT (\\Deleted)", "UID SEARCH DELETED", "EXPUNGE", "LOGOUT"]


@pytest.mark.parametrize("fault", ["UID STORE", "UID EXPUNGE"])
@pytest.mark.parametrize("way", ["break_at", "refuse"])
async def test_what_could_not_be_removed_is_told(fault: str, way: str) -> None:
    imap = FakeImap({1: ONE, 2: ONE})
    setattr(imap, way, fault)
    async with edge(imap, clear) as running:
        client = await inside(running)
        await client.ask("DELE 1")
        assert await client.ask("QUIT") == "-ERR [SYS/TEMP] Not all messages could be removed."
        await ended(running)
    assert list(imap.bodies) == [1, 2]
    assert fault in running.notes.named("pop3 failed")[0]["reason"]


async def test_a_message_that_is_gone() -> None:
    imap = FakeImap({1: ONE, 2: TWO})
    async with edge(imap, clear) as running:
        client = await inside(running)
        del imap.bodies[1]
        assert await client.ask("RETR 1") == "-ERR The message is gone."
        assert await client.ask("TOP 1 0") == "-ERR The message is gone."
        assert (await lines(client, "RETR 2"))[1:] == ["Subject: two", "", "no line end"]


async def test_a_home_that_dies_before_and_in_the_middle_of_a_body() -> None:
    imap = FakeImap({1: ONE, 2: b"x" * 200_000})
    async with edge(imap, clear) as running:
        client = await inside(running)
        imap.half_body = True
        client.send(b"RETR 2\r\n")
        got = await client.rest()
        assert got.startswith(b"+OK 200000 octets\r\nxxx") and not got.endswith(b".\r\n")
        imap.break_at = "UID FETCH 1 "
        client = await inside(running)
        assert (await client.ask("RETR 1")).startswith("-ERR [SYS/TEMP] Your mail server does not answer properly")
        assert await client.ask("NOOP") == "+OK"
        await client.ask("DELE 1")
        assert (await client.ask("QUIT")).startswith("-ERR [SYS/TEMP]")


@pytest.mark.parametrize("item", ["(UID)", "7", "", "(UID 1 BODY[] 7)", "(UID 1 BODY[] (a))", "(UID 1", "\0"])
@pytest.mark.parametrize("when", ["UID FETCH 1:*", "UID FETCH 1 "])
async def test_a_home_that_talks_nonsense(item: str, when: str) -> None:
    class Garbled(FakeImap):
        async def _answer(self, command: str, writer: asyncio.StreamWriter) -> bool:
            if command.startswith(when):
                writer.write(f"* 1 FETCH {item}\r\n".encode())
                return True
            return await super()._answer(command, writer)

    async with edge(Garbled({1: ONE}), clear) as running:
        client = await running.connect()
        client.send(b"USER joe\r\nPASS right\r\nRETR 1\r\nQUIT\r\n")
        got = await client.rest()
        assert b"-ERR" in got and b"octets\r\n" not in got
        assert not running.notes.named("session failed")


async def test_log_ins_that_come_to_nothing() -> None:
    imap = FakeImap({})
    async with edge(imap, lambda parts: clear(parts, attempts=2), sessions=1) as running:
        client = await running.connect()
        await client.line()
        await client.ask("USER joe")
        assert await client.ask("PASS wrong") == "-ERR [AUTH] Authentication failed."
        running.board.verdicts["s1"] = Verdict.REFUSING
        await client.ask("USER joe")
        assert (await client.ask("PASS right")).startswith("-ERR [SYS/TEMP] Your mail server is not available")
        running.board.verdicts.clear()
        running.home.trouble = down()
        await client.ask("USER joe")
        assert (await client.ask("PASS right")).startswith("-ERR [SYS/TEMP]")
        running.home.trouble = None
        imap.refuse = "SELECT"
        await client.ask("USER joe")
        assert (await client.ask("PASS right")).startswith("-ERR [SYS/TEMP]")
        imap.refuse = ""
        other = await inside(running)
        await client.ask("USER joe")
        assert await client.ask("PASS right") == "-ERR [IN-USE] Too many sessions of this account."
        await client.ask("USER joe")
        assert await client.ask("PASS wrong2") == "-ERR [AUTH] Authentication failed."
        assert await client.rest() == b"-ERR [AUTH] Too many failed log-ins.\r\n"
        assert await other.ask("STAT") == "+OK 0 0"


async def test_uidl_formats() -> None:
    async with edge(FakeImap({1: ONE}), clear, uidl_format="%v.%u") as running:
        assert await (await inside(running)).ask("UIDL 1") == "+OK 1 77.1"
    async with edge(FakeImap({1: ONE}), clear, uidl_format="%g") as running:
        client = await running.connect()
        await client.line()
        await client.ask("USER joe")
        assert (await client.ask("PASS right")).startswith("-ERR [SYS/TEMP]")
        assert "'%g' is not known here" in running.notes.named("login failed")[0]["reason"]


async def test_pipelined_commands() -> None:
    async with edge(FakeImap({1: ONE, 2: TWO}), clear) as running:
        client = await running.connect()
        client.send(b"USER joe\r\nPASS right\r\nSTAT\r\nRETR 2\r\nDELE 1\r\nQUIT\r\n")
        got = (await client.rest()).decode().splitlines()
        assert got[1:] == ["+OK Password, please.", f"+OK Logged in, 2 messages ({len(ONE) + len(TWO)} octets).",
                           f"+OK 2 {len(ONE) + len(TWO)}", f"+OK {len(TWO)} octets", *TWO.decode().splitlines(), ".",
                           "+OK Message 1 deleted.", "+OK Bye."]


async def test_top_of_a_long_message_reads_no_more_than_needed() -> None:
    imap = FakeImap({1: b"A: b\r\n\r\n" + b"0123456789abcde\r\n" * 5000})
    async with edge(imap, clear) as running:
        client = await inside(running)
        assert len(await lines(client, "TOP 1 10")) == 13
        assert [said for said in imap.said if "<" in said] == ["UID FETCH 1 BODY.PEEK[]<0.16384>"]
        assert len(await lines(client, "TOP 1 1500")) == 1503
        assert [said for said in imap.said if "<" in said][1:] == [
            "UID FETCH 1 BODY.PEEK[]<0.16384>", "UID FETCH 1 BODY.PEEK[]<16384.16384>"]
        assert len(await lines(client, "TOP 1 9999")) == 5003


async def test_a_hundred_megabytes_with_flat_memory() -> None:
    size = 100 * 1024 * 1024
    line = b"x" * 98 + b"\r\n"

    class Generated(FakeImap):
        async def _body(self, uid: int, found: object, writer: asyncio.StreamWriter) -> bool:
            writer.write(b"* 1 FETCH (UID 1 BODY[] {%d}\r\n" % size)
            piece = line * 1024
            for start in range(0, size, len(piece)):
                writer.write(piece[:size - start])
                await writer.drain()
            writer.write(b")\r\n")
            return True

    async with edge(Generated({1: ONE}), clear) as running:
        client = await inside(running)
        tracemalloc.start()
        client.send(b"RETR 1\r\n")
        assert await client.line() == f"+OK {size} octets"
        left = size
        while left > 0:
            left -= len(await client.reader.read(min(left, 1 << 18)))
        assert await client.line() in (".", "")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 8 * 1024 * 1024


async def test_poplib_with_stls(certificate: Certificate) -> None:
    contexts = ServerContexts([CertificateFiles(str(certificate.cert), str(certificate.key))])

    def session(port: int) -> tuple[list[bytes], bytes]:
        client = poplib.POP3("localhost", port)
        assert "STLS" in client.capa() and "SASL" not in client.capa()
        with pytest.raises(poplib.error_proto):
            client.user("joe")
        client.stls(certificate.client_context())
        assert "SASL" in client.capa()
        client.user("joe")
        client.pass_("right")
        body = client.retr(1)[1]
        client.dele(1)
        return body, client.quit()

    imap = FakeImap({1: ONE})
    async with edge(imap, Pop3Edge, tls=contexts) as running:
        body, goodbye = await asyncio.to_thread(session, running.port)
    assert b"\r\n".join(body) + b"\r\n" == ONE
    assert (goodbye, imap.bodies) == (b"+OK Bye.", {})


@pytest.mark.parametrize("logged_in", [False, True])
async def test_the_end_of_the_server_is_said(logged_in: bool) -> None:
    imap = FakeImap({1: ONE})
    async with edge(imap, clear) as running:
        client = await (inside(running) if logged_in else running.connect())
        if not logged_in:
            await client.line()
        else:
            assert (await client.ask("DELE 1")).startswith("+OK")
    assert await client.rest() == b"-ERR [SYS/TEMP] The server is shutting down.\r\n"
    assert imap.bodies == {1: ONE}


HANDED: list[tuple[type[Event], bytes, bytes]] = [
    (LogIn, b"USER joe\r\nPASS right\r\nSTAT\r\nQUIT\r\n", b"+OK 1 41\r\n+OK Bye.\r\n"),
    (StartTls, b"STLS\r\n", b"+OK Bye.\r\n"),
    (Retrieve, b"TOP 1 0\r\nSTAT\r\nQUIT\r\n", b"+OK\r\nSubject: one\r\n\r\n.\r\n+OK 1 41\r\n+OK Bye.\r\n"),
    (Quit, b"DELE 1\r\nQUIT\r\n", b"+OK Message 1 deleted.\r\n+OK Bye.\r\n"),
    (Close, b"x\r\n" * MAX_BAD, b"-ERR Unknown command.\r\n"),
    (Answered, b"CAPA\r\n" * 1000 + b"QUIT\r\n", b".\r\n+OK Bye.\r\n"),
]


@pytest.mark.parametrize(("kind", "said", "heard"), HANDED, ids=[row[0].__name__ for row in HANDED])
async def test_what_was_told_is_handed_over(
    kind: type[Event], said: bytes, heard: bytes, certificate: Certificate
) -> None:
    """To the task that a session goes on as: nothing of it is lost, whatever it is."""
    contexts = ServerContexts([CertificateFiles(str(certificate.cert), str(certificate.key))])
    async with edge(FakeImap({1: ONE}), clear, tls=contexts) as running:
        parts = running.parts
        front = clear(parts)
        pop3, inside = Pop3Server(front.options, secure=False), None
        if kind not in (LogIn, StartTls):
            session = await running.home.log_in(JOE, None, ClientInfo())
            mailbox = Mailbox(session)
            listed = await mailbox.open(FOLDER)
            inside, drop = opened(parts, parts.relays.take(JOE), session.server, mailbox, listed)
            pop3.opened(drop)
        pop3.receive(said)
        event = pop3.next_event()
        assert isinstance(event, kind)
        ours, theirs = socket.socketpair()
        stream = Stream(ours)
        work = asyncio.create_task(front.go_on(stream, pop3, event, None, inside))
        client = Client(*await asyncio.open_connection(sock=theirs))
        if kind is StartTls:
            assert await client.line() == "+OK Begin TLS negotiation now."
            await asyncio.wait_for(
                client.writer.start_tls(certificate.client_context(), server_hostname="localhost"), 5
            )
            client.send(b"QUIT\r\n")
            assert await client.line() == "+OK Bye."
        await asyncio.wait_for(work, 5)
        await stream.aclose()
        if kind is not StartTls:
            assert (await client.rest()).endswith(heard)
        client.close()
