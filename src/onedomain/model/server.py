"""A mail server that keeps mailboxes, as the configuration describes it.

Knows where it listens and how it is spoken to. Does not know whether it is up: that is the board's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class ServerClass(Enum):
    EXCLUSIVE = "exclusive"  # people reach it through our edges only
    SHARED = "shared"        # also directly
    FOREIGN = "foreign"      # somebody else's service


class TlsMode(Enum):
    NONE = "none"
    OPPORTUNISTIC = "opportunistic"  # STARTTLS where it is offered, unverified
    STARTTLS = "starttls"            # demanded and verified
    IMPLICIT = "implicit"            # TLS from the first byte, verified


@dataclass(frozen=True, slots=True)
class Endpoint:
    """host (name or address) and port; how TLS is used; tls_name is what the certificate must say (default: host)."""

    host: str
    port: int
    tls: TlsMode = TlsMode.NONE
    tls_name: str = ""
    ca_file: str = ""
    proxy_protocol: bool = False  # send a PROXY v2 header first, with the client's address

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class LoginWay(Enum):
    PASSWORD = "password"  # the user's own password is handed on
    MASTER = "master"      # user*master and the master's password (Dovecot)
    AUTHZID = "authzid"    # SASL PLAIN with an authorisation identity (RFC 4616), as a proxy administrator (Cyrus)


@dataclass(frozen=True, slots=True)
class Server:
    """name; kind: "dovecot" | "cyrus" | "imap" | "node"; delivery speaks "lmtp" or "smtp".

    `mailbox_format` makes the server's name of a mailbox, used at log-in; `rcpt_format` what RCPT TO says. Both know
    {local}, {domain}, {tag} (with its "+", or empty) of the account's mailbox name.
    `uidl_format` is the POP3 UIDL (Dovecot's variables %v UIDVALIDITY, %u UID, as in "%08Xu%08Xv").
    """

    name: str
    kind: str
    imap: Endpoint
    delivery: Endpoint
    delivery_protocol: str = "lmtp"
    queue_time: float = 0.0         # seconds that mail may lie in its own queue, if it has one (SMTP), on the way in
    class_: ServerClass = ServerClass.EXCLUSIVE
    login_way: LoginWay = LoginWay.PASSWORD
    master_user: str = ""
    master_password: str = field(default="", repr=False)
    replication_user: str = ""      # of links: a node's replication user, an administrator of Cyrus
    replication_password: str = field(default="", repr=False)
    mailbox_format: str = "{local}@{domain}"
    rcpt_format: str = "{local}{tag}@{domain}"
    uidl_format: str = "%08Xu%08Xv"
    max_deliveries: int = 20        # delivery connections at once, per worker
    probe_accounts: tuple[str, ...] = ()
    probe_password: str = field(default="", repr=False)
    doveadm: Endpoint | None = None  # Dovecot's administration over HTTP, and its key
    doveadm_key: str = field(default="", repr=False)
    weight: float = 1.0
    draining: bool = False          # as the configuration says; the operator's drain comes through the directory
