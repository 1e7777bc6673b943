"""The tables of onedomain.toml: which keys there are, their kinds, defaults and limits.

Knows each table by itself. Does not know how the file is read, nor what must hold between tables (checks).
"""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from onedomain.config.fields import (
    DomainName,
    Duration,
    FilePath,
    Host,
    HostAndPort,
    IpAddress,
    ListenAddress,
    MailAddress,
    MailboxFormat,
    Name,
    Network,
    Port,
    ReadableFile,
    Secret,
    Size,
    Table,
    UidlFormat,
    Url,
    first_line,
    wrong,
)

Protocol = Literal["smtp", "submission", "submissions", "imap", "imaps", "pop3", "pop3s"]
PORTS = {"smtp": 25, "submission": 587, "submissions": 465, "imap": 143, "imaps": 993, "pop3": 110, "pop3s": 995}
IMPLICIT_TLS = ("submissions", "imaps", "pop3s")
Manners = Literal["refuse", "normalise", "pass"]


class EdgeTable(Table):
    """This machine. `name` is what it says in HELO, and what tells it from the other edges."""

    name: DomainName
    state: FilePath
    workers: int = Field(0, ge=0, le=256)  # 0: one per core
    control: FilePath | None = None        # default: control.sock in the state folder
    user: str = ""
    group: str = ""
    peer_listen: HostAndPort | None = None
    peer_address: HostAndPort | None = None


class DomainTable(Table):
    name: DomainName
    aliases: list[DomainName] = Field([])
    tag_separator: str = Field("+", max_length=1)
    postmaster: MailAddress

    @field_validator("tag_separator")
    @classmethod
    def _separator(cls, value: str) -> str:
        if value and value not in "+-_=#.":
            raise wrong("separator", value=value)
        return value


class EndpointTable(Table):
    host: Host
    port: int | None = Field(None, ge=1, le=65535)
    tls: Literal["none", "opportunistic", "starttls", "implicit"] = "none"
    tls_name: str = ""
    ca_file: ReadableFile | None = None
    proxy_protocol: bool = False


class DeliveryTable(EndpointTable):
    """`queue_time` is for smtp: how long mail may lie in this server's own queue before it is in the mailbox. The
    default covers the first retry of a Postfix whose own delivery failed (queue_run_delay + minimal_backoff_time).
    """

    protocol: Literal["lmtp", "smtp"] = "lmtp"
    queue_time: Duration = Field(600.0, ge=1, le=86_400)

    @model_validator(mode="after")
    def _queues(self) -> DeliveryTable:
        if self.protocol != "smtp" and "queue_time" in self.model_fields_set:
            raise wrong("queue_time_only_smtp")
        return self


class LoginTable(Secret):
    way: Literal["password", "master", "authzid"] = "password"
    user: str = ""

    @model_validator(mode="after")
    def _complete(self) -> LoginTable:
        if self.way != "password" and not (self.user and self.password):
            raise wrong("login_incomplete", way=self.way)
        return self


class ReplicationTable(Secret):
    """The log-in of links: a node's replication user, an administrator of Cyrus."""

    user: str = ""

    @model_validator(mode="after")
    def _complete(self) -> ReplicationTable:
        if not (self.user and self.password):
            raise wrong("replication_incomplete")
        return self


class ProbeTable(Secret):
    accounts: list[MailAddress] = Field([], max_length=100)


class DoveadmTable(EndpointTable):
    """Dovecot's administration over HTTP. The key is doveadm_api_key, given here or in a file of its own."""

    port: int = Field(ge=1, le=65535)
    api_key: str = Field("", repr=False)
    api_key_file: FilePath | None = None

    @model_validator(mode="after")
    def _fetch(self) -> DoveadmTable:
        if self.api_key and self.api_key_file is not None:
            raise wrong("password_twice", names="api_key, api_key_file")
        if self.api_key_file is not None:
            object.__setattr__(self, "api_key", first_line(self.api_key_file))
        if not self.api_key:
            raise wrong("no_api_key")
        return self


class ServerTable(Table):
    name: Name
    kind: Literal["dovecot", "cyrus", "imap", "node"]
    class_: Literal["exclusive", "shared", "foreign"] = Field("exclusive", alias="class")
    imap: EndpointTable
    delivery: DeliveryTable
    login: LoginTable = LoginTable.model_construct()
    replication: ReplicationTable | None = None
    probe: ProbeTable = ProbeTable.model_construct()
    mailbox_format: MailboxFormat = "{local}@{domain}"
    rcpt_format: MailboxFormat = "{local}{tag}@{domain}"
    uidl_format: UidlFormat | None = None  # default: what this kind's own POP3 server shows
    max_deliveries: int = Field(20, ge=1, le=1000)
    doveadm: DoveadmTable | None = None
    weight: float = Field(1.0, gt=0, le=1000)
    draining: bool = False

    @model_validator(mode="after")
    def _fits(self) -> ServerTable:
        if self.replication is not None and self.kind not in ("node", "cyrus"):
            raise wrong("replication_kind", kind=self.kind)
        if self.doveadm is not None and self.kind != "dovecot":
            raise wrong("only_dovecot", name="doveadm")
        return self


class UnitTable(Table):
    name: Name
    servers: list[str] = Field([], max_length=1000)
    replicas: list[str] = Field([], max_length=1000)
    level: Literal["spool", "primary", "replica"] = "spool"
    strict: bool = False


class ListenerTable(Table):
    protocol: Protocol
    address: ListenAddress = ""  # empty: every address, IPv4 and IPv6
    port: Port | None = None
    bare_newline: Manners = "refuse"
    long_lines: Manners = "pass"
    plaintext_passwords: bool = False
    max_sessions: int = Field(10_000, ge=1, le=1_000_000)
    max_sessions_per_address: int = Field(100, ge=1, le=1_000_000)
    proxy_trusted: list[Network] = Field([])
    xclient_trusted: list[Network] = Field([])

    @model_validator(mode="after")
    def _fits(self) -> ListenerTable:
        if self.xclient_trusted and self.protocol != "smtp":
            raise wrong("xclient_only_smtp")
        if self.protocol not in ("smtp", "submission", "submissions"):
            for key in ("bare_newline", "long_lines"):
                if key in self.model_fields_set:
                    raise wrong("only_smtp", name=key)
        return self


class CertificateTable(Table):
    """`names` are the server names (SNI) it is for; the first certificate is shown where none fits."""

    certificate: ReadableFile
    key: ReadableFile
    names: list[str] = Field([])


class TlsTable(Table):
    minimum: Literal["1.2", "1.3"] = "1.2"
    certificate: list[CertificateTable] = Field([])


class DirectoryTable(Secret):
    """`password` goes into the URL of a PostgreSQL database."""

    url: str = ""  # default: directory.db in the state folder
    snapshot: FilePath | None = None
    poll: Duration = Field(0.5, ge=0.05, le=60)

    @field_validator("url")
    @classmethod
    def _known(cls, value: str) -> str:
        if value and not value.startswith(("sqlite:///", "postgresql://")):
            raise wrong("database_url")
        if value.removeprefix("sqlite:///") in ("", ":memory:") and value:
            raise wrong("database_no_file")  # of each process another one
        try:
            _ = urlsplit(value).port
        except ValueError as error:
            raise wrong("database_url_bad", why=str(error)) from None
        if value.startswith("postgresql:") and not urlsplit(value).path.strip("/"):
            raise wrong("database_no_name")
        return value


class SmarthostTable(Secret):
    """Where mail for other domains goes. `also` are further hosts, equal to the first in everything else."""

    host: Host
    also: list[Host] = Field([], max_length=20)
    port: int = Field(587, ge=1, le=65535)
    tls: Literal["none", "opportunistic", "starttls", "implicit"] = "starttls"
    tls_name: str = ""
    ca_file: ReadableFile | None = None
    user: str = ""
    max_deliveries: int = Field(10, ge=1, le=1000)


class LimitsTable(Table):
    """What one client may ask for; RFC 5321 section 4.5.3.1 gives the least that must be possible."""

    message_size: Size = Field(50 * 2**20, ge=64 * 2**10, le=2 * 2**30)
    recipients: int = Field(1000, ge=100, le=100_000)
    expansion: int = Field(1000, ge=1, le=100_000)
    received: int = Field(50, ge=10, le=1000)
    idle: Duration = Field(300.0, ge=30, le=3600)
    idle_mailbox: Duration = Field(1860.0, ge=1800, le=86_400)  # RFC 9051 section 5.4: at least 30 minutes
    login_failures: int = Field(10, ge=1, le=1000)
    account_sessions: int = Field(100, ge=0, le=100_000)  # mailbox sessions of one account at once; 0: no limit
    # The OK of an APPEND waits for the replica: longer than until a silent primary is followed, or the message would be
    # one that its client was told is stored. Clients wait 30 s.
    hold_append: Duration = Field(10.0, ge=0, le=25)
    spool_size: Size = Field(10 * 2**30, ge=2**20)
    spool_free: Size = Field(100 * 2**20, ge=0)  # kept free on the spool's disk


class RetryTable(Table):
    first: Duration = Field(5.0, ge=0.1, le=3600)
    longest: Duration = Field(1800.0, ge=1, le=86_400)
    warn_after: Duration = Field(4 * 3600.0, ge=1, le=30 * 86_400)
    give_up_after: Duration = Field(5 * 86_400.0, ge=60, le=30 * 86_400)  # RFC 5321 section 4.5.4.1: 4 to 5 days

    @model_validator(mode="after")
    def _ordered(self) -> RetryTable:
        if self.first > self.longest or self.longest > self.give_up_after:
            raise wrong("retry_order")
        return self


class HealthTable(Table):
    interval: Duration = Field(1.0, ge=0.1, le=3600)
    patience: Duration = Field(2.5, ge=0.1, le=60)
    message_interval: Duration = Field(300.0, ge=1, le=86_400)


class FailoverTable(Table):
    """When a replica is made the primary without anybody's doing, and what edges may do meanwhile."""

    automatic: bool = False
    refusing: Duration = Field(1.5, ge=0.1, le=3600)  # a server that refuses connections is restarting
    silent: Duration = Field(0.5, ge=0.0, le=3600)    # on top of [health] patience
    max_lag: Duration = Field(60.0, ge=0.0, le=86_400)
    lease: Duration = Field(3.0, ge=1, le=60)


class LinksTable(Table):
    """How replicas are kept: how often an account without news is looked at, how many at once, what is kept aside."""

    sweep: Duration = Field(300.0, ge=1, le=86_400)
    audit: Duration = Field(86_400.0, ge=60, le=30 * 86_400)  # and compared whole
    passes: int = Field(16, ge=1, le=1000)                    # accounts at once, per server
    brake_messages: int = Field(50, ge=1, le=1_000_000)
    brake_share: float = Field(0.30, gt=0, le=1)
    keep_deleted: Duration = Field(7 * 86_400.0, ge=0, le=365 * 86_400)
    deleted_size: Size = Field(2 * 2**30, ge=0)
    refused_size: Size = Field(4 * 2**30, ge=2**20)


class AlertsTable(Table):
    """Who is told of what needs a person; the log is always."""

    mail: bool = True  # to the postmaster of the first domain
    webhook: Url = ""
    every: Duration = Field(600.0, ge=1, le=86_400)   # the same again
    late: Duration = Field(300.0, ge=1, le=86_400)    # a server down, copies behind for longer


class MetricsTable(Table):
    address: ListenAddress = "127.0.0.1"
    port: int = Field(9464, ge=0, le=65535)


class LogTable(Table):
    keep: Duration = Field(30 * 86_400.0, ge=3600, le=3650 * 86_400)  # how long `onedomain trace` can look back


class ResolverTable(Table):
    servers: list[IpAddress] = Field([])  # default: those of /etc/resolv.conf
    timeout: Duration = Field(5.0, ge=0.1, le=60)


class File(Table):
    """The whole file."""

    edge: EdgeTable
    domain: list[DomainTable] = Field(min_length=1)
    server: list[ServerTable] = Field(min_length=1)
    unit: list[UnitTable] = Field(min_length=1)
    listener: list[ListenerTable] = Field(min_length=1)
    tls: TlsTable = TlsTable.model_construct()
    directory: DirectoryTable = DirectoryTable.model_construct()
    smarthost: SmarthostTable | None = None
    limits: LimitsTable = LimitsTable.model_construct()
    retry: RetryTable = RetryTable.model_construct()
    health: HealthTable = HealthTable.model_construct()
    failover: FailoverTable = FailoverTable.model_construct()
    links: LinksTable = LinksTable.model_construct()
    alerts: AlertsTable = AlertsTable.model_construct()
    metrics: MetricsTable | None = None
    log: LogTable = LogTable.model_construct()
    resolver: ResolverTable = ResolverTable.model_construct()

