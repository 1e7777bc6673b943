"""IMAP as a client of homes: what answers mean, what is sent, and what a server may throw at it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onedomain.backend.base import ClientInfo, Found
from onedomain.backend.imap_session import ImapTimes
from onedomain.backend.mailserver import MailServer, Tools
from onedomain.backend.registry import make_backend
from onedomain.backend.smtp_session import SmtpTimes
from onedomain.model.account import Account, Home
from onedomain.model.failure import Failed, Kind
from onedomain.model.health import Seen
from onedomain.model.server import Endpoint, LoginWay, Server, TlsMode
from onedomain.net.tls import ClientContexts
from tests.backend.contract import Chance, Eyes

CUT = b"CUT"
HANG = b"HANG"
QUICK = ImapTimes(connect=2, greeting=0.5, log_in=0.5, command=0.5, search=0.5)


@dataclass
class FakeImap:
    """Answers by a table: command name (with its first argument, if there is a line for that) to lines before the OK.

    A reply that ends in a tagged line of its own, written with {tag}, replaces the OK.
    """

    greeting: bytes = b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN ID] ready"
    replies: dict[str, bytes] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    reads: list[bytes] = field(default_factory=list)
    port: int = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[FakeImap]:
        tasks: set[asyncio.Task[Any]] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task
            tasks.add(task)
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await self._serve(reader, writer)
            writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._say(writer, self.greeting)
        waiting = b""
        while data := await reader.read(65536):
            self.reads.append(data)
            waiting += data
            while b"\n" in waiting:
                line, _, waiting = waiting.partition(b"\n")
                await self._answer(line.decode().rstrip("\r"), writer)

    async def _answer(self, line: str, writer: asyncio.StreamWriter) -> None:
        self.lines.append(line)
        tag, _, rest = line.partition(" ")
        words = rest.upper().split(" ")
        name = " ".join(words[:2]) if words[0] == "UID" else words[0]
        reply = self.replies.get(rest.upper()) or self.replies.get(name, b"")
        if b"{tag}" not in reply and reply not in (CUT, HANG) and not reply.startswith(b"+"):
            reply += b"\r\n" * bool(reply) + b"{tag} OK done"
        await self._say(writer, reply.replace(b"{tag}", tag.encode()))

    async def _say(self, writer: asyncio.StreamWriter, reply: bytes) -> None:
        if reply == HANG:
            await asyncio.Event().wait()
        if reply == CUT:
            raise ConnectionError("as told")
        writer.write(reply + b"\r\n")


@contextlib.asynccontextmanager
async def backend(fake: FakeImap, way: LoginWay = LoginWay.PASSWORD, **options: Any) -> AsyncIterator[MailServer]:
    here = Endpoint("127.0.0.1", fake.port, options.pop("tls", TlsMode.NONE))
    server = Server(
        "mail1", options.pop("kind", "imap"), here, here, login_way=way, master_user="boss", master_password="key",
        **options,
    )  # fmt: skip
    made = make_backend(
        server, Tools(ClientContexts(), Eyes(), Chance(), "edge.example", SmtpTimes(greeting=1), QUICK)
    )
    yield made
    await made.close()


HANAKO = Account("hanako@example.com", "sales", Home("mail1"))
CLIENT = ClientInfo("192.0.2.7", 4711, "198.51.100.1", 993, "s1")


def plain(token: str) -> list[str]:
    return base64.b64decode(token).decode().split("\0")


# ---- what is sent ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        (LoginWay.PASSWORD, ["", "hanako@example.com", "pa ss"]),
        (LoginWay.MASTER, ["", "hanako@example.com*boss", "key"]),
        (LoginWay.AUTHZID, ["hanako@example.com", "boss", "key"]),
    ],
)
async def test_the_ways_in(way: LoginWay, expected: list[str]) -> None:
    async with FakeImap().running() as fake, backend(fake, way) as b:
        password = "pa ss" if way is LoginWay.PASSWORD else None
        (await b.log_in(HANAKO, password, CLIENT)).stream.close()
        name, mechanism, token = fake.lines[0].split(" ")[1:]
        assert (name, mechanism, plain(token)) == ("AUTHENTICATE", "PLAIN", expected)


@pytest.mark.parametrize("way", LoginWay)
async def test_a_users_password_is_always_the_homes_to_judge(way: LoginWay) -> None:
    """Our own way in would let anybody in."""
    async with FakeImap().running() as fake, backend(fake, way) as b:
        await b.check_password(HANAKO, "pa ss", CLIENT)
        assert plain(fake.lines[0].split(" ")[3]) == ["", "hanako@example.com", "pa ss"]


async def test_without_initial_response() -> None:
    fake = FakeImap(b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] ready", {"AUTHENTICATE": b"+ "})
    async with fake.running(), backend(fake) as b:
        task = asyncio.create_task(b.check_password(HANAKO, "secret", CLIENT))
        async with asyncio.timeout(2):
            while len(fake.lines) < 2:
                await asyncio.sleep(0.01)
        assert fake.lines[0].endswith("AUTHENTICATE PLAIN")
        assert plain(fake.lines[1]) == ["", "hanako@example.com", "secret"]
        with pytest.raises(Failed):
            await task


@pytest.mark.parametrize(
    ("password", "sent"),
    [("secret", 'secret'), ('s"e\\cret', '"s\\"e\\\\cret"'), ("", '""')],
)
async def test_login_command(password: str, sent: str) -> None:
    fake = FakeImap(b"* OK [CAPABILITY IMAP4rev1] ready")
    async with fake.running(), backend(fake) as b:
        await b.check_password(HANAKO, password, CLIENT)
        assert fake.lines[0].split(" ", 1)[1] == f"LOGIN hanako@example.com {sent}"


async def test_the_clients_address_is_told_in_the_same_packet() -> None:
    async with FakeImap().running() as fake, backend(fake, kind="dovecot") as b:
        await b.check_password(HANAKO, "secret", CLIENT)
        assert fake.lines[0].split(" ", 1)[1] == (
            'ID ("x-originating-ip" "192.0.2.7" "x-originating-port" "4711" "x-connected-ip" "198.51.100.1" '
            '"x-connected-port" "993" "x-session-id" "s1" "x-proxy-ttl" "5")'
        )
        assert "AUTHENTICATE" in fake.lines[1]
        assert fake.reads[0].count(b"\r\n") == 2
    async with FakeImap().running() as fake, backend(fake, kind="cyrus") as b:
        await b.check_password(HANAKO, "secret", CLIENT)
        assert not any(" ID " in line for line in fake.lines)


async def test_nothing_can_be_smuggled_into_the_identity() -> None:
    async with FakeImap().running() as fake, backend(fake, kind="dovecot") as b:
        await b.check_password(HANAKO, "secret", ClientInfo('192.0.2.7" "x-proxy-ttl" "0', 1, session="a\r\nb"))
        assert "192.0.2.7" not in fake.lines[0] and "a\r\nb" not in fake.lines[0]


async def test_what_follows_the_log_in_is_the_relays() -> None:
    fake = FakeImap(replies={"AUTHENTICATE": b"{tag} OK [CAPABILITY IMAP4rev1 IDLE] in\r\n* 3 EXISTS"})
    async with fake.running(), backend(fake) as b:
        session = await b.log_in(HANAKO, "secret", CLIENT)
        assert session.capabilities == ("IDLE", "IMAP4REV1")
        assert await session.stream.read() == b"* 3 EXISTS\r\n"
        assert session.stream.deadline is None
        session.stream.close()


async def test_capabilities_are_asked_for_where_they_are_not_told() -> None:
    fake = FakeImap(b"* OK ready", {"CAPABILITY": b"* CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR"})
    async with fake.running(), backend(fake) as b:
        session = await b.log_in(HANAKO, "secret", CLIENT)
        assert [line.split(" ")[1] for line in fake.lines] == ["CAPABILITY", "AUTHENTICATE", "CAPABILITY"]
        session.stream.close()


# ---- what answers mean -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"{tag} NO [AUTHENTICATIONFAILED] wrong", Kind.REFUSE),
        (b"{tag} NO [AUTHORIZATIONFAILED] no", Kind.REFUSE),
        (b"{tag} NO [EXPIRED] password", Kind.REFUSE),
        (b"{tag} NO Login failed: authentication failure", Kind.REFUSE),
        (b"{tag} NO [UNAVAILABLE] Temporary authentication failure.", Kind.AGAIN),
        (b"{tag} NO [INUSE] locked", Kind.AGAIN),
        (b"{tag} NO [LIMIT] too many connections", Kind.AGAIN),
        (b"{tag} NO [SERVERBUG] internal error", Kind.AGAIN),
        (b"{tag} BAD what", Kind.AGAIN),
        (b"* BYE shutting down\r\n{tag} NO [UNAVAILABLE] bye", Kind.AGAIN),
        (b"other9 OK in", Kind.AGAIN),
        (b"babble", Kind.AGAIN),
        (CUT, Kind.AGAIN),
        (HANG, Kind.AGAIN),
    ],
)
async def test_log_in_refused(answer: bytes, kind: Kind) -> None:
    if answer == b"other9 OK in":
        answer = b"other9 OK {tag}"
    fake = FakeImap(replies={"AUTHENTICATE": answer if b"{tag}" in answer else answer.replace(b"babble", b"%{tag}")})
    async with fake.running(), backend(fake) as b:
        with pytest.raises(Failed) as raised:
            await b.log_in(HANAKO, "s3cr3t-word", CLIENT)
        assert raised.value.failure.kind is kind
        assert "s3cr3t-word" not in str(raised.value.failure) + raised.value.failure.reason


async def test_our_own_log_in_refused_is_not_the_users_fault() -> None:
    fake = FakeImap(replies={"AUTHENTICATE": b"{tag} NO [AUTHENTICATIONFAILED] wrong"})
    async with fake.running(), backend(fake, LoginWay.MASTER) as b:
        with pytest.raises(Failed) as raised:
            await b.log_in(HANAKO, None, CLIENT)
        failure = raised.value.failure
        assert failure.kind is Kind.AGAIN and "master" in failure.reason and "hanako@example.com" in failure.reason


@pytest.mark.parametrize("greeting", [b"* BYE full", b"220 smtp here", b"", CUT, HANG, b"* OK", b"+ what"])
async def test_greetings(greeting: bytes) -> None:
    async with FakeImap(greeting).running() as fake, backend(fake) as b:
        if greeting == b"* OK":
            fake.replies["CAPABILITY"] = CUT
        with pytest.raises(Failed) as raised:
            await b.log_in(HANAKO, "secret", CLIENT)
        assert raised.value.failure.kind is Kind.AGAIN
        expected = {HANG: Seen.SILENT, CUT: Seen.REFUSED, b"* BYE full": Seen.REFUSED, b"* OK": Seen.REFUSED}
        sighting = b._tools.watch.sightings[-1]  # type: ignore[attr-defined]
        assert sighting.seen is expected.get(greeting, Seen.BROKEN)
        assert (await b.probe("imap")).seen is sighting.seen


async def test_no_log_in_that_could_be_used() -> None:
    async with FakeImap(b"* OK [CAPABILITY IMAP4rev1 LOGINDISABLED] x").running() as fake, backend(fake) as b:
        with pytest.raises(Failed) as raised:
            await b.log_in(HANAKO, "secret", CLIENT)
        assert raised.value.failure.kind is Kind.AGAIN and "LOGINDISABLED" in raised.value.failure.reason


async def test_nobodys_password() -> None:
    async with FakeImap().running() as fake, backend(fake) as b:
        with pytest.raises(Failed) as raised:
            await b.log_in(HANAKO, None, CLIENT)
        assert raised.value.failure.kind is Kind.GIVE_UP
        with pytest.raises(Failed):
            await b.log_in(HANAKO, "a\0b", CLIENT)
        assert not fake.lines


@pytest.mark.parametrize("greeting", [FakeImap.greeting, b"* OK [CAPABILITY IMAP4rev1 STARTTLS AUTH=PLAIN] x"])
async def test_no_password_goes_out_without_the_tls_that_is_demanded(greeting: bytes) -> None:
    fake = FakeImap(greeting, {"STARTTLS": b"{tag} OK go\r\n* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] forged"})
    async with fake.running(), backend(fake, tls=TlsMode.STARTTLS) as b:
        with pytest.raises(Failed) as raised:
            await b.log_in(HANAKO, "secret", CLIENT)
        assert raised.value.failure.enhanced == "4.7.4"
        assert not any("AUTHENTICATE" in line or "LOGIN" in line for line in fake.lines)


# ---- looking up --------------------------------------------------------------------------------------------------

LISTING = b'* LIST () "/" Sent\r\n* LIST (\\Noselect) "/" Box\r\n* LIST (\\NonExistent) "/" Gone\r\n* LIST () "/" inbox'


async def test_every_folder_is_searched_inbox_first() -> None:
    fake = FakeImap(replies={"LIST": LISTING, "UID SEARCH": b"* SEARCH"})
    async with fake.running(), backend(fake, LoginWay.MASTER) as b:
        assert (await b.find(HANAKO, "id-1")).found is Found.NO
        asked = [line.split(" ", 1)[1] for line in fake.lines if "EXAMINE" in line or "SEARCH" in line]
        search = "UID SEARCH HEADER X-OneDomain-Delivery id-1"
        assert asked == ["EXAMINE INBOX", search, "EXAMINE Sent", search]


async def test_since_narrows_by_two_days() -> None:
    fake = FakeImap(replies={"LIST": LISTING, "UID SEARCH": b"* SEARCH 7"})
    async with fake.running(), backend(fake, LoginWay.MASTER) as b:
        found = await b.find(HANAKO, "id-1", since=1_792_000_000)
        assert (found.found, found.folder) == (Found.YES, "INBOX")
        assert any("UID SEARCH SINCE 12-Oct-2026 HEADER" in line for line in fake.lines)


async def test_folders_of_others_are_left_alone() -> None:
    fake = FakeImap(
        b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN NAMESPACE] x",
        {
            "LIST": b'* LIST () "/" INBOX\r\n* LIST () "/" "Other Users/taro"\r\n* LIST () "/" Shared/x',
            "NAMESPACE": b'* NAMESPACE (("" "/")) (("Other Users/" "/")) (("Shared/" "/"))',
            "AUTHENTICATE": b"{tag} OK [CAPABILITY IMAP4rev1 NAMESPACE] in",
            "UID SEARCH": b"* SEARCH",
        },
    )
    async with fake.running(), backend(fake, LoginWay.MASTER) as b:
        assert (await b.find(HANAKO, "id-1")).found is Found.NO
        assert [line.split(" ", 2)[2] for line in fake.lines if "EXAMINE" in line] == ["INBOX"]


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        ({"LIST": b"{tag} NO no"}, "LIST"),
        ({"LIST": b""}, "no INBOX"),
        ({"LIST": b'* LIST () "/" Sent'}, "no INBOX"),
        ({"LIST": LISTING, "EXAMINE INBOX": b"{tag} NO [NOPERM] no"}, "EXAMINE"),
        ({"LIST": LISTING, "EXAMINE INBOX": b"{tag} NO [NONEXISTENT] no"}, "EXAMINE"),
        ({"LIST": LISTING, "EXAMINE SENT": b"{tag} NO [INUSE] no"}, "EXAMINE"),
        ({"LIST": LISTING, "UID SEARCH": b"{tag} NO [LIMIT] no"}, "SEARCH"),
        ({"LIST": LISTING, "UID SEARCH": HANG}, ""),
        ({"LIST": LISTING, "EXAMINE SENT": CUT}, ""),
        ({"LIST": b"* LIST what"}, "odd shape"),
        ({"LIST": b"* LIST"}, "odd shape"),
        ({"AUTHENTICATE": CUT}, ""),
    ],
)
async def test_a_no_is_never_guessed(replies: dict[str, bytes], reason: str) -> None:
    async with FakeImap(replies={"UID SEARCH": b"* SEARCH"} | replies).running() as fake:
        async with backend(fake, LoginWay.MASTER) as b:
            found = await b.find(HANAKO, "id-1")
            assert found.found is Found.CANT
            assert found.failure and found.failure.kind is Kind.AGAIN and reason in found.failure.reason


async def test_a_folder_that_went_away_is_no_obstacle() -> None:
    replies = {"LIST": LISTING, "UID SEARCH": b"* SEARCH", "EXAMINE SENT": b"{tag} NO [NONEXISTENT] gone"}
    async with FakeImap(replies=replies).running() as fake, backend(fake, LoginWay.MASTER) as b:
        assert (await b.find(HANAKO, "id-1")).found is Found.NO


# ---- whatever comes ----------------------------------------------------------------------------------------------

SCRAPS = b"""* |OK |LIST |(|)|"/" |[CAPABILITY |]|* SEARCH |NIL |"|\\Noselect|a1 |a2 OK x
|a3 NO y
|+ x
|* LIST () NIL INBOX
|* NAMESPACE NIL 3 (x)
|\xff\x00""".replace(b"\n", b"\r\n").split(b"|")


@given(st.lists(st.one_of(st.sampled_from(SCRAPS), st.binary(max_size=8)), max_size=12).map(b"".join))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_anything_comes_out_as_a_value(garbage: bytes) -> None:
    """Whatever a server says after whichever command, nothing but Failed gets out, and a look-up is never a no."""

    async def main() -> None:
        for at in ("AUTHENTICATE", "NAMESPACE", "LIST", "EXAMINE"):
            fake = FakeImap(
                b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] x",
                {"LIST": LISTING, "AUTHENTICATE": b"{tag} OK [CAPABILITY IMAP4rev1 NAMESPACE] in"},
            )
            fake.replies[at] = garbage.replace(b"{", b"(") + b"\r\n{tag} BAD"
            async with fake.running(), backend(fake, LoginWay.MASTER) as b:
                found = await asyncio.wait_for(b.find(HANAKO, "id-1"), 5)
                assert found.found is not Found.NO or at == "NAMESPACE"
                assert (await asyncio.wait_for(b.probe("imap"), 5)).server == "mail1"

    asyncio.run(main())
