"""POP3 sessions without a task, beside those with one: the same to the client, the home, the log and the counts."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from onedomain.backend.base import Begun
from onedomain.backend.mailserver import Tools
from onedomain.backend.registry import make_backend
from onedomain.directory.book import Book
from onedomain.directory.delta import Delta
from onedomain.edge import mailbox, pop3_visit
from onedomain.edge.imap import MailboxParts
from onedomain.edge.mailbox import Mailbox
from onedomain.edge.pop3 import Opened, Pop3Edge, Pop3Rules
from onedomain.edge.pop3_visit import Pop3Visit
from onedomain.model.account import Home, Unit
from onedomain.model.health import Verdict
from onedomain.model.server import Endpoint
from onedomain.net.poller import Poller
from onedomain.net.stream import Stream
from onedomain.net.tls import CertificateFiles, ClientContexts, ServerContexts
from onedomain.net.wire import BLOCKED, Bytes, PlainWire, TlsWire
from onedomain.protocol.pop3.events import Event
from onedomain.protocol.pop3.server import MAX_AT_ONCE, Pop3Server
from tests.backend.contract import Chance, Eyes
from tests.backend.test_imap_session import CUT, HANG, FakeImap
from tests.directory.views import EXAMPLE, server
from tests.edge.kit import ANN, JOE, Client, Edge, edge_before
from tests.edge.parts import Lease
from tests.lab.tls import Certificate

WELCOME = b"{tag} OK [CAPABILITY IMAP4rev1 SASL-IR IDLE UIDPLUS] Welcome"
SELECTED = (
    b"* FLAGS (\\Answered \\Seen)\r\n* OK [PERMANENTFLAGS (\\Seen \\*)] limited\r\n* 2 EXISTS\r\n* 0 RECENT\r\n"
    b"* OK [UIDVALIDITY 77] valid\r\n* OK [UIDNEXT 10] next"
)
LISTED = b"* 1 FETCH (UID 4 RFC822.SIZE 100 FLAGS (\\Seen))\r\n* 2 FETCH (FLAGS () UID 9 RFC822.SIZE 23)"
BODY = b"* 1 FETCH (UID 4 BODY[] {12}\r\nSubject: x\r\n)"
TASKS: list[Begun | None] = []
"""One for each session that went on as a task."""


class Told(Pop3Edge):
    def go_on(
        self, stream: Stream, pop3: Pop3Server, event: Event | None, begun: Begun | None, opened: Opened | None
    ) -> Coroutine[Any, Any, None]:
        TASKS.append(begun)
        return super().go_on(stream, pop3, event, begun, opened)


class HomeThatEnds(FakeImap):
    async def _answer(self, line: str, writer: asyncio.StreamWriter) -> None:
        await super()._answer(line, writer)
        if line.endswith("LOGOUT"):
            writer.close()


def a_home(**replies: bytes) -> FakeImap:
    usual = {"AUTHENTICATE": WELCOME, "SELECT": SELECTED, "UID FETCH": BODY, "LOGOUT": b"* BYE leaving\r\n{tag} OK bye",
             "UID FETCH 1:* (UID RFC822.SIZE FLAGS)": LISTED}
    return HomeThatEnds(replies={**usual, **replies})


@asynccontextmanager
async def in_front_of(
    fake: FakeImap, tls: ServerContexts | None = None, *, implicit: bool = True, idle: float = 600.0, bugs: int = 0,
    **options: Any,
) -> AsyncIterator[Edge]:
    def handler(parts: MailboxParts) -> Pop3Edge:
        return Told(parts, Pop3Rules(plaintext_login=tls is None, idle=idle))

    TASKS.clear()
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    async with fake.running():
        here = Endpoint("127.0.0.1", fake.port)
        home = replace(server("s1"), imap=here, delivery=here, kind="dovecot")
        directory = Book((EXAMPLE,), [Unit("head")], [home])
        directory.apply(Delta(1, accounts=(JOE, ANN)))
        made = make_backend(home, Tools(ClientContexts(), Eyes(), Chance(), "edge.example"))
        over_tls = implicit and tls is not None
        async with edge_before(lambda name: made, directory, handler, tls=tls, implicit=over_tls, **options) as running:
            yield running
        await made.close()
    assert len(told) == bugs


LOG_IN = b"USER joe\r\nPASS right\r\n"


async def session(running: Edge, words: bytes = LOG_IN + b"STAT\r\nUIDL\r\nQUIT\r\n", step: int = 10_000) -> bytes:
    """All that the client hears."""
    client = await running.connect()
    for at in range(0, len(words), step):
        client.send(words[at : at + step])
        await client.writer.drain()
        await asyncio.sleep(0)
    said = await client.rest()
    client.close()
    return said


async def over(running: Edge, count: int) -> list[dict[str, object]]:
    while len(notes := running.notes.named("logout")) < count or len(running.parts.relays):
        await asyncio.sleep(0.005)
    return notes


async def known(running: Edge) -> None:
    await session(running)
    await over(running, 1)
    TASKS.clear()


async def while_the_folder_is_opened(running: Edge, fake: FakeImap) -> Client:
    """One whose home has let it in, and does not say what is in the folder."""
    await known(running)
    fake.lines.clear()
    fake.replies["SELECT"] = HANG
    client = await running.connect()
    await client.line()
    client.send(LOG_IN)
    while not any("SELECT" in line for line in fake.lines):
        await asyncio.sleep(0.005)
    return client


async def inside(running: Edge) -> Client:
    client = await running.connect()
    await client.line()
    client.send(LOG_IN)
    assert [await client.line() for _ in range(2)][1].startswith("+OK Logged in, 2 messages")
    return client


def comparable(events: list[tuple[str, dict[str, object]]]) -> list[tuple[str, dict[str, object]]]:
    return [(event, {key: value for key, value in fields.items() if key != "seconds"}) for event, fields in events]


@pytest.mark.parametrize(
    "log_in", [LOG_IN, b"USER JOE@example.com\r\nPASS right\r\n", b"USER ann\r\nPASS right\r\n",
               b"CAPA\r\nAUTH PLAIN AGpvZQByaWdodA==\r\n", b"AUTH PLAIN\r\nAGpvZQByaWdodA==\r\n"],
)  # fmt: skip
@pytest.mark.parametrize("step", [1, 7, 10_000])
async def test_the_same_with_and_without(log_in: bytes, step: int) -> None:
    fake = a_home()
    async with in_front_of(fake) as running:
        heard, lines = [], []
        for number in range(3):
            fake.lines.clear()
            heard.append(await session(running, log_in + b"STAT\r\nUIDL\r\nLIST 2\r\nDELE 1\r\nRSET\r\nQUIT\r\n", step))
            await over(running, number + 1)
            while not any("LOGOUT" in line for line in fake.lines):
                await asyncio.sleep(0.005)
            lines.append([line.partition(" ")[2] for line in fake.lines if " ID " not in line])
        assert len(TASKS) == 1, "the second and the third took no task"
        assert heard[0] == heard[1] == heard[2] and heard[0].endswith(
            b"+OK Logged in, 2 messages (123 octets).\r\n+OK 2 123\r\n+OK\r\n1 000000040000004d\r\n2 000000090000004d"
            b"\r\n.\r\n+OK 2 23\r\n+OK Message 1 deleted.\r\n+OK Nothing is deleted.\r\n+OK Bye.\r\n"
        )
        assert lines[0] == lines[1] == lines[2]
        assert lines[0][1:] == ["SELECT INBOX", "UID FETCH 1:* (UID RFC822.SIZE FLAGS)", "LOGOUT"]
        events = comparable(running.notes.events)
        assert events[:2] == events[2:4] == events[4:] and [event for event, _ in events[:2]] == ["login", "logout"]
        assert events[1][1]["ended"] == "quit"
        values = running.parts.log_ins._parts.count.dump()  # type: ignore[attr-defined]
        assert [value for name, _, value, _ in values if name == "logins_total"] == [3]


async def test_nothing_is_left_that_only_a_search_would_free() -> None:
    async with in_front_of(a_home()) as running:
        gc.collect()
        gc.disable()
        try:
            for number in range(3):
                await session(running)
                await over(running, number + 1)
            await asyncio.sleep(0)
            left = Counter(map(type, gc.get_objects()))
            assert [left[kind] for kind in (Pop3Visit, Pop3Server, Mailbox, Opened)] == [0, 0, 0, 0]
        finally:
            gc.enable()


@pytest.mark.parametrize("implicit", [True, False])
async def test_over_tls(certificate: Certificate, implicit: bool) -> None:
    contexts = ServerContexts([CertificateFiles(str(certificate.cert), str(certificate.key))])
    async with in_front_of(a_home(), contexts, implicit=implicit) as running:
        heard = []
        for number in range(2):
            trust = certificate.client_context() if implicit else None
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", running.port, ssl=trust, server_hostname="localhost" if implicit else None
            )
            client = Client(reader, writer)
            assert await client.line() == "+OK OneDomain ready."
            if not implicit:
                # What is put behind it in the clear is nobody's.
                client.send(b"USER eve\r\nSTLS\r\nUSER eve\r\n")
                assert [await client.line() for _ in range(2)][1] == "+OK Begin TLS negotiation now."
                await client.writer.start_tls(certificate.client_context(), server_hostname="localhost")
                assert await client.ask("PASS right") == "-ERR USER first."
            client.send(LOG_IN + b"STAT\r\nQUIT\r\n")
            heard.append(await client.rest())
            client.close()
            await over(running, number + 1)
        assert heard[0] == heard[1] and heard[0].endswith(b"+OK 2 123\r\n+OK Bye.\r\n") and len(TASKS) == 1


async def test_tls_where_the_answer_does_not_leave_at_once(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    contexts = ServerContexts([CertificateFiles(str(certificate.cert), str(certificate.key))])
    async with in_front_of(a_home(), contexts, implicit=False) as running:
        client = await running.connect()
        await client.line()
        taken, blocked = PlainWire.send, [BLOCKED]

        def send(wire: PlainWire, data: Bytes) -> int:
            return blocked.pop() if b"Begin TLS" in bytes(data) and blocked else taken(wire, data)

        monkeypatch.setattr(PlainWire, "send", send)
        client.send(b"STLS\r\n")
        assert await client.line() == "+OK Begin TLS negotiation now." and len(TASKS) == 1
        await asyncio.wait_for(
            client.writer.start_tls(certificate.client_context(), server_hostname="localhost"), 5
        )
        client.send(LOG_IN + b"QUIT\r\n")
        assert (await client.rest()).endswith(b"+OK Bye.\r\n")
        client.close()


async def test_a_greeting_that_does_not_leave_at_once(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind TLS with the first words in the same packet: they are the task's to hear."""
    contexts = ServerContexts([CertificateFiles(str(certificate.cert), str(certificate.key))])
    async with in_front_of(a_home(), contexts) as running:
        taken, blocked = TlsWire.send, [BLOCKED]
        heard: list[int] = []

        def send(wire: TlsWire, data: Bytes) -> int:
            return blocked.pop() if blocked and b"ready" in bytes(data) else taken(wire, data)

        monkeypatch.setattr(TlsWire, "send", send)
        monkeypatch.setattr(TlsWire, "buffered", lambda _: True)
        monkeypatch.setattr(Pop3Visit, "heard", lambda _, mask: heard.append(mask))
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", running.port, ssl=certificate.client_context(), server_hostname="localhost"
        )
        client = Client(reader, writer)
        client.send(b"QUIT\r\n")
        assert await client.rest() == b"+OK OneDomain ready.\r\n+OK Bye.\r\n"
        assert len(TASKS) == 1 and not heard
        client.close()


async def test_reading_and_removing_are_a_tasks() -> None:
    fake = a_home()
    async with in_front_of(fake) as running:
        await known(running)
        fake.lines.clear()
        client = await inside(running)
        client.send(b"RETR 1\r\n")
        assert [await client.line() for _ in range(3)] == ["+OK 12 octets", "Subject: x", "."]
        assert len(TASKS) == 1 == len(running.parts.relays)
        client.send(b"DELE 2\r\nQUIT\r\n")
        assert await client.rest() == b"+OK Message 2 deleted.\r\n+OK Bye.\r\n"
        client.close()
        await over(running, 2)
        assert [line.partition(" ")[2] for line in fake.lines[2:]][:5] == [
            "SELECT INBOX", "UID FETCH 1:* (UID RFC822.SIZE FLAGS)", "UID FETCH 4 BODY.PEEK[]",
            "UID STORE 9 +FLAGS.SILENT (\\Deleted)", "UID EXPUNGE 9"]
        assert running.parts.relays._counts.total("sessions of joe@example.com") == 0  # type: ignore[attr-defined]


Change = Callable[[Edge, FakeImap], None]


def _disabled(running: Edge, fake: FakeImap) -> None:
    running.change(replace(JOE, enabled=False))


def _down(running: Edge, fake: FakeImap) -> None:
    running.board.verdicts["s1"] = Verdict.REFUSING


def _full(running: Edge, fake: FakeImap) -> None:
    running.parts.relays._limit = 1
    running.parts.relays.take(JOE)


def _refusing(running: Edge, fake: FakeImap) -> None:
    fake.replies["AUTHENTICATE"] = b"{tag} NO [AUTHENTICATIONFAILED] no"


def _no_folder(running: Edge, fake: FakeImap) -> None:
    fake.replies["SELECT"] = b"{tag} NO there is none"


def _nonsense(running: Edge, fake: FakeImap) -> None:
    fake.replies["UID FETCH 1:* (UID RFC822.SIZE FLAGS)"] = b"* 1 FETCH (UID)"


def _cut(running: Edge, fake: FakeImap) -> None:
    fake.replies["SELECT"] = CUT


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        (_disabled, "-ERR [AUTH] Authentication failed."),
        (_down, "-ERR [SYS/TEMP] Your mail server is not available now, please try again later."),
        (_full, "-ERR [IN-USE] Too many sessions of this account."),
        (_refusing, "-ERR [SYS/TEMP] Your mail server did not let you in."),
        (_no_folder, "-ERR [SYS/TEMP] Your mail server does not answer properly, please try again later."),
        (_nonsense, "-ERR [SYS/TEMP] Your mail server does not answer properly, please try again later."),
        (_cut, "-ERR [SYS/TEMP] Your mail server does not answer properly, please try again later."),
    ],
)
async def test_what_is_no_longer_so(change: Change, answer: str) -> None:
    fake = a_home()
    async with in_front_of(fake) as running:
        await known(running)
        change(running, fake)
        client = await running.connect()
        await client.line()
        await client.ask("USER joe")
        assert await client.ask("PASS right") == answer and len(TASKS) == 1
        client.close()


async def test_a_change_of_home_while_the_folder_is_opened() -> None:
    fake = a_home()
    async with in_front_of(fake) as running:
        await known(running)
        answered = fake._answer

        async def moving(line: str, writer: asyncio.StreamWriter) -> None:
            if "SELECT" in line and not TASKS:
                running.change(replace(JOE, home=Home("s1", epoch=3)))
            await answered(line, writer)

        fake._answer = moving  # type: ignore[method-assign]
        client = await inside(running)
        assert len(TASKS) == 1
        [seat] = running.parts.relays._seats["joe@example.com"]
        assert seat.account.home.epoch == 3
        client.close()


async def test_a_lease_that_is_lost_while_the_folder_is_opened() -> None:
    fake, lease = a_home(), Lease()
    async with in_front_of(fake, gate=lease) as running:
        await known(running)
        answered = fake._answer

        async def losing(line: str, writer: asyncio.StreamWriter) -> None:
            if "SELECT" in line:
                lease.held = False
            await answered(line, writer)

        fake._answer = losing  # type: ignore[method-assign]
        client = await running.connect()
        await client.line()
        client.send(LOG_IN)
        refused = [await client.line() for _ in range(2)][1]
        assert refused.startswith("-ERR [SYS/TEMP] Your mail server is not available")
        assert len(TASKS) == 1
        client.close()


async def test_a_home_that_goes_down_while_the_folder_is_opened() -> None:
    fake = a_home()
    async with in_front_of(fake) as running:
        client = await while_the_folder_is_opened(running, fake)
        running.board.verdicts["s1"] = Verdict.SILENT
        running.parts.homes.board_changed()
        refused = [await client.line() for _ in range(2)][1]
        assert refused.startswith("-ERR [SYS/TEMP] Your mail server is not available")
        assert len(TASKS) == 1 and not running.parts.homes.waiting
        client.close()


async def test_one_that_fails_at_the_news_keeps_it_from_nobody() -> None:
    class Defect:
        def board_changed(self) -> None:
            raise ValueError("a defect")

    fake = a_home()
    async with in_front_of(fake) as running:
        homes = running.parts.homes
        client = await while_the_folder_is_opened(running, fake)
        told: list[object] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
        good = set(homes.waiting)
        for _ in range(20):  # whichever comes first in the set
            homes.waiting.add(Defect())
        running.board.verdicts["s1"] = Verdict.SILENT
        homes.board_changed()
        refused = [await client.line() for _ in range(2)][1]
        assert refused.startswith("-ERR [SYS/TEMP]") and not good & homes.waiting
        assert [str(error) for error in told] == ["a defect"] * 20
        client.close()


async def test_what_is_said_of_other_servers_while_the_folder_is_opened() -> None:
    """The board is told of every one. The log-in goes on where it is, and the home is not asked twice."""
    fake = a_home()
    async with in_front_of(fake) as running:
        client = await while_the_folder_is_opened(running, fake)
        running.board.verdicts["s2"] = Verdict.SILENT
        running.parts.homes.board_changed()
        await asyncio.sleep(0)
        assert not TASKS and len(running.parts.homes.waiting) == 1
        client.close()


async def test_a_home_that_is_silent_while_the_folder_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = a_home()
    async with in_front_of(fake) as running:
        await known(running)
        monkeypatch.setattr(pop3_visit, "ANSWER_SECONDS", 0.1)
        fake.replies["SELECT"] = HANG
        client = await running.connect()
        await client.line()
        client.send(LOG_IN)
        while not TASKS:
            await asyncio.sleep(0.02)
        client.close()


@pytest.mark.parametrize("as_task", [False, True])
async def test_a_home_that_never_ends_what_it_says(as_task: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = a_home()
    async with in_front_of(fake) as running:
        if not as_task:
            await known(running)
        monkeypatch.setattr(mailbox, "OPEN_SECONDS", 0.05)
        answered = fake._answer

        async def endless(line: str, writer: asyncio.StreamWriter) -> None:
            if "SELECT" not in line:
                await answered(line, writer)
                return
            for _ in range(200):
                writer.write(b"* OK still at it\r\n")
                await asyncio.sleep(0.01)

        fake._answer = endless  # type: ignore[method-assign]
        client = await running.connect()
        await client.line()
        client.send(LOG_IN)
        refused = [await asyncio.wait_for(client.line(), 1) for _ in range(2)][1]
        assert refused.startswith("-ERR [SYS/TEMP] Your mail server does not answer properly")
        assert len(TASKS) == 1
        client.close()


@pytest.mark.parametrize("reading", [False, True])
async def test_a_change_of_home_ends_it(reading: bool) -> None:
    """At any moment: also while it is becoming a task, which is when nobody else would look."""
    fake = a_home()
    async with in_front_of(fake) as running:
        await known(running)
        client = await inside(running)
        moved = replace(JOE, home=Home("s2", epoch=2))
        if reading:
            made = Pop3Edge.go_on

            def moving(*words: Any) -> Coroutine[Any, Any, None]:
                work = made(*words)
                running.change(moved)
                return work

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Pop3Edge, "go_on", moving)
                client.send(b"RETR 1\r\n")
                heard = await client.rest()
        else:
            running.change(moved)
            heard = await client.rest()
        assert heard == b"-ERR [SYS/TEMP] Your mailbox has moved to another server, please log in again.\r\n"
        client.close()
        assert [note["ended"] for note in await over(running, 2)] == ["quit", "lost"]
        assert running.parts.relays._counts.total("sessions of joe@example.com") == 0  # type: ignore[attr-defined]


async def test_too_long_without_a_command() -> None:
    fake = a_home()
    async with in_front_of(fake, idle=0.2) as running:
        await known(running)
        client = await inside(running)
        assert await client.ask("DELE 1") == "+OK Message 1 deleted."
        assert await client.rest() == b"-ERR [SYS/TEMP] Too long without a command.\r\n"
        client.close()
        await over(running, 2)
        assert not TASKS and not any("STORE" in line for line in fake.lines)


async def test_a_home_that_speaks_unasked_and_goes() -> None:
    fake = a_home()
    async with in_front_of(fake) as running:
        await known(running)
        writers: list[asyncio.StreamWriter] = []
        answered = fake._answer

        async def keeping(line: str, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            await answered(line, writer)

        fake._answer = keeping  # type: ignore[method-assign]
        client = await inside(running)
        writers[-1].write(b"* 3 EXISTS\r\n* BYE too long\r\n")
        await writers[-1].drain()
        writers[-1].close()
        await asyncio.sleep(0.05)
        rounds = Poller.running().rounds
        await asyncio.sleep(0.05)
        assert Poller.running().rounds < rounds + 5, "nobody is told of it again and again"
        assert await client.ask("STAT") == "+OK 2 123"
        assert await client.ask("QUIT") == "+OK Bye."
        await over(running, 2)
        assert not TASKS


async def test_stopping_says_goodbye() -> None:
    async with in_front_of(a_home()) as running:
        await known(running)
        waiting = await running.connect()
        await waiting.line()
        client = await inside(running)
    assert len(TASKS) == 1, "who has logged in may end as it is"
    for each in (waiting, client):
        assert await each.rest() == b"-ERR [SYS/TEMP] The server is shutting down.\r\n"
        each.close()


async def test_a_client_that_goes_at_any_time() -> None:
    fake = a_home()
    async with in_front_of(fake) as running:
        await known(running)
        for words in (b"", b"US", LOG_IN[:10], LOG_IN, LOG_IN + b"STAT\r\n", LOG_IN + b"DELE 1\r\n"):
            client = await running.connect()
            await client.line()
            client.send(words)
            client.close()
        notes = await over(running, 4)
        assert [note["ended"] for note in notes] == ["quit", "lost", "lost", "lost"]
        assert running.parts.relays._counts.total("sessions of joe@example.com") == 0  # type: ignore[attr-defined]
        assert not running.parts.homes.waiting and not any("STORE" in line for line in fake.lines)


async def test_a_client_that_takes_nothing() -> None:
    """It asks for long lists and reads none of them: what is there is held, no more is made."""
    many = b"\r\n".join(b"* %d FETCH (UID %d RFC822.SIZE 10 FLAGS ())" % (n, n) for n in range(1, 20_000))
    async with in_front_of(a_home(**{"UID FETCH 1:* (UID RFC822.SIZE FLAGS)": many})) as running:
        await session(running, LOG_IN + b"QUIT\r\n")
        await over(running, 1)
        TASKS.clear()
        client = await running.connect()
        client.send(LOG_IN + b"UIDL\r\n" * 40)
        while not TASKS:
            await asyncio.sleep(0.01)
        client.send(b"QUIT\r\n")
        heard = await client.rest()
        assert heard.count(b"\r\n.\r\n") == 40 and heard.endswith(b"+OK Bye.\r\n")
        client.close()


class Turns:
    """Most commands answered within one turn of the loop."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.most = self._now = 0
        answered = Pop3Server._command

        def command(pop3: Pop3Server, line: bytes) -> Event | None:
            self._now += 1
            self.most = max(self.most, self._now)
            return answered(pop3, line)

        monkeypatch.setattr(Pop3Server, "_command", command)

    async def watch(self) -> None:
        while True:
            self._now = 0
            await asyncio.sleep(0)


@pytest.mark.parametrize("as_task", [False, True])
async def test_many_commands_at_once_leave_the_others_their_turns(
    as_task: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with in_front_of(a_home()) as running:
        await known(running)
        client = await inside(running)
        if as_task:
            client.send(b"RETR 1\r\n")
            assert [await client.line() for _ in range(3)][2] == "."
        turns = Turns(monkeypatch)
        watching = asyncio.create_task(turns.watch())
        client.send(b"STAT\r\n" * 2000)
        assert await client.line() == "+OK 2 123"
        client.send(b"DELE 1\r\nQUIT\r\n")  # while the others are being answered
        heard = await client.rest()
        assert heard == b"+OK 2 123\r\n" * 1999 + b"+OK Message 1 deleted.\r\n+OK Bye.\r\n"
        watching.cancel()
        client.close()
        await over(running, 2)
        assert 100 <= turns.most <= 2 * MAX_AT_ONCE


@pytest.mark.parametrize("how", ["cut", "stopped", "task"])
async def test_what_comes_between_many_commands(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with in_front_of(a_home()) as running:
        await known(running)
        client = await inside(running)
        [visit] = [each for each in gc.get_objects() if type(each) is Pop3Visit and each._opened is not None]
        turns = 0
        going = Pop3Visit._go

        def go(visit: Pop3Visit) -> None:
            nonlocal turns
            going(visit)
            turns += 1
            if turns == 2:
                if how == "cut":
                    running.change(replace(JOE, home=Home("s2", epoch=2)))
                else:
                    visit.abort() if how == "stopped" else visit.as_task()

        monkeypatch.setattr(Pop3Visit, "_go", go)
        client.send(b"STAT\r\n" * 1000 + b"QUIT\r\n")
        heard = await client.rest()
        if how == "task":
            assert heard == b"+OK 2 123\r\n" * 1000 + b"+OK Bye.\r\n"
        else:
            assert heard.startswith(b"+OK 2 123\r\n" * 2 * MAX_AT_ONCE + b"-ERR [SYS/TEMP] ")
        client.close()
        await over(running, 2)
        assert turns == 2, "nothing is left of it"
        assert len(TASKS) == (how == "task") and visit._again is None


@pytest.mark.parametrize(
    ("where", "what"),
    [(Pop3Server, "receive"), (Pop3Server, "_command"), (Mailbox, "begin_open"), (Mailbox, "listen"),
     (pop3_visit, "opened"), (Pop3Server, "opened")],
)  # fmt: skip
async def test_a_bug_ends_the_session_and_is_told(where: object, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with in_front_of(a_home(), bugs=1) as running:
        await known(running)
        client = await running.connect()
        await client.line()

        def broken(*_: object) -> None:
            raise KeyError("a bug")

        monkeypatch.setattr(where, what, broken)
        client.send(LOG_IN)
        await client.rest()
        client.close()
        assert [note["reason"] for note in running.notes.named("session failed")] == ["KeyError: 'a bug'"]
        assert not running.parts.homes.waiting and not len(running.parts.relays) and not TASKS
