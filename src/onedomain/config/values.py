"""What a valid file means: the values that app hands to the parts.

Knows how tables become model values and where defaults come from. Does not know how the file was read or checked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from onedomain.config.checks import CONTROL
from onedomain.config.fields import other_spelling
from onedomain.config.problem import Problem
from onedomain.config.schema import (
    IMPLICIT_TLS,
    PORTS,
    AlertsTable,
    EndpointTable,
    FailoverTable,
    File,
    HealthTable,
    LimitsTable,
    LinksTable,
    LogTable,
    ResolverTable,
    RetryTable,
    ServerTable,
    SmarthostTable,
    TlsTable,
)
from onedomain.decision.agreement import published
from onedomain.model.account import Domain, Level, Unit
from onedomain.model.server import Endpoint, LoginWay, Server, ServerClass, TlsMode

UIDL_FORMATS = {"dovecot": "%08Xu%08Xv", "cyrus": "%v.%u", "imap": "%08Xu%08Xv", "node": "%08Xu%08Xv"}
"""What each kind's own POP3 shows by default: pop3_uidl_format (Dovecot 2.3), uidl_format "cyrus" of 3.x."""


@dataclass(frozen=True, slots=True)
class ListenerValues:
    """`protocol` is the conversation: "smtp", "submission", "imap" or "pop3"; `implicit_tls` says how it begins.

    `address` "" means every address. `bare_newline` and `long_lines`: "refuse", "normalise" or "pass".
    """

    protocol: str
    implicit_tls: bool
    address: str
    port: int
    bare_newline: str = "refuse"
    long_lines: str = "pass"
    plaintext_passwords: bool = False
    max_sessions: int = 10_000
    max_sessions_per_address: int = 100
    proxy_trusted: tuple[str, ...] = ()
    xclient_trusted: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.protocol}{'s' if self.implicit_tls else ''} {self.address or '*'}:{self.port}"


@dataclass(frozen=True)
class Config:
    """`file` holds the tables as they were read; `warnings` what works and is unwise."""

    path: Path
    file: File = field(repr=False)
    warnings: tuple[Problem, ...] = ()

    @property
    def name(self) -> str:
        """This edge's name."""
        return self.file.edge.name

    @property
    def state(self) -> Path:
        return self.file.edge.state

    @property
    def control(self) -> Path:
        return self.file.edge.control or self.state / CONTROL

    @property
    def snapshot(self) -> Path:
        """Where the directory is kept for a start without its database."""
        return self.file.directory.snapshot or self.state / "directory.snapshot"

    @property
    def limits(self) -> LimitsTable:
        return self.file.limits

    @property
    def retry(self) -> RetryTable:
        return self.file.retry

    @property
    def health(self) -> HealthTable:
        return self.file.health

    @property
    def failover(self) -> FailoverTable:
        return self.file.failover

    @property
    def shared(self) -> str:
        """What has to be the same at all edges of the domain."""
        return published(self.failover.model_dump())

    @property
    def links(self) -> LinksTable:
        return self.file.links

    @property
    def alerts(self) -> AlertsTable:
        return self.file.alerts

    @property
    def log(self) -> LogTable:
        return self.file.log

    @property
    def resolver(self) -> ResolverTable:
        return self.file.resolver

    @property
    def tls(self) -> TlsTable:
        return self.file.tls

    @property
    def smarthost(self) -> SmarthostTable | None:
        return self.file.smarthost

    @property
    def smarthost_endpoints(self) -> tuple[Endpoint, ...]:
        table = self.file.smarthost
        if table is None:
            return ()
        ca_file = str(table.ca_file or "")
        return tuple(Endpoint(host, table.port, TlsMode(table.tls), table.tls_name, ca_file)
                     for host in (table.host, *table.also))

    @cached_property
    def database_url(self) -> str:
        """With its password; never to be logged."""
        url = self.file.directory.url
        if not url:
            return f"sqlite:///{self.state / 'directory.db'}"
        if url.startswith("sqlite:///"):
            return f"sqlite:///{self.path.absolute().parent / url.removeprefix('sqlite:///')}"
        if not (password := self.file.directory.password):
            return url
        scheme, _, rest = url.partition("://")
        login, at, place = rest.rpartition("@")
        user = login.partition(":")[0] if at else ""
        return f"{scheme}://{user}:{quote(password, safe='')}@{place}"

    @property
    def database_file(self) -> Path | None:
        """SQLite's; None where it is another database."""
        scheme, _, path = self.database_url.partition(":///")
        return Path(path) if scheme == "sqlite" else None

    @cached_property
    def domains(self) -> tuple[Domain, ...]:
        """Every name we answer to: each domain, its aliases, and the other spelling (IDNA) of each."""
        found: dict[str, Domain] = {}
        for table in self.file.domain:
            for name in (table.name, *table.aliases):
                for spelling in filter(None, (name, other_spelling(name))):
                    domain = Domain(spelling, table.name, table.tag_separator, table.postmaster)
                    found.setdefault(spelling, domain)
        return tuple(found.values())

    @cached_property
    def servers(self) -> tuple[Server, ...]:
        return tuple(map(_server, self.file.server))

    @cached_property
    def units(self) -> tuple[Unit, ...]:
        return tuple(
            Unit(unit.name, tuple(unit.servers), Level(unit.level), unit.strict, tuple(unit.replicas))
            for unit in self.file.unit
        )

    @cached_property
    def listeners(self) -> tuple[ListenerValues, ...]:
        return tuple(
            ListenerValues(
                protocol=table.protocol.removesuffix("s") if table.protocol in IMPLICIT_TLS else table.protocol,
                implicit_tls=table.protocol in IMPLICIT_TLS,
                address=table.address,
                port=PORTS[table.protocol] if table.port is None else table.port,
                bare_newline=table.bare_newline,
                long_lines=table.long_lines,
                plaintext_passwords=table.plaintext_passwords,
                max_sessions=table.max_sessions,
                max_sessions_per_address=table.max_sessions_per_address,
                proxy_trusted=tuple(table.proxy_trusted),
                xclient_trusted=tuple(table.xclient_trusted),
            )
            for table in self.file.listener
        )


def _server(table: ServerTable) -> Server:
    return Server(
        name=table.name,
        kind=table.kind,
        imap=_endpoint(table.imap, 993 if table.imap.tls == "implicit" else 143),
        delivery=_endpoint(table.delivery, 24 if table.delivery.protocol == "lmtp" else 25),
        delivery_protocol=table.delivery.protocol,
        queue_time=table.delivery.queue_time if table.delivery.protocol == "smtp" else 0.0,
        class_=ServerClass(table.class_),
        login_way=LoginWay(table.login.way),
        master_user=table.login.user,
        master_password=table.login.password,
        replication_user=table.replication.user if table.replication else "",
        replication_password=table.replication.password if table.replication else "",
        mailbox_format=table.mailbox_format,
        rcpt_format=table.rcpt_format,
        uidl_format=table.uidl_format or UIDL_FORMATS[table.kind],
        max_deliveries=table.max_deliveries,
        doveadm=None if table.doveadm is None else _endpoint(table.doveadm, table.doveadm.port),
        doveadm_key="" if table.doveadm is None else table.doveadm.api_key,
        probe_accounts=tuple(table.probe.accounts),
        probe_password=table.probe.password,
        weight=table.weight,
        draining=table.draining,
    )


def _endpoint(table: EndpointTable, port: int) -> Endpoint:
    return Endpoint(
        host=table.host,
        port=table.port or port,
        tls=TlsMode(table.tls),
        tls_name=table.tls_name,
        ca_file=str(table.ca_file or ""),
        proxy_protocol=table.proxy_protocol,
    )
