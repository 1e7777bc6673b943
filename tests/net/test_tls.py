"""Contexts: names, reload in place, tickets across forked workers, bad files."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
from pathlib import Path

import pytest
import uvloop
from cryptography import x509

from onedomain.net.listen import Listener, bind
from onedomain.net.stream import Stream
from onedomain.net.tls import CertificateError, CertificateFiles, ClientContexts, ServerContexts
from tests.lab.tls import Authority, Certificate
from tests.net.conftest import Notes, both_tls, stream_pair


def files(certificate: Certificate, *names: str) -> CertificateFiles:
    return CertificateFiles(str(certificate.cert), str(certificate.key), names)


async def shown(contexts: ServerContexts, name: str | None) -> str:
    """The first name of the certificate a client gets that asks for `name`; and what the server knows was asked."""
    near, far = stream_pair()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    await asyncio.gather(
        near.start_tls(context, server_side=False, server_hostname=name),
        far.start_tls(contexts.context, server_side=True),
    )
    assert far.tls is not None and far.tls.sni == (name or "").lower()
    assert isinstance(near.wire.sock, ssl.SSLSocket)
    der = near.wire.sock.getpeercert(binary_form=True)
    assert der is not None
    near.close()
    far.close()
    return str(x509.load_der_x509_certificate(der).subject.rfc4514_string())


async def test_the_name_chooses_the_certificate(authority: Authority) -> None:
    contexts = ServerContexts(
        [
            files(authority.issue("first.example")),
            files(authority.issue("second.example", "also.example")),
            files(authority.issue("wild.example", "*.wild.example")),
            files(authority.issue("third.example"), "given.example"),
        ]
    )
    expected = {
        None: "first", "first.example": "first", "second.example": "second", "ALSO.example": "second",
        "a.wild.example": "wild", "a.b.wild.example": "first", "given.example": "third", "third.example": "first",
        "unknown.example": "first",
    }  # fmt: skip
    for name, which in expected.items():
        assert await shown(contexts, name) == f"CN={which}.example", name


async def test_reload_in_place(authority: Authority, tmp_path: Path, client_tls: ClientContexts) -> None:
    """A session goes on, a ticket stays good, and new clients see the new certificate."""
    old = authority.issue("mail.example", file="reload-old")
    new = authority.issue("mail.example", "new.example", file="reload-new")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    shutil.copy(old.cert, cert)
    shutil.copy(old.key, key)
    contexts = ServerContexts([CertificateFiles(str(cert), str(key))])
    near, far = stream_pair()
    await both_tls(near, far, client_tls, contexts, str(authority.ca))
    await far.write(b"hello")
    assert await near.read() == b"hello"
    assert isinstance(near.wire.sock, ssl.SSLSocket)
    session = near.wire.sock.session

    shutil.copy(new.cert, cert)
    shutil.copy(new.key, key)
    contexts.reload()

    await near.write(b"still here")
    assert await far.read() == b"still here"
    near.close()
    far.close()

    async def names(session: ssl.SSLSession | None) -> tuple[list[str], bool]:
        near, far = stream_pair()
        await asyncio.gather(
            near.start_tls(
                client_tls.get(str(authority.ca)), server_side=False, server_hostname="mail.example", session=session
            ),
            far.start_tls(contexts.context, server_side=True),
        )  # fmt: skip
        assert isinstance(near.wire.sock, ssl.SSLSocket) and near.tls is not None
        peer = near.wire.sock.getpeercert() or {}
        near.close()
        far.close()
        return [value for _, value in peer.get("subjectAltName", ())], near.tls.resumed

    assert (await names(session))[1]
    found, resumed = await names(None)
    assert "new.example" in found
    assert not resumed


async def test_a_bad_reload_changes_nothing(authority: Authority, tmp_path: Path) -> None:
    good, other = authority.issue("mail.example", file="good"), authority.issue("other.example")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    shutil.copy(good.cert, cert)
    shutil.copy(good.key, key)
    contexts = ServerContexts([files(authority.issue("first.example")), CertificateFiles(str(cert), str(key))])
    shutil.copy(other.cert, cert)  # the key does not fit any more
    with pytest.raises(CertificateError, match="key values mismatch"):
        contexts.reload()
    assert await shown(contexts, "mail.example") == "CN=mail.example"
    assert await shown(contexts, "other.example") == "CN=first.example"
    key.unlink()
    with pytest.raises(CertificateError, match="No such file"):
        contexts.reload()
    key.write_text("nothing")
    with pytest.raises(CertificateError, match=r"cert\.pem"):
        contexts.reload()


def test_a_server_needs_a_certificate() -> None:
    with pytest.raises(CertificateError):
        ServerContexts([])


def test_contexts_are_made_once(certificate: Certificate) -> None:
    contexts = ClientContexts()
    ca = str(certificate.ca)
    assert contexts.get(ca) is contexts.get(ca)
    assert contexts.get(ca) is not contexts.get(ca, verify=False)
    assert contexts.get(ca).verify_mode is ssl.CERT_REQUIRED and contexts.get(ca).check_hostname
    assert contexts.get(ca).minimum_version >= ssl.TLSVersion.TLSv1_2
    before = contexts.get(ca)
    contexts.forget()
    assert contexts.get(ca) is not before


def test_a_ticket_of_one_worker_is_good_at_the_other(certificate: Certificate) -> None:
    """Two forked processes, one context made before: as supervisor and workers do it."""
    contexts = ServerContexts([files(certificate)])
    doors = [bind("127.0.0.1", 0), bind("127.0.0.1", 0)]
    children = []
    for door in doors:
        pid = os.fork()
        if pid == 0:
            try:
                uvloop.run(_serve_one(door, contexts))
            finally:
                os._exit(0)
        children.append(pid)
    context = ssl.create_default_context(cafile=str(certificate.ca))
    session = None
    resumed = []
    for door in doors:
        with socket.create_connection(door.getsockname()) as plain:
            with context.wrap_socket(plain, server_hostname="mail.example", session=session) as sock:
                assert sock.recv(100) == b"* OK\r\n"
                resumed.append(sock.session_reused)
                session = sock.session
                assert sock.recv(100) == b""
        door.close()
    for pid in children:
        assert os.waitpid(pid, 0)[1] == 0
    assert resumed == [False, True]


async def _serve_one(door: socket.socket, contexts: ServerContexts) -> None:
    served = asyncio.Event()

    async def greet(stream: Stream) -> None:
        await stream.write(b"* OK\r\n")
        served.set()

    listener = Listener(door, greet, trace=Notes(), tls=contexts.context)
    listener.start()
    await served.wait()
    await listener.drain(5)
