"""IMAP sessions without a task, beside those with one: the same to the client, the home, the log and the counts."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest

from onedomain.backend.base import Begun
from onedomain.backend.mailserver import Tools
from onedomain.backend.registry import make_backend
from onedomain.directory.book import Book
from onedomain.directory.delta import Delta
from onedomain.edge import imap_visit
from onedomain.edge.imap import ImapEdge, ImapRules, MailboxParts
from onedomain.edge.imap_visit import ImapVisit
from onedomain.edge.relayed import Relayed
from onedomain.model.account import Account, Home, Unit
from onedomain.model.health import Verdict
from onedomain.model.server import Endpoint
from onedomain.net.flow import Flow
from onedomain.net.pump import Relay
from onedomain.net.stream import Stream
from onedomain.net.tls import CertificateFiles, ClientContexts, ServerContexts
from onedomain.protocol.imap.front import Event, Front
from tests.backend.contract import Chance, Eyes
from tests.backend.test_imap_session import CUT, HANG, FakeImap
from tests.directory.views import EXAMPLE, server
from tests.edge.kit import Client, Edge, edge_before
from tests.lab.tls import Certificate

JOE = Account("joe@example.com", "head", Home("s1"), password="{X}right")
ANN = Account("ann@example.com", "head", Home("s1"))
WELCOME = b"{tag} OK [CAPABILITY IMAP4rev1 SASL-IR IDLE] Welcome"
TASKS: list[Begun | None] = []
"""One for each session that went on as a task."""


def handler(parts: MailboxParts) -> ImapEdge:
    return Told(parts, ImapRules(plaintext_login=True))


class Told(ImapEdge):
    async def go_on(self, stream: Stream, front: Front, event: Event | None, begun: Begun | None) -> None:
        TASKS.append(begun)
        await super().go_on(stream, front, event, begun)


@asynccontextmanager
async def in_front_of(
    *fakes: FakeImap, tls: ServerContexts | None = None, implicit: bool = True, **options: int
) -> AsyncIterator[Edge]:
    """They are s1, s2 and so on."""
    TASKS.clear()
    async with AsyncExitStack() as stack:
        homes = {}
        for number, fake in enumerate(fakes, 1):
            await stack.enter_async_context(fake.running())
            here = Endpoint("127.0.0.1", fake.port)
            home = replace(server(f"s{number}"), imap=here, delivery=here, kind="dovecot")
            homes[home.name] = make_backend(home, Tools(ClientContexts(), Eyes(), Chance(), "edge.example"))
            stack.push_async_callback(homes[home.name].close)
        directory = Book((EXAMPLE,), [Unit("head")], [made.server for made in homes.values()])
        directory.apply(Delta(1, accounts=(JOE, ANN)))
        over_tls = implicit and tls is not None
        before = edge_before(homes.__getitem__, directory, handler, tls=tls, implicit=over_tls, **options)
        async with before as running:
            yield running


class HomeThatEnds(FakeImap):
    async def _answer(self, line: str, writer: asyncio.StreamWriter) -> None:
        await super()._answer(line, writer)
        if line.endswith("LOGOUT"):
            writer.close()


def a_home(**replies: bytes) -> FakeImap:
    return HomeThatEnds(replies={"AUTHENTICATE": WELCOME, "LOGOUT": b"* BYE leaving\r\n{tag} OK bye", **replies})


async def session(running: Edge, first: bytes = b"a LOGIN joe right\r\n") -> bytes:
    """All that the client hears."""
    client = await running.connect()
    said = (await client.line()).encode() + b"\n"
    client.send(first)
    said += await client.reader.readuntil(b"\n")
    client.send(b"b NOOP\r\n")
    said += await client.reader.readuntil(b"\n")
    client.send(b"c LOGOUT\r\n")
    said += await client.rest()
    client.close()
    return said


async def over(running: Edge, count: int) -> list[dict[str, object]]:
    while len(notes := running.notes.named("logout")) < count or len(running.parts.relays):
        await asyncio.sleep(0.005)
    return notes


def comparable(events: list[tuple[str, dict[str, object]]]) -> list[tuple[str, dict[str, object]]]:
    return [(event, {key: value for key, value in fields.items() if key != "seconds"}) for event, fields in events]


@pytest.mark.parametrize(
    "words", [b"a LOGIN joe right\r\n", b'a login "JOE@example.com" right\r\n', b"a LOGIN ann right\r\n",
              b"a AUTHENTICATE PLAIN AGpvZQByaWdodA==\r\n"],
)  # fmt: skip
async def test_the_same_with_and_without(words: bytes) -> None:
    fake = a_home()
    async with in_front_of(fake) as running:
        heard, lines = [], []
        for number in range(3):
            fake.lines.clear()
            heard.append(await session(running, words))
            await over(running, number + 1)
            lines.append([line for line in fake.lines if " ID " not in line])
        assert len(TASKS) == 1, "the second and the third took no task"
        assert heard[0] == heard[1] == heard[2] and b"a OK [CAPABILITY IMAP4rev1 IDLE] Welcome" in heard[0]
        assert lines[0] == lines[1] == lines[2] and lines[0][0].startswith("a2 AUTHENTICATE PLAIN ")
        events = comparable(running.notes.events)
        assert events[:2] == events[2:4] == events[4:] and [event for event, _ in events[:2]] == ["login", "logout"]
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
            assert [left[kind] for kind in (Relayed, Relay, Flow, ImapVisit)] == [0, 0, 0, 0]
        finally:
            gc.enable()


async def test_over_tls(certificate: Certificate) -> None:
    contexts = ServerContexts([CertificateFiles(str(certificate.cert), str(certificate.key))])
    async with in_front_of(a_home(), tls=contexts) as running:
        heard = []
        for number in range(2):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", running.port, ssl=certificate.client_context(), server_hostname="localhost"
            )
            client = Client(reader, writer)
            await client.line()
            heard.append([await client.ask("a LOGIN joe right"), await client.ask("b NOOP")])
            client.send(b"c LOGOUT\r\n")
            assert (await client.rest()).endswith(b"c OK bye\r\n")
            client.close()
            await over(running, number + 1)
        assert heard[0] == heard[1] and len(TASKS) == 1


async def test_behind_starttls(certificate: Certificate) -> None:
    contexts = ServerContexts([CertificateFiles(str(certificate.cert), str(certificate.key))])
    async with in_front_of(a_home(), tls=contexts, implicit=False) as running:
        heard = []
        for number in range(2):
            client = await running.connect()
            assert "STARTTLS" in await client.line()
            client.send(b"r CAPABILITY\r\n")
            assert [await client.line() for _ in range(2)][1].startswith("r OK")
            client.send(b"s STARTTLS\r\na LOGIN joe wrong\r\n")
            assert (await client.line()).startswith("s OK")
            await client.writer.start_tls(certificate.client_context(), server_hostname="localhost")
            heard.append([await client.ask("a LOGIN joe right"), await client.ask("b NOOP")])
            client.send(b"c LOGOUT\r\n")
            assert (await client.rest()).endswith(b"c OK bye\r\n")
            client.close()
            await over(running, number + 1)
        assert heard[0] == heard[1] and heard[0][0].startswith("a OK") and len(TASKS) == 1
        assert [note["ended"] for note in running.notes.named("logout")] == ["server", "server"]


async def test_a_handshake_behind_starttls_that_fails(certificate: Certificate) -> None:
    contexts = ServerContexts([CertificateFiles(str(certificate.cert), str(certificate.key))])
    async with in_front_of(a_home(), tls=contexts, implicit=False) as running:
        client = await running.connect()
        await client.line()
        client.send(b"s STARTTLS\r\n")
        assert (await client.line()).startswith("s OK")
        client.send(b"a LOGIN joe right\r\n")
        assert b"OK" not in await client.rest()
        client.close()
        while not running.notes.named("connection lost"):
            await asyncio.sleep(0.005)
        assert not TASKS


async def known(running: Edge, words: bytes = b"a LOGIN joe right\r\n") -> None:
    await session(running, words)
    await over(running, 1)
    TASKS.clear()


async def asked(running: Edge, words: str = "a LOGIN joe right") -> tuple[Client, str]:
    client = await running.connect()
    await client.line()
    return client, await client.ask(words)


Change = Callable[[Edge, FakeImap], None]


def _disabled(running: Edge, fake: FakeImap) -> None:
    running.change(replace(JOE, enabled=False))


def _other_password(running: Edge, fake: FakeImap) -> None:
    running.change(replace(JOE, password="{X}new"))


def _down(running: Edge, fake: FakeImap) -> None:
    running.board.verdicts["s1"] = Verdict.REFUSING


def _full(running: Edge, fake: FakeImap) -> None:
    running.parts.relays._limit = 1
    running.parts.relays.take(JOE)


def _refusing(running: Edge, fake: FakeImap) -> None:
    fake.replies["AUTHENTICATE"] = b"{tag} NO [AUTHENTICATIONFAILED] no"


def _cut(running: Edge, fake: FakeImap) -> None:
    fake.replies["AUTHENTICATE"] = CUT


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        (_disabled, "a NO [AUTHENTICATIONFAILED] Authentication failed."),
        (_other_password, "a NO [AUTHENTICATIONFAILED] Authentication failed."),
        (_down, "a NO [UNAVAILABLE] Your mail server is not available now, please try again later."),
        (_full, "a NO [LIMIT] Too many sessions of this account."),
        (_refusing, "a NO [UNAVAILABLE] Your mail server did not let you in."),
        (_cut, "a NO [UNAVAILABLE] the connection to the mail server broke"),
    ],
)
async def test_what_is_no_longer_so(change: Change, answer: str) -> None:
    fake = a_home()
    async with in_front_of(fake) as running:
        await known(running)
        change(running, fake)
        fake.lines.clear()
        client, said = await asked(running)
        assert said == answer and len(TASKS) == 1
        assert bool(fake.lines) is (change in (_refusing, _cut)), "the others are not for the home to decide"
        client.close()


async def test_a_home_that_changes_its_mind_is_asked_once() -> None:
    """Ann's password is the home's: a refusal counts as one, however it was asked."""
    fake = a_home()
    async with in_front_of(fake) as running:
        await known(running, b"a LOGIN ann right\r\n")
        fake.lines.clear()
        fake.replies["AUTHENTICATE"] = b"{tag} NO [AUTHENTICATIONFAILED] no"
        client, said = await asked(running, "a LOGIN ann right")
        assert said.startswith("a NO [AUTHENTICATIONFAILED]")
        assert len([line for line in fake.lines if "AUTHENTICATE" in line]) == 1 == len(TASKS)
        now = running.parts.log_ins._parts.clock.monotonic()
        assert running.failures.penalty("login to ann@example.com", now) > 0.9
        client.close()


async def test_failures_from_the_address_make_it_wait() -> None:
    async with in_front_of(a_home()) as running:
        await known(running)
        now = running.parts.log_ins._parts.clock.monotonic()
        for _ in range(4):
            running.failures.add_penalty("login from 127.0.0.1", now)
        client = await running.connect()
        await client.line()
        client.send(b"a LOGIN joe right\r\n")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.reader.readline(), 0.3)
        assert len(TASKS) == 1
        client.close()


async def test_behind_a_line_of_tries_it_is_one_of_them() -> None:
    async with in_front_of(a_home()) as running:
        await known(running)
        turn = await running.parts.log_ins._turns.take("login to joe@example.com")
        client, said = await asked(running)
        assert said.startswith("a OK") and len(TASKS) == 1
        turn.leave()
        client.close()


@pytest.mark.parametrize(
    "words",
    [
        b"x CAPABILITY\r\na LOGIN joe right\r\n",
        b'x ID ("name" "Mail")\r\na LOGIN joe {5+}\r\nright\r\n',
        b"x NONE\r\na AUTHENTICATE PLAIN\r\nAGpvZQByaWdodA==\r\nb NOOP\r\n",
        b"a LOGIN joe right\r\nb NOOP\r\nc NOOP\r\n",
    ],
)
@pytest.mark.parametrize("step", [1, 7, 1000])
async def test_whatever_a_client_says_before(words: bytes, step: int) -> None:
    async with in_front_of(a_home()) as running:
        heard, notes = [], []
        for number in range(3):
            client = await running.connect()
            await client.line()
            for at in range(0, len(words), step):
                client.send(words[at : at + step])
                await client.writer.drain()
                await asyncio.sleep(0)
            client.send(b"z LOGOUT\r\n")
            heard.append(await client.rest())
            client.close()
            notes = await over(running, number + 1)
        assert heard[0] == heard[1] == heard[2] and b"a OK [CAPABILITY IMAP4rev1 IDLE] Welcome\r\n" in heard[0]
        assert len(TASKS) == 1
        assert {note["program"] for note in notes} == {"Mail" if b"ID" in words else ""}


@pytest.mark.parametrize("words", [b"a LOGIN joe wrong\r\n", b"a STARTTLS\r\n", b"a LOGOUT\r\n"])
async def test_what_is_not_usual_is_heard_by_a_task(words: bytes) -> None:
    async with in_front_of(a_home()) as running:
        await known(running)
        client = await running.connect()
        await client.line()
        client.send(words)
        assert (await client.line())[:2] in ("a ", "* ")
        assert len(TASKS) == (0 if b"STARTTLS" in words else 1), "there is no TLS to be had"
        client.close()


async def test_a_client_that_says_nothing_yet() -> None:
    async with in_front_of(a_home()) as running:
        await known(running)
        client = await running.connect()
        await client.line()
        client.send(b"a LO")
        while not TASKS:
            await asyncio.sleep(0.02)
        client.send(b"GIN joe right\r\n")
        assert (await client.line()).startswith("a OK")
        client.close()


async def test_a_home_that_is_slow_is_waited_for_by_a_task() -> None:
    """With what it has said already."""
    fake = a_home()
    answer = asyncio.Event()
    async with in_front_of(fake) as running:
        await known(running)
        say = fake._say

        async def late(writer: asyncio.StreamWriter, reply: bytes) -> None:
            if b"Welcome" in reply:
                await answer.wait()
            await say(writer, reply)

        fake._say = late  # type: ignore[method-assign]
        fake.lines.clear()
        client = await running.connect()
        await client.line()
        client.send(b"a LOGIN joe right\r\nb ")
        while not TASKS:
            await asyncio.sleep(0.02)
        answer.set()
        assert (await client.line()).startswith("a OK")
        client.send(b"NOOP\r\n")
        assert await client.line() == "b OK done"
        assert len([line for line in fake.lines if "AUTHENTICATE" in line]) == 1
        client.close()


async def test_a_home_that_goes_down_meanwhile() -> None:
    fake = a_home()
    async with in_front_of(fake) as running:
        await known(running)
        fake.replies["AUTHENTICATE"] = HANG
        client = await running.connect()
        await client.line()
        client.send(b"a LOGIN joe right\r\n")
        while not any("AUTHENTICATE" in line for line in fake.lines[3:]):
            await asyncio.sleep(0.005)
        running.board.verdicts["s1"] = Verdict.SILENT
        running.parts.homes.board_changed()
        began = time.monotonic()
        assert (await client.line()).startswith("a NO [UNAVAILABLE]")
        assert time.monotonic() - began < 0.5 and len(TASKS) == 1 and not running.parts.homes.waiting
        client.close()


async def test_a_move_during_the_log_in() -> None:
    """The session that was opened at the old home is not used."""
    fake = a_home()
    async with in_front_of(fake) as running:
        await known(running)
        moved = replace(JOE, home=Home("s1", epoch=2))
        answered = fake._answer

        async def moving(line: str, writer: asyncio.StreamWriter) -> None:
            if "AUTHENTICATE" in line:
                running.change(moved)
            await answered(line, writer)

        fake._answer = moving  # type: ignore[method-assign]
        client, said = await asked(running)
        assert said.startswith("a OK") and len(TASKS) == 1
        [seat] = running.parts.relays._seats["joe@example.com"]
        assert seat.account.home.epoch == 2
        client.close()


async def test_a_promotion_during_the_log_in() -> None:
    """The old home was stopped, and answers when it is back: clients who waited are at the new one."""
    old, new = a_home(), a_home()
    async with in_front_of(old, new) as running:
        await known(running)
        back, say = asyncio.Event(), old._say

        async def late(writer: asyncio.StreamWriter, reply: bytes) -> None:
            if b"Welcome" in reply:
                await back.wait()
            await say(writer, reply)

        old._say = late  # type: ignore[method-assign]
        old.lines.clear()
        client = await running.connect()
        await client.line()
        client.send(b"a LOGIN joe right\r\n")
        while not any("AUTHENTICATE" in line for line in old.lines):
            await asyncio.sleep(0.005)
        promoted = Home("s2", ("s1",), epoch=2, pending=True)
        running.change(replace(JOE, home=promoted))
        running.parts.homes.board_changed()
        while not TASKS:
            await asyncio.sleep(0.005)
        running.change(replace(JOE, home=replace(promoted, pending=False)), seq=3)
        back.set()
        assert (await client.line()).startswith("a OK")
        client.send(b"b NOOP\r\n")
        assert await client.line() == "b OK done"
        assert new.lines[-1].endswith("NOOP") and not any("NOOP" in line for line in old.lines)
        client.close()


async def test_a_change_of_home_ends_it() -> None:
    async with in_front_of(a_home()) as running:
        await known(running)
        client, said = await asked(running)
        assert said.startswith("a OK") and not TASKS
        running.change(replace(JOE, home=Home("s2", epoch=2)))
        assert await client.rest() == (
            b"* BYE [UNAVAILABLE] Your mailbox has moved to another server, please log in again.\r\n"
        )
        client.close()
        assert [note["ended"] for note in await over(running, 2)] == ["server", "cut"]


async def test_stopping_says_goodbye() -> None:
    async with in_front_of(a_home()) as running:
        await known(running)
        waiting = await running.connect()
        await waiting.line()
        inside, said = await asked(running)
        assert said.startswith("a OK")
    assert await waiting.rest() == b"* BYE [UNAVAILABLE] The server is shutting down.\r\n"
    assert await inside.rest() == b"* BYE [UNAVAILABLE] The server is shutting down.\r\n"
    for client in (waiting, inside):
        client.close()


async def test_a_client_that_goes_at_any_time() -> None:
    fake = a_home()
    async with in_front_of(fake) as running:
        await known(running)
        for words in (b"", b"a LO", b"a LOGIN joe right\r\n"):
            client = await running.connect()
            await client.line()
            client.send(words)
            client.close()
        await over(running, 2)
        assert running.parts.relays._counts.total("sessions of joe@example.com") == 0  # type: ignore[attr-defined]
        assert not running.parts.homes.waiting


@pytest.mark.parametrize(
    ("where", "what"), [(Front, "receive"), (imap_visit, "relayed"), (Relayed, "welcome"), (ImapVisit, "_answer")]
)
async def test_a_bug_ends_the_session_and_is_told(where: object, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    async with in_front_of(a_home()) as running:
        await known(running)
        client = await running.connect()
        await client.line()

        def broken(*_: object) -> None:
            raise KeyError("a bug")

        monkeypatch.setattr(where, what, broken)
        client.send(b"x NOOP\r\n" if where is Front else b"a LOGIN joe right\r\n")
        assert await client.rest() == b""
        client.close()
        assert [note["reason"] for note in running.notes.named("session failed")] == ["KeyError: 'a bug'"]
        assert not running.parts.homes.waiting and not len(running.parts.relays) and not TASKS
    assert len(told) == 1
