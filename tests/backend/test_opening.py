"""A log-in at a home without a task, beside the same one with: what is said, and what comes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from onedomain.backend.base import ClientInfo, Session
from onedomain.backend.mailserver import MailServer
from onedomain.model.failure import Failed
from onedomain.model.server import LoginWay, TlsMode
from onedomain.net.poller import Poller
from tests.backend.test_imap_session import CLIENT, CUT, HANAKO, HANG, FakeImap, backend

WELCOME = b"{tag} OK [CAPABILITY IMAP4rev1 IDLE] Logged in"
USUAL = b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN ID] ready"


async def began(b: MailServer, password: str | None = "secret", client: ClientInfo = CLIENT) -> Session | None:
    """The session, or None: the ordinary way has to go on. What that comes to is `finished`."""
    done: asyncio.Future[Session | None] = asyncio.get_running_loop().create_future()
    opening = b.begin(HANAKO, password, lambda: client, Poller.running(), done.set_result)
    assert opening is not None and b.in_flight == 1
    try:
        return await asyncio.wait_for(done, 0.4)
    except TimeoutError:
        opening.stop()
        return None
    finally:
        assert b.in_flight == 0
        b.opening = opening  # type: ignore[attr-defined]


async def finished(b: MailServer, password: str | None = "secret") -> Session | None:
    return await b.opening.finish(HANAKO, password)  # type: ignore[attr-defined, no-any-return]


@asynccontextmanager
async def told(session: Session | None) -> AsyncIterator[tuple[str, tuple[str, ...], str]]:
    assert session is not None
    yield session.server, session.capabilities, session.text
    session.stream.close()


@pytest.mark.parametrize("kind", ["imap", "dovecot", "cyrus"])
@pytest.mark.parametrize("way", LoginWay)
@pytest.mark.parametrize("client", [CLIENT, ClientInfo('19"2', 4711), ClientInfo()])
async def test_the_same_is_said_and_heard(kind: str, way: LoginWay, client: ClientInfo) -> None:
    password = "sécret" if way is LoginWay.PASSWORD else None
    async with FakeImap(USUAL, {"AUTHENTICATE": WELCOME}).running() as fake, backend(fake, way, kind=kind) as b:
        async with told(await b.log_in(HANAKO, password, client)) as first:
            lines = list(fake.lines)
            fake.lines.clear()
            async with told(await began(b, password, client)) as second:
                assert fake.lines == lines and first == second
        watched = b._tools.watch.sightings  # type: ignore[attr-defined]
        assert [(each.seen, each.face) for each in watched[:1]] == [(each.seen, each.face) for each in watched[1:]]


@pytest.mark.parametrize(
    "greeting",
    [
        b"* OK ready",
        b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] no SASL-IR",
        b"* OK [CAPABILITY IMAP4rev1 SASL-IR] no PLAIN",
        b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] two\r\n* OK lines",
        b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] " + b"long " * 1000,
        b"* PREAUTH [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] in already",
        b"* BYE not now",
        b"220 mail.example.com ESMTP",
        CUT,
        HANG,
    ],
)
async def test_another_greeting(greeting: bytes) -> None:
    """The ordinary way goes on with the same connection, to the same end."""
    async with FakeImap(greeting, {"AUTHENTICATE": WELCOME}).running() as fake, backend(fake) as b:
        await _same_end(b, fake)


@pytest.mark.parametrize(
    "answer",
    [
        b"{tag} OK Logged in",  # asks for the capabilities
        b"* CAPABILITY IMAP4rev1 IDLE\r\n{tag} OK in",
        b"* BYE\r\n{tag} OK [CAPABILITY IMAP4rev1] and more\r\n* 1 EXISTS",
        b"{tag} NO [AUTHENTICATIONFAILED] wrong",
        b"{tag} NO [UNAVAILABLE] not now",
        b"{tag} BAD what",
        b"x7 OK who is that",
        b"+ go on",
        b"* BYE leaving",
        CUT,
        HANG,
    ],
)
@pytest.mark.parametrize("kind", ["imap", "dovecot"])
async def test_another_answer(answer: bytes, kind: str) -> None:
    async with FakeImap(USUAL, {"AUTHENTICATE": answer}).running() as fake, backend(fake, kind=kind) as b:
        await _same_end(b, fake)


async def _same_end(b: MailServer, fake: FakeImap) -> None:
    ends = []
    said = []
    for _ in range(2):
        fake.lines.clear()
        try:
            session = await b.log_in(HANAKO, "secret", CLIENT) if not ends else await began(b) or await finished(b)
            async with told(session) as told_of:
                ends.append(repr((told_of, session.stream.take_unread() if session else b"")))
        except Failed as error:
            ends.append(repr((error.failure.kind, error.failure.code, type(error), getattr(error, "seen", None))))
        said.append([line.partition(" ")[2] for line in fake.lines])
    assert ends[0] == ends[1]
    assert said[0] == said[1], "nothing is asked twice"
    assert b.in_flight == 0


async def test_an_answer_in_pieces() -> None:
    fake = FakeImap(USUAL, {"AUTHENTICATE": WELCOME})

    async def say(writer: asyncio.StreamWriter, reply: bytes) -> None:
        for byte in reply + b"\r\n":
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)

    fake._say = say  # type: ignore[method-assign]
    async with fake.running(), backend(fake, kind="dovecot") as b:
        async with told(await began(b)) as session:
            assert session == ("mail1", ("IDLE", "IMAP4REV1"), "Logged in")


async def test_where_it_can_not_begin() -> None:
    """A name to look up, TLS, PROXY, no way in: those are waited for by a task."""
    async with FakeImap().running() as fake:
        async with backend(fake, tls=TlsMode.STARTTLS) as b:
            assert b.begin(HANAKO, "secret", lambda: CLIENT, Poller.running(), lambda _: None) is None
        async with backend(fake) as b:
            assert b.begin(HANAKO, None, lambda: CLIENT, Poller.running(), lambda _: None) is None
            assert b.in_flight == 0


async def test_nobody_listens() -> None:
    async with FakeImap().running() as fake:
        pass
    async with backend(fake) as b:
        ends = []
        for _ in range(2):
            with pytest.raises(Failed) as error:
                await (b.log_in(HANAKO, "secret", CLIENT) if not ends else finished(b))
            ends.append(str(error.value.failure.reason))
            if len(ends) == 1:
                assert await began(b) is None
        assert ends[0] == ends[1]
