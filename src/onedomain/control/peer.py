"""Edge to edge: the same link as between our processes, over TLS 1.3 with a certificate at either end.

Knows how an edge proves who it is: a key of its own and a self-signed certificate, made at its first start and
published in the database of the directory, which all edges trust already. Does not know what is asked of a peer.
"""

from __future__ import annotations

import asyncio
import datetime
import os
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from onedomain.control.link import MAX_LINE, Handler, Link

DIAL_SECONDS = 3.0
VALID_YEARS = 20  # trust hangs on the database row, which can be deleted, not on a date


@dataclass(frozen=True, slots=True)
class Identity:
    """`certificate` is PEM text, fit for the directory; `key_file` holds key and certificate, for this machine only."""

    name: str
    certificate: str
    key_file: Path = field(repr=False)


def identity(state: Path, name: str, now: float) -> Identity:
    """The edge's key and certificate, made if they are not there yet or carry another name. Raises OSError."""
    path = state / "edge.pem"
    try:
        pem = path.read_text()
        certificate = x509.load_pem_x509_certificate(pem.encode())
        if certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == name:
            return Identity(name, certificate.public_bytes(serialization.Encoding.PEM).decode(), path)
    except (FileNotFoundError, ValueError, IndexError):
        pass  # none yet, or unusable: a new one is as good, the row in the database is replaced with it
    key, text = _make(name, now)
    handle = os.open(path.with_suffix(".new"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(key + text)
        file.flush()
        os.fsync(file.fileno())
    os.rename(path.with_suffix(".new"), path)
    return Identity(name, text, path)


def _make(name: str, now: float) -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = datetime.datetime.fromtimestamp(now, datetime.UTC) - datetime.timedelta(days=1)
    public = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject).issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start).not_valid_after(start + datetime.timedelta(days=365 * VALID_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(True, False, False, False, False, True, False, False, False), critical=True)
        .add_extension(public, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                serialization.NoEncryption())
    return private.decode(), certificate.public_bytes(serialization.Encoding.PEM).decode()


def context(me: Identity, trusted: Iterable[str], *, server: bool) -> ssl.SSLContext:
    """TLS 1.3 only, both sides show a certificate, and it must be one of `trusted` (PEM texts)."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.check_hostname = False  # the very certificate is trusted, not a name in it
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_cert_chain(me.key_file)
    anchors = "".join(trusted)
    if anchors:
        made.load_verify_locations(cadata=anchors)
    return made


async def dial(me: Identity, address: str, port: int, certificate: str,
               handlers: Mapping[str, Handler] | None = None) -> tuple[Link, asyncio.Task[None]]:
    """A link to the edge that owns `certificate`. Raises OSError (ssl.SSLError among them), TimeoutError."""
    async with asyncio.timeout(DIAL_SECONDS):
        reader, writer = await asyncio.open_connection(
            address, port, limit=MAX_LINE, ssl=context(me, [certificate], server=False), server_hostname="")
    link = Link(reader, writer, handlers or {})
    return link, asyncio.create_task(link.serve())
