"""TLS contexts: which certificate for which name, what is demanded of servers we dial, what survives a reload.

Knows OpenSSL's settings. Does not know sockets or sessions of mail.
Contexts of a server are made before the workers fork, so that a ticket from one worker resumes at any other.
"""

from __future__ import annotations

import os
import ssl
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cryptography import x509

from onedomain.net.names import Names

SESSIONS_KEPT = 256
"""Client sessions kept for resumption, one per server and context; some 2 kB each."""


class CertificateError(ValueError):
    """A certificate or key can't be used; the message names the file. What was in use stays in use."""


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Paths of PEM files: the chain, leaf first, and its key. `names` are the server names it answers for; the
    certificate's own subject alternative names if empty. A leading "*." stands for one label (RFC 6125)."""

    cert: str
    key: str
    names: tuple[str, ...] = ()


class ServerContexts:
    """The server side. `context` is what listeners and STARTTLS use; SNI picks among the others.

    The first certificate answers for names nobody has, and for clients that send none. `tls13`: nothing older.
    """

    def __init__(self, files: Sequence[CertificateFiles], *, tls13: bool = False) -> None:
        if not files:
            raise CertificateError("TLS needs a certificate")
        self._files = tuple(files)
        self._contexts = tuple(_server_context() for _ in self._files)
        if tls13:
            for context in self._contexts:
                context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._names: dict[str, ssl.SSLContext] = {}
        self.context = self._contexts[0]
        self.context.sni_callback = self._choose
        self.reload()

    def reload(self) -> None:
        """Read the files again, and use what they have now. Raises CertificateError, and then nothing has changed."""
        self.use(self.read())

    def read(self) -> tuple[bytes, ...]:
        """What the files have now, for `use`, here or in another process. Raises CertificateError."""
        return tuple(_read(files) for files in self._files)

    def use(self, pems: Sequence[bytes]) -> None:
        """Into the same contexts: sessions live on, and tickets stay good.

        All are tried before any is used. Raises CertificateError, and then nothing has changed.
        """
        names: dict[str, ssl.SSLContext] = {}
        for files, pem, context in zip(self._files, pems, self._contexts, strict=True):
            _load(_server_context(), files, pem)
            for name in files.names or _own_names(files, pem):
                names.setdefault(name.lower(), context)
        for files, pem, context in zip(self._files, pems, self._contexts, strict=True):
            _load(context, files, pem)
        self._names = names

    def _choose(self, sock: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        if name is None:
            return
        name = name.lower()
        if isinstance(sock, ssl.SSLSocket):
            sock.server_hostname = name  # None on the server side otherwise; TlsInfo takes it from here
        context = self._names.get(name) or self._names.get("*." + name.partition(".")[2])
        if context is not None:
            sock.context = context


class ClientContexts:
    """The client side: one context per (CA file, verified or not), and the last session with each server.

    `names` goes with them to whoever dials.
    """

    def __init__(self, names: Names | None = None) -> None:
        self.names = names or Names()
        self._contexts: dict[tuple[str, bool], ssl.SSLContext] = {}
        self._sessions: OrderedDict[tuple[Any, ...], ssl.SSLSession] = OrderedDict()

    def get(self, ca_file: str = "", *, verify: bool = True) -> ssl.SSLContext:
        """`ca_file` "" is the system's store. Unverified is for opportunistic TLS (RFC 7435). CertificateError."""
        found = self._contexts.get((ca_file, verify))
        if found is None:
            found = self._contexts[ca_file, verify] = _client_context(ca_file, verify)
        return found

    def forget(self) -> None:
        """Make contexts anew at next use, because CA files changed."""
        self._contexts.clear()
        self._sessions.clear()

    def session(self, context: ssl.SSLContext, server: str, name: str) -> ssl.SSLSession | None:
        """To resume with. `server` is "host:port", `name` what the certificate had to say."""
        return self._sessions.get((context, server, name))

    def keep(self, context: ssl.SSLContext, server: str, name: str, session: ssl.SSLSession | None) -> None:
        if session is None or not session.has_ticket:
            return
        self._sessions[context, server, name] = session
        self._sessions.move_to_end((context, server, name))
        if len(self._sessions) > SESSIONS_KEPT:
            self._sessions.popitem(last=False)


def _common(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A bare FIN is the end, not an error that poisons the session: mail's protocols say themselves when they are done.
    context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    return context


def _server_context() -> ssl.SSLContext:
    context = _common(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    # Two are OpenSSL's default; the second is never used by mail clients and costs 5 % of a session.
    context.num_tickets = 1
    return context


def _client_context(ca_file: str, verify: bool) -> ssl.SSLContext:
    context = _common(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    try:
        if ca_file:
            context.load_verify_locations(ca_file)
        else:
            context.load_default_certs()
    except OSError as error:
        raise CertificateError(f"{ca_file}: {error.strerror or error}") from error
    return context


def _read(files: CertificateFiles) -> bytes:
    parts = []
    for path in (files.key, files.cert):
        try:
            with open(path, "rb") as file:
                parts.append(file.read())
        except OSError as error:
            raise CertificateError(f"{path}: {error.strerror}") from error
    return b"\n".join(parts)


def _load(context: ssl.SSLContext, files: CertificateFiles, pem: bytes) -> None:
    """From memory: the very bytes that were tried are the ones that come into use."""
    fd = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        os.write(fd, pem)
        context.load_cert_chain(f"/proc/self/fd/{fd}", password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        why = error.reason.replace("_", " ").lower() if isinstance(error, ssl.SSLError) and error.reason else str(error)
        raise CertificateError(f"{files.cert} with key {files.key}: {why}") from error
    finally:
        os.close(fd)


def _no_password() -> str:
    raise ValueError("the key has a password; nobody is there to type it")


def _own_names(files: CertificateFiles, pem: bytes) -> list[str]:
    try:
        leaf = x509.load_pem_x509_certificates(pem[pem.index(b"-----BEGIN CERTIFICATE-----") :])[0]
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    except (ValueError, IndexError) as error:
        raise CertificateError(f"{files.cert}: no certificate in it") from error
    return names.get_values_for_type(x509.DNSName)
