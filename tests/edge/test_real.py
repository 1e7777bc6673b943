"""Real clients through the edge to real servers: curl, imaplib, poplib, mbsync, mutt; Dovecot and Cyrus."""

from __future__ import annotations

import asyncio
import imaplib
import os
import poplib
import resource
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from onedomain.backend.mailserver import Tools
from onedomain.backend.registry import make_backend
from onedomain.directory.book import Book
from onedomain.directory.delta import Delta
from onedomain.edge.imap import ImapEdge
from onedomain.edge.pop3 import Pop3Edge
from onedomain.model.account import Account, Home, Unit
from onedomain.model.health import Sighting
from onedomain.model.server import Endpoint, LoginWay, Server
from onedomain.net.tls import CertificateFiles, ClientContexts, ServerContexts
from tests.directory.views import EXAMPLE
from tests.edge.kit import Edge, edge_before
from tests.edge.parts import CountingNonce
from tests.lab.fetched import body
from tests.lab.tls import Certificate

pytestmark = pytest.mark.real

# Joe's password is checked by us, and we go in by our own way; Ann's is the home's affair.
JOE = Account("joe@example.com", "head", Home("own-way"), password="{X}right")
ANN = Account("ann@example.com", "head", Home("users-way"))
MESSAGE = b"Subject: real\r\nFrom: a@example.com\r\n\r\n.dots\r\n..\r\n\xe8\xab\x8b\r\n"


class Blind:
    def saw(self, sighting: Sighting) -> None: ...


@dataclass
class Real:
    """A server of the lab, as the directory knows it: under two names, for the two ways in."""

    lab: Any
    server: Server
    certificate: Certificate

    def edge(self, kind: type[ImapEdge] | type[Pop3Edge]) -> AbstractAsyncContextManager[Edge]:
        own = replace(self.server, name="own-way")
        users = replace(self.server, name="users-way", login_way=LoginWay.PASSWORD)
        directory = Book((EXAMPLE,), [Unit("head")], [own, users])
        directory.apply(Delta(1, accounts=(JOE, ANN)))
        tools = Tools(ClientContexts(), Blind(), CountingNonce(), "edge.example")
        backends = {server.name: make_backend(server, tools) for server in (own, users)}
        contexts = ServerContexts([CertificateFiles(str(self.certificate.cert), str(self.certificate.key))])
        return edge_before(backends.__getitem__, directory, kind, tls=contexts, implicit=True)

    def imap(self, port: int, user: str = "joe", password: str = "right") -> imaplib.IMAP4_SSL:
        client = imaplib.IMAP4_SSL("localhost", port, ssl_context=self.certificate.client_context(), timeout=30)
        client.login(user, password)
        return client

    def pop3(self, port: int, user: str = "joe", password: str = "right") -> poplib.POP3_SSL:
        client = poplib.POP3_SSL("localhost", port, context=self.certificate.client_context(), timeout=30)
        client.user(user)
        client.pass_(password)
        return client

    def curl(self, url: str, *words: str) -> subprocess.CompletedProcess[bytes]:
        command = ["curl", "-sS", "--max-time", "60", "--cacert", str(self.certificate.ca), "-u", "joe:right"]
        return subprocess.run([*command, *words, url], capture_output=True, check=False)


@pytest.fixture(params=["dovecot", "cyrus"])
def real(request: pytest.FixtureRequest, certificate: Certificate) -> Real:
    users = dict.fromkeys(("joe@example.com", "ann@example.com"), "secret")
    if request.param == "dovecot":
        lab = request.getfixturevalue("start_dovecot")(plugins="  acl_user = %u\n", users=users)
        way, master, password, form = LoginWay.MASTER, lab.master_user, lab.master_password, "%08Xu%08Xv"
    else:
        lab = request.getfixturevalue("start_cyrus")(users=users)
        way, master, password, form = LoginWay.AUTHZID, lab.proxy, lab.proxy_password, "%v.%u"
    imap, lmtp = Endpoint("127.0.0.1", lab.imap_port), Endpoint("127.0.0.1", lab.lmtp_port)
    server = Server(
        "real", request.param, imap, lmtp, login_way=way, master_user=master, master_password=password, uidl_format=form
    )
    lab.prepare("joe@example.com")
    return Real(lab, server, certificate)


def folder(real: Real, name: str = "INBOX") -> list[bytes]:
    """Read from the server itself, not through us."""
    session = real.lab.imap("joe@example.com")
    session.select(name, readonly=True)
    numbers = session.search(None, "ALL")[1][0].split()
    found = [body(session.fetch(number, "(BODY.PEEK[])")) for number in numbers]
    session.logout()
    return found


def put(real: Real, *messages: bytes) -> None:
    session = real.lab.imap("joe@example.com")
    for message in messages:
        session.append("INBOX", "", None, message)
    session.logout()


async def test_imaplib(real: Real) -> None:
    def session(port: int) -> None:
        client = real.imap(port)
        assert client.create("Work")[0] == "OK"
        assert client.append("Work", "(\\Seen)", None, MESSAGE)[0] == "OK"
        assert client.select("Work")[1] == [b"1"]
        assert client.copy("1", "INBOX")[0] == "OK"
        assert client.store("1", "+FLAGS", "\\Flagged")[0] == "OK"
        assert body(client.fetch("1", "(BODY.PEEK[])")) == MESSAGE
        client.logout()

    async with real.edge(ImapEdge) as running:
        await asyncio.to_thread(session, running.port)
        changes = running.notes.changes
    assert [(what, name) for _, what, name in changes] == [
        ("CREATE", "Work"), ("APPEND", "Work"), ("COPY 1", "INBOX"), ("STORE", "Work")]
    assert await asyncio.to_thread(folder, real) == [MESSAGE]


TRAP = b"Subject: trap\r\n\r\n" + b"+ go on\r\nb NO no\r\nb BAD no\r\nc NO no\r\n* 2 FETCH (BODY[] {7}\r\n" * 20_000


async def test_a_message_that_looks_like_the_homes_word(real: Real) -> None:
    """A large body is on its way when the client announces literals; one is wanted, one is not."""
    await asyncio.to_thread(put, real, TRAP)

    def session(port: int) -> None:
        plain = socket.create_connection(("localhost", port), 30)
        with real.certificate.client_context().wrap_socket(plain, server_hostname="localhost") as client:
            said = client.makefile("rb")

            def until(*tags: bytes) -> bytes:
                while not (line := said.readline()).startswith(tags):
                    assert line, "ended"
                return line

            until(b"* OK")
            client.sendall(b"l LOGIN joe right\r\ns SELECT INBOX\r\n")
            assert until(b"s ").startswith(b"s OK")
            client.sendall(b"a FETCH 1 BODY.PEEK[]\r\nb XNOSUCH No/Such {200}\r\n")
            # Dovecot answers a command that it doesn't know while the one before is under way.
            heard = []
            while len(heard) < 2:
                line = until(b"a ", b"b ", b"+", b"* 1 FETCH")
                if line.startswith(b"*"):
                    assert said.read(len(TRAP)) == TRAP
                else:
                    heard.append(line[:5])
            assert sorted(heard) == [b"a OK ", b"b BAD"]
            client.sendall(b"a FETCH 1 BODY.PEEK[]\r\nc APPEND INBOX {22}\r\n")
            until(b"* 1 FETCH")
            assert said.read(len(TRAP)) == TRAP
            until(b"+")
            client.sendall(b"\r\nd COMPRESS DEFLATE\r\n\r\n")
            assert until(b"c ").startswith(b"c OK")
            client.sendall(b"e STORE 1 +FLAGS.SILENT (x)\r\n")
            assert until(b"e ").startswith(b"e OK")
            client.sendall(b"f COMPRESS DEFLATE\r\n")
            assert not until(b"f ").startswith(b"f OK")
            client.sendall(b"g LOGOUT\r\n")
            until(b"g OK")

    async with real.edge(ImapEdge) as running:
        await asyncio.to_thread(session, running.port)
        changes = [(what, name) for _, what, name in running.notes.changes]
    assert changes == [("APPEND", "INBOX"), ("STORE", "INBOX")]
    assert await asyncio.to_thread(folder, real) == [TRAP, b"\r\nd COMPRESS DEFLATE\r\n"]


async def test_a_server_that_is_killed(real: Real) -> None:
    """Who is logged in hears so at once, in either protocol, and so does who logs in then."""
    await asyncio.to_thread(put, real, MESSAGE)

    async with real.edge(ImapEdge) as running, real.edge(Pop3Edge) as pop3:
        client = await asyncio.to_thread(real.pop3, pop3.port)
        plain = await asyncio.to_thread(real.imap, running.port)
        await asyncio.to_thread(real.lab.kill)
        began = time.monotonic()
        assert (await asyncio.to_thread(plain.sock.recv, 1000)).startswith(b"* BYE [UNAVAILABLE] ")
        with pytest.raises(poplib.error_proto, match="SYS/TEMP"):
            await asyncio.to_thread(client.retr, 1)
        with pytest.raises(imaplib.IMAP4.error, match="UNAVAILABLE"):
            await asyncio.to_thread(real.imap, running.port)
        with pytest.raises(poplib.error_proto, match="SYS/TEMP"):
            await asyncio.to_thread(real.pop3, pop3.port)
        assert time.monotonic() - began < 1


@pytest.mark.parametrize("user, wrong, right", [("joe", "secret", "right"), ("ann", "right", "secret")])
async def test_only_the_right_password(real: Real, user: str, wrong: str, right: str) -> None:
    """For Joe our hash, for Ann the home: the other's password opens nothing."""
    async with real.edge(ImapEdge) as running:
        with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
            await asyncio.to_thread(real.imap, running.port, user, wrong)
        client = await asyncio.to_thread(real.imap, running.port, user, right)
        assert (await asyncio.to_thread(client.noop))[0] == "OK"
        await asyncio.to_thread(client.logout)


async def test_without_a_hash_no_password_gets_in_by_our_own_way(real: Real) -> None:
    async with real.edge(ImapEdge) as running:
        running.book.apply(Delta(2, accounts=(replace(ANN, home=Home("own-way")),)))
        with pytest.raises(imaplib.IMAP4.error):
            await asyncio.to_thread(real.imap, running.port, "ann", "anything")


async def test_curl(real: Real, tmp_path: Path) -> None:
    upload = tmp_path / "message"
    upload.write_bytes(MESSAGE)
    async with real.edge(ImapEdge) as running:
        url = f"imaps://localhost:{running.port}/INBOX"
        sent = await asyncio.to_thread(real.curl, url, "-T", str(upload))
        assert sent.returncode == 0, sent.stderr
        got = await asyncio.to_thread(real.curl, url + ";MAILINDEX=1")
        assert got.stdout == MESSAGE
    assert await asyncio.to_thread(folder, real) == [MESSAGE]


async def test_poplib(real: Real) -> None:
    await asyncio.to_thread(put, real, MESSAGE, b"Subject: two\r\n\r\n2\r\n", b"Subject: three\r\n\r\n3\r\n")

    def uidls(port: int) -> list[bytes]:
        client = real.pop3(port)
        found = client.uidl()[1]
        client.quit()
        return [line.split()[1] for line in found]

    def session(port: int) -> None:
        client = real.pop3(port)
        assert client.stat()[0] == 3
        assert b"\r\n".join(client.retr(1)[1]) + b"\r\n" == MESSAGE
        assert client.top(2, 0)[1] == [b"Subject: two", b""]
        client.dele(2)
        assert [line.split()[0] for line in client.uidl()[1]] == [b"1", b"3"]
        client.quit()

    async with real.edge(Pop3Edge) as running:
        before = await asyncio.to_thread(uidls, running.port)
        await asyncio.to_thread(session, running.port)
        assert await asyncio.to_thread(folder, real) == [MESSAGE, b"Subject: three\r\n\r\n3\r\n"]
        assert await asyncio.to_thread(uidls, running.port) == [before[0], before[2]]


async def test_uidls_are_those_that_dovecot_made(start_dovecot: Callable[..., Any], certificate: Certificate) -> None:
    """The day an account's clients come to us, they download nothing again."""
    lab = start_dovecot(plugins="  acl_user = %u\n")
    server = Server("real", "dovecot", Endpoint("127.0.0.1", lab.imap_port), Endpoint("127.0.0.1", lab.lmtp_port),
                    login_way=LoginWay.MASTER, master_user=lab.master_user, master_password=lab.master_password)
    real = Real(lab, server, certificate)
    await asyncio.to_thread(put, real, MESSAGE, MESSAGE)
    direct = poplib.POP3("127.0.0.1", lab.pop3_port)
    direct.user("joe@example.com")
    direct.pass_("secret")
    theirs = [direct.uidl()[1], direct.list()[1]]
    direct.quit()
    async with real.edge(Pop3Edge) as running:
        client = await asyncio.to_thread(real.pop3, running.port)
        ours = [(await asyncio.to_thread(ask))[1] for ask in (client.uidl, client.list)]
    assert ours == theirs


@pytest.mark.skipif(not shutil.which("mbsync"), reason="needs mbsync")
async def test_mbsync(real: Real, tmp_path: Path) -> None:
    await asyncio.to_thread(put, real, *(b"Subject: %d\r\n\r\nx\r\n" % number for number in range(30)))
    (tmp_path / "mail").mkdir()
    async with real.edge(ImapEdge) as running:
        (tmp_path / "rc").write_text(
            f"IMAPStore far\nHost localhost\nPort {running.port}\nUser joe\nPass right\nSSLType IMAPS\n"
            f"CertificateFile {real.certificate.ca}\n\nMaildirStore near\nInbox {tmp_path}/mail/INBOX\n"
            f"Path {tmp_path}/mail/\nSubFolders Verbatim\n\nChannel all\nFar :far:\nNear :near:\nPatterns INBOX\n"
            "Create Both\nExpunge Both\nSyncState *\n"
        )

        async def sync() -> None:
            process = await asyncio.create_subprocess_exec(
                "mbsync", "-c", str(tmp_path / "rc"), "-a", stderr=subprocess.PIPE, stdout=subprocess.PIPE
            )
            _, errors = await asyncio.wait_for(process.communicate(), 60)
            assert process.returncode == 0, errors

        await sync()
        inbox = tmp_path / "mail" / "INBOX"
        messages = [*(inbox / "new").iterdir(), *(inbox / "cur").iterdir()]
        assert len(messages) == 30
        for message in messages[:10]:
            message.unlink()
        await sync()
        assert ("joe@example.com", "EXPUNGE", "INBOX") in running.notes.changes or (
            "joe@example.com", "CLOSE", "INBOX") in running.notes.changes
    assert len(await asyncio.to_thread(folder, real)) == 20


async def test_a_hundred_megabytes_in_and_out_with_flat_memory(
    start_dovecot: Callable[..., Any], certificate: Certificate, tmp_path: Path
) -> None:
    lab = start_dovecot(plugins="  acl_user = %u\n")
    server = Server("real", "dovecot", Endpoint("127.0.0.1", lab.imap_port), Endpoint("127.0.0.1", lab.lmtp_port),
                    login_way=LoginWay.MASTER, master_user=lab.master_user, master_password=lab.master_password)
    real = Real(lab, server, certificate)
    lab.prepare("joe@example.com")
    upload, imap_copy, pop3_copy = tmp_path / "up", tmp_path / "imap", tmp_path / "pop3"
    upload.write_bytes(b"Subject: big\r\n\r\n" + (b"x" * 76 + b"\r\n") * (100 * 1024 * 1024 // 78))
    async with real.edge(ImapEdge) as imap, real.edge(Pop3Edge) as pop3:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        url = f"imaps://localhost:{imap.port}/INBOX"
        sent = await asyncio.to_thread(real.curl, url, "-T", str(upload))
        assert sent.returncode == 0, sent.stderr
        got = await asyncio.to_thread(real.curl, url + ";MAILINDEX=1", "-o", str(imap_copy))
        assert got.returncode == 0, got.stderr
        got = await asyncio.to_thread(real.curl, f"pop3s://localhost:{pop3.port}/1", "-o", str(pop3_copy))
        assert got.returncode == 0, got.stderr
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert _same(upload, imap_copy) and _same(upload, pop3_copy)
    assert grown < 30 * 1024  # kB


def _same(one: Path, other: Path) -> bool:
    return subprocess.run(["cmp", "-s", str(one), str(other)], check=False).returncode == 0


@pytest.mark.skipif(not shutil.which("mutt") or not shutil.which("script"), reason="needs mutt and script")
async def test_mutt(real: Real, tmp_path: Path) -> None:
    """Opens a folder, flags one message and deletes another, as somebody at the keys would."""
    await asyncio.to_thread(put, real, *(b"Subject: m%d\r\n\r\nx\r\n" % number for number in range(3)))
    async with real.edge(ImapEdge) as running:
        (tmp_path / "rc").write_text(
            "set imap_user=joe\nset imap_pass=right\nset ssl_usesystemcerts=no\n"
            f"set certificate_file={real.certificate.ca}\n"
            f'set spoolfile="imaps://localhost:{running.port}/INBOX"\nset header_cache={tmp_path}/cache\n'
            "set delete=yes\nset quit=yes\nset move=no\nset timeout=1\nset mail_check=1\nset nowait_key\n"
            "push '<jump>1<enter><delete-message><jump>2<enter><flag-message><sync-mailbox><quit>'\n"
        )
        process = await asyncio.create_subprocess_exec(
            "script", "-qec", f"mutt -n -F {tmp_path}/rc", "/dev/null",
            env={**os.environ, "TERM": "xterm", "HOME": str(tmp_path)},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        said, _ = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, said
        touched = {what for _, what, _ in running.notes.changes}
        assert "STORE" in touched and touched & {"EXPUNGE", "CLOSE"}, said
    assert len(await asyncio.to_thread(folder, real)) == 2
