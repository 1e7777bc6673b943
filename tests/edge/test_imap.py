"""IMAP sessions through the edge to a scripted home: log-in, relay, what is learnt on the way, and every way to end."""

from __future__ import annotations

import asyncio
import imaplib
import resource
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from onedomain.backend.base import ClientInfo, Session
from onedomain.edge.imap import ImapEdge, ImapRules, MailboxParts
from onedomain.model.account import Account, Home
from onedomain.model.health import Verdict
from onedomain.net.stream import Stream
from onedomain.net.tls import CertificateFiles, ServerContexts
from tests.edge.kit import ANN, JOE, Client, Edge, down, edge
from tests.lab.tls import Certificate

CAPABILITY = "[CAPABILITY IMAP4rev1 IDLE UIDPLUS]"


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A home that answers every line with OK."""
    while line := await reader.readline():
        tag, _, rest = line.partition(b" ")
        writer.write(b"%s OK home saw %s" % (tag, rest))


def clear(parts: MailboxParts, **rules: object) -> ImapEdge:
    return ImapEdge(parts, ImapRules(plaintext_login=True, **rules))  # type: ignore[arg-type]


@pytest.fixture
def contexts(certificate: Certificate) -> ServerContexts:
    return ServerContexts([CertificateFiles(str(certificate.cert), str(certificate.key))])


async def greeted(running: Edge) -> Client:
    client = await running.connect()
    assert (await client.line()).startswith("* OK [CAPABILITY IMAP4rev1 ")
    return client


async def inside(running: Edge) -> Client:
    client = await greeted(running)
    assert await client.ask("a LOGIN joe right") == f"a OK {CAPABILITY} Welcome at home."
    return client


async def test_a_session_from_log_in_to_log_out() -> None:
    async with edge(echo, clear) as running:
        client = await inside(running)
        assert await client.ask("b NOOP") == "b OK home saw NOOP"
        address, password, info = running.home.log_ins[0]
        assert (address, password, info.address) == ("joe@example.com", None, "127.0.0.1")
        assert info.local_port == running.port
        client.close()
        while not running.notes.named("logout"):
            await asyncio.sleep(0.01)
    note = running.notes.named("logout")[0]
    assert (note["account"], note["ended"], note["upstream"]) == ("joe@example.com", "client", 8)


async def test_what_comes_behind_the_log_in_is_the_homes() -> None:
    async with edge(echo, clear) as running:
        client = await greeted(running)
        client.send(b"a LOGIN joe {5+}\r\nright\r\nb CREATE x\r\nc NO")
        assert (await client.line()).startswith("a OK")
        assert await client.line() == "b OK home saw CREATE x"
        client.send(b"OP\r\n")
        assert await client.line() == "c OK home saw NOOP"
        assert running.notes.changes == [("joe@example.com", "CREATE", "x")]


async def test_the_home_decides_where_we_have_no_hash() -> None:
    async with edge(echo, clear) as running:
        client = await greeted(running)
        assert await client.ask("a LOGIN ann guess") == "a NO [AUTHENTICATIONFAILED] Authentication failed."
        assert await client.ask('b LOGIN ann "home\'s own"') == f"b OK {CAPABILITY} Welcome at home."
        assert [password for _, password, _ in running.home.log_ins] == ["guess", "home's own"]


async def test_wrong_passwords_end_the_connection_at_last() -> None:
    async with edge(echo, lambda parts: clear(parts, attempts=3)) as running:
        client = await greeted(running)
        for tag in "abc":
            answer = await client.ask(f"{tag} LOGIN joe {tag}")
            assert answer == f"{tag} NO [AUTHENTICATIONFAILED] Authentication failed."
        assert await client.rest() == b"* BYE Too many failed log-ins.\r\n"
        assert running.home.log_ins == []
        assert running.failures.penalty("login from 127.0.0.1", time.monotonic()) > 2.9


@pytest.mark.parametrize("verdict", [Verdict.REFUSING, Verdict.SILENT])
async def test_a_home_known_to_be_down_is_told_at_once(verdict: Verdict) -> None:
    async with edge(echo, clear) as running:
        running.board.verdicts["s1"] = verdict
        client = await greeted(running)
        began = time.monotonic()
        answer = await client.ask("a LOGIN joe right")
        assert answer.startswith("a NO [UNAVAILABLE] Your mail server is not available now")
        assert time.monotonic() - began < 1.0
        assert running.home.log_ins == []
        # The connection goes on, and so does the account when its home is back.
        running.board.verdicts["s1"] = Verdict.UP
        assert (await client.ask("b LOGIN joe right")).startswith("b OK")


async def test_a_home_that_fails_or_falls_silent_during_the_log_in() -> None:
    async with edge(echo, clear) as running:
        client = await greeted(running)
        running.home.trouble = down()
        assert await client.ask("a LOGIN joe right") == "a NO [UNAVAILABLE] the mail server does not answer"
        running.home.trouble = None
        running.home.hang = asyncio.Event()
        client.send(b"b LOGIN joe right\r\n")
        while len(running.home.log_ins) < 2:
            await asyncio.sleep(0.01)
        running.board.verdicts["s1"] = Verdict.SILENT
        began = time.monotonic()
        assert (await client.line()).startswith("b NO [UNAVAILABLE]")
        assert time.monotonic() - began < 2.0


async def test_a_home_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onedomain.edge.home.PATIENCE", 0.3)
    async with edge(echo, clear) as running:
        client = await greeted(running)
        running.home.hang = asyncio.Event()
        assert (await client.ask("a LOGIN joe right")).startswith("a NO [UNAVAILABLE]")
        assert running.home.given_up == 1


async def test_a_change_of_home_ends_the_session_and_no_other() -> None:
    async with edge(echo, clear) as running:
        joe = await inside(running)
        ann = await greeted(running)
        assert (await ann.ask('a LOGIN ann "home\'s own"')).startswith("a OK")
        running.change(replace(JOE, home=Home("s2", epoch=2)))
        assert await joe.rest() == (
            b"* BYE [UNAVAILABLE] Your mailbox has moved to another server, please log in again.\r\n"
        )
        assert await ann.ask("b NOOP") == "b OK home saw NOOP"
        running.change(replace(ANN, enabled=False), seq=3)
        assert await ann.rest() == b"* BYE [UNAVAILABLE] This account may not log in any more.\r\n"
        assert len(running.parts.relays) == 0


async def test_a_change_of_home_during_the_log_in() -> None:
    async with edge(echo, clear) as running:
        client = await greeted(running)
        running.home.hang = asyncio.Event()
        client.send(b"a LOGIN joe right\r\n")
        while not running.home.log_ins:
            await asyncio.sleep(0.01)
        running.change(replace(JOE, home=Home("s2", epoch=2)))
        running.home.hang.set()
        assert (await client.line()).startswith("a NO [UNAVAILABLE]")


@pytest.mark.parametrize(
    "said, client_says, told",
    [
        (b"* 3 EXISTS\r\n", b"", True),
        (b"", b"b LOGOUT\r\n", False),
        (b"* BYE Autologout.\r\n", b"", False),
        (b"* 3 EXISTS\r\n* BYE Autologout.\r\n", b"b NOOP\r\n", True),  # told twice does no harm
        (b"* 3 EX", b"", False),
        (b"* 1 FETCH (BODY[] {8}\r\nhalf", b"", False),
        (b"* 1 FETCH (BODY[] {60000}\r\n" + b"x" * 50_000, b"", False),
        (b"* 1 FETCH (BODY[] {5}\r\nwhole)\r\n", b"", True),
    ],
)
async def test_a_home_that_goes_away(said: bytes, client_says: bytes, told: bool) -> None:
    async def home(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        if client_says:
            await reader.readline()
        writer.write(said)

    async with edge(home, clear) as running:
        client = await inside(running)
        client.send(b"a NOOP\r\n")
        client.send(client_says)
        gone = b"* BYE [UNAVAILABLE] Your mail server went away, please log in again.\r\n" if told else b""
        assert await client.rest() == said + gone


async def test_shutdown_says_goodbye() -> None:
    async with edge(echo, clear) as running:
        client = await inside(running)
        assert running.parts.relays.cut_all("This server is going down for maintenance.") == 1
        assert await client.rest() == b"* BYE [UNAVAILABLE] This server is going down for maintenance.\r\n"


async def test_who_has_not_logged_in_is_told_of_the_end_too() -> None:
    async with edge(echo, clear) as running:
        client = await running.connect()
        await client.line()
    assert await client.rest() == b"* BYE [UNAVAILABLE] The server is shutting down.\r\n"


async def test_sessions_per_account_are_limited_and_counted_down() -> None:
    async with edge(echo, clear, sessions=2) as running:
        first, _second = await inside(running), await inside(running)
        third = await greeted(running)
        assert await third.ask("a LOGIN joe right") == "a NO [LIMIT] Too many sessions of this account."
        running.home.trouble = down()
        assert (await third.ask('b LOGIN ann "home\'s own"')).startswith("b NO [UNAVAILABLE]")
        assert len(running.parts.relays) == 2
        running.home.trouble = None
        first.close()
        while not running.notes.named("logout"):
            await asyncio.sleep(0.01)
        assert (await third.ask("c LOGIN joe right")).startswith("c OK")


async def test_nobody_stays_without_logging_in() -> None:
    async with edge(echo, lambda parts: clear(parts, log_in=0.5)) as running:
        client = await greeted(running)
        assert await client.rest() == b"* BYE Too long without a log-in.\r\n"


async def test_a_refused_literal_is_followed() -> None:
    async def full(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"b NO [OVERQUOTA] Full\r\n")
        await echo(reader, writer)

    async with edge(full, clear) as running:
        client = await inside(running)
        assert await client.ask("b APPEND Sent {100}") == "b NO [OVERQUOTA] Full"
        assert await client.ask("c DELETE x") == "c OK home saw DELETE x"
        assert running.notes.changes == [("joe@example.com", "DELETE", "x")]


async def test_unauthenticate_does_not_reach_the_home() -> None:
    async with edge(echo, clear) as running:
        client = await inside(running)
        client.send(b"b UNAUTHENTICATE\r\nc LOGIN ann guess\r\n")
        assert await client.rest() == b"* BYE Please connect again.\r\n"


async def test_compress_is_refused_and_hides_nothing_that_follows() -> None:
    async with edge(echo, clear) as running:
        client = await inside(running)
        assert await client.ask("b COMPRESS DEFLATE") == "b OK home saw COMPRESS DEFLATE-"
        assert await client.ask("c DELETE x") == "c OK home saw DELETE x"
        assert running.notes.changes == [("joe@example.com", "DELETE", "x")]
        client.send(b"d UNAUTHENTICATE\r\n")
        assert await client.rest() == b"* BYE Please connect again.\r\n"


async def test_nothing_comes_behind_compress() -> None:
    async with edge(echo, clear) as running:
        client = await inside(running)
        client.send(b"b COMPRESS DEFLATE\r\nc NOOP\r\n")
        assert await client.rest() == b"* BYE Please connect again.\r\n"


@pytest.mark.parametrize("wanted", [False, True])
async def test_what_comes_behind_a_literal_waits_for_the_homes_word(wanted: bool) -> None:
    """What the home takes for a command is never taken for a literal here, nor the other way round."""
    said = asyncio.Event()

    async def home(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard = await reader.readline()
        await said.wait()
        writer.write(b"+ go on\r\n" if wanted else b"b NO [OVERQUOTA] Full\r\n")
        if wanted:
            heard += await reader.readexactly(30)
            assert heard == b"b APPEND Sent {28}\r\nc COMPRESS X\r\nd DELETE yes\r\n\r\n"
            writer.write(b"b OK\r\n")
        await echo(reader, writer)

    async with edge(home, clear) as running:
        client = await inside(running)
        client.send(b"b APPEND Sent {28}\r\nc COMPRESS X\r\nd DELETE yes\r\n\r\n")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.reader.read(1), 0.05)
        said.set()
        if wanted:
            assert [await client.line() for _ in range(2)] == ["+ go on", "b OK"]
            assert running.notes.changes == [("joe@example.com", "APPEND", "Sent")]
            assert await client.ask("e DELETE x") == "e OK home saw DELETE x"
        else:
            # More behind COMPRESS ends the session.
            assert await client.rest() == b"b NO [OVERQUOTA] Full\r\n* BYE Please connect again.\r\n"
            assert running.notes.changes == []


async def test_what_hides_behind_a_literal_ends_the_session() -> None:
    async def full(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"b NO [OVERQUOTA] Full\r\n")
        await echo(reader, writer)

    async with edge(full, clear) as running:
        client = await inside(running)
        client.send(b"b APPEND Sent {100}\r\nc UNAUTHENTICATE\r\n")
        assert await client.rest() == b"b NO [OVERQUOTA] Full\r\n* BYE Please connect again.\r\n"


TRAPS = [b"+ go on", b"b NO no", b"b BAD no", b"* BAD no", b"* 2 FETCH (BODY[] {7}", b"b OK yes", b"a1 NO"]


@pytest.mark.parametrize("wanted", [False, True])
@pytest.mark.parametrize("where", range(4))
async def test_a_message_that_looks_like_the_homes_word_is_none(wanted: bool, where: int) -> None:
    """A FETCH under way, somewhere in the middle of its body, when the client announces a literal."""
    body = b"\r\n".join(TRAPS * 200) + b"\r\n"
    whole = b"* 1 FETCH (X {3}\r\n\n+ BODY[] {%d}\r\n%b BODY[1] {4}\r\n\n+ x)\r\na1 OK\r\n" % (len(body), body)
    early = whole[:(10, 18, 60, len(whole) // 2)[where]]

    async def home(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(early)
        await reader.readline()  # the literal's announcement
        for start in range(len(early), len(whole), 501):
            writer.write(whole[start:min(start + 501, len(whole))])
            await asyncio.sleep(0)
        writer.write(b"+ go on\r\n" if wanted else b"b NO [TRYCREATE] no\r\n")
        if wanted:
            assert await reader.readexactly(16) == b"c COMPRESS X\r\n\r\n"
            writer.write(b"b OK\r\n")
        await echo(reader, writer)

    async with edge(home, clear) as running:
        client = await inside(running)
        client.send(b"a1 FETCH 1 BODY.PEEK[]\r\n")
        assert await client.reader.readexactly(len(early)) == early
        client.send(b"b APPEND Sent {14}\r\n")
        client.send(b"c COMPRESS X\r\n\r\n" if wanted else b"")
        assert await client.reader.readexactly(len(whole) - len(early)) == whole[len(early):]
        assert await client.line() == ("+ go on" if wanted else "b NO [TRYCREATE] no")
        if wanted:
            assert await client.line() == "b OK"
        assert await client.ask("d DELETE x") == "d OK home saw DELETE x"
        changes = [change for _, *change in running.notes.changes]
        assert changes == [["APPEND", "Sent"], ["DELETE", "x"]][not wanted:]


async def test_starttls_and_what_was_said_before_it(contexts: ServerContexts, certificate: Certificate) -> None:
    async with edge(echo, ImapEdge, tls=contexts) as running:
        client = await running.connect()
        assert await client.line() == (
            "* OK [CAPABILITY IMAP4rev1 LITERAL+ SASL-IR ID STARTTLS LOGINDISABLED] OneDomain ready."
        )
        assert (await client.ask("a LOGIN joe right")).startswith("a NO [PRIVACYREQUIRED]")
        assert running.home.log_ins == []
        client.send(b"b STARTTLS\r\nc LOGIN joe right\r\n")
        assert await client.line() == "b OK Begin TLS negotiation now."
        trust = certificate.client_context()
        await client.writer.start_tls(trust, server_hostname="localhost")
        assert await client.ask("d CAPABILITY") == "* CAPABILITY IMAP4rev1 LITERAL+ SASL-IR ID AUTH=PLAIN AUTH=LOGIN"
        assert await client.line() == "d OK Capabilities listed."
        assert (await client.ask("e LOGIN joe right")).startswith("e OK")
        assert await client.ask("f NOOP") == "f OK home saw NOOP"


async def test_imaplib_over_implicit_tls(contexts: ServerContexts, certificate: Certificate) -> None:
    trust = certificate.client_context()

    def session(port: int) -> tuple[str, tuple[str, ...]]:
        with imaplib.IMAP4_SSL("localhost", port, ssl_context=trust) as client:
            client.authenticate("PLAIN", lambda _: b"\0joe\0right")
            return client.noop()[0], client.capabilities

    async def home(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            if b"LOGOUT" in line:
                writer.write(b"* BYE\r\n")
            writer.write(line.split()[0] + b" OK done\r\n")

    async with edge(home, ImapEdge, tls=contexts, implicit=True) as running:
        status, capabilities = await asyncio.to_thread(session, running.port)
        assert status == "OK"
        assert "STARTTLS" not in capabilities


CLIENTS = """
import socket, sys
from concurrent.futures import ThreadPoolExecutor

def connect(_):
    client = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 60)
    assert client.recv(4096).startswith(b"* OK")
    client.sendall(b"a LOGIN joe right\\r\\n")
    assert client.recv(4096).startswith(b"a OK")
    return client

with ThreadPoolExecutor(16) as pool:
    clients = list(pool.map(connect, range(int(sys.argv[2]))))
print("in", flush=True)
assert {client.recv(4096) for client in clients} == {b"* 1 EXISTS\\r\\n"}
print("heard", flush=True)
assert {client.recv(4096)[:5] for client in clients} == {b"* BYE"}
print("out", flush=True)
"""


@pytest.mark.slow
async def test_five_thousand_idle_sessions() -> None:
    """All stay, each still hears its home, and none costs more than a few kB of ours (kernel buffers not counted).

    The clients are another process: nobody may have that many files open.
    """
    count = 5000
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed[1] < 3 * count + 500:
        pytest.skip(f"needs {3 * count + 500} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed[1], allowed[1]))
    homes: list[socket.socket] = []

    async def log_in(account: Account, password: str | None, client: ClientInfo) -> Session:
        ours, theirs = socket.socketpair()
        homes.append(theirs)
        return Session("s1", Stream(ours), ("IMAP4REV1", "IDLE"), "In.")

    try:
        async with edge(echo, clear) as running:
            running.home.log_in = log_in  # type: ignore[method-assign]
            before = _resident()
            clients = await asyncio.create_subprocess_exec(
                sys.executable, "-c", CLIENTS, str(running.port), str(count), stdout=asyncio.subprocess.PIPE
            )
            assert clients.stdout is not None
            assert await asyncio.wait_for(clients.stdout.readline(), 120) == b"in\n"
            assert len(running.parts.relays) == count
            assert (_resident() - before) / count < 16_384
            for home in homes:
                home.sendall(b"* 1 EXISTS\r\n")
            assert await asyncio.wait_for(clients.stdout.readline(), 60) == b"heard\n"
            assert running.parts.relays.cut_all("Closing.") == count
            assert await asyncio.wait_for(clients.stdout.readline(), 60) == b"out\n"
            assert await clients.wait() == 0
            while len(running.parts.relays):
                await asyncio.sleep(0.05)
    finally:
        for home in homes:
            home.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, allowed)


def _resident() -> int:
    """Bytes of memory this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
