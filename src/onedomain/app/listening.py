"""From the configuration's listeners to handlers: what each port speaks, with its rules and limits.

Knows how the values of the file become the rules of a session. Does not know how sessions work.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from onedomain.config import Config, ListenerValues
from onedomain.edge.imap import ImapEdge, ImapRules, MailboxParts
from onedomain.edge.imap_visit import imap_visits
from onedomain.edge.pop3 import Pop3Edge, Pop3Rules
from onedomain.edge.pop3_visit import pop3_visits
from onedomain.edge.smtp import SmtpEdge
from onedomain.edge.smtp_ports import SmtpParts, SmtpRules
from onedomain.edge.smtp_visit import smtp_visits
from onedomain.model.ports import Trace
from onedomain.net.listen import Limits as Crowd
from onedomain.net.listen import Listener, Visits
from onedomain.net.shared import SharedTable
from onedomain.net.stream import Stream
from onedomain.protocol.smtp.body import BodyPolicy, Manners
from onedomain.protocol.smtp.offer import Limits, Offer

FAREWELLS = {
    "smtp": b"421 4.3.2 Too many connections, try again later\r\n",
    "submission": b"421 4.3.2 Too many connections, try again later\r\n",
    "imap": b"* BYE [UNAVAILABLE] Too many connections, try again later.\r\n",
    "pop3": b"-ERR [SYS/TEMP] Too many connections, try again later.\r\n",
}


@dataclass(frozen=True, slots=True)
class Conversations:
    """What the sessions of a worker are given."""

    smtp: SmtpParts
    mailbox: MailboxParts
    trace: Trace
    connections: SharedTable
    tls: ssl.SSLContext | None


def listener(config: Config, values: ListenerValues, sock: socket.socket, parts: Conversations) -> Listener:
    handler = _handler(config, values, parts)
    return Listener(
        sock,
        handler,
        trace=parts.trace,
        name=values.name,
        tls=parts.tls if values.implicit_tls else None,
        proxy_from=tuple(ipaddress.ip_network(network) for network in values.proxy_trusted),
        limits=Crowd(values.max_sessions, values.max_sessions_per_address, FAREWELLS[values.protocol]),
        counts=parts.connections,
        visits=_visits(handler),
    )


def _handler(config: Config, values: ListenerValues, parts: Conversations) -> Callable[[Stream], Awaitable[None]]:
    idle, attempts = config.limits.idle_mailbox, config.limits.login_failures
    if values.protocol == "imap":
        return ImapEdge(parts.mailbox, ImapRules(config.name, values.plaintext_passwords, idle=idle, attempts=attempts))
    if values.protocol == "pop3":
        return Pop3Edge(parts.mailbox, Pop3Rules(config.name, values.plaintext_passwords, attempts=attempts))
    return SmtpEdge(parts.smtp, smtp_rules(config, values))


def _visits(handler: Callable[[Stream], Awaitable[None]]) -> Visits | None:
    match handler:
        case ImapEdge():
            return imap_visits(handler)
        case Pop3Edge():
            return pop3_visits(handler)
        case SmtpEdge():
            return smtp_visits(handler)
    return None


def smtp_rules(config: Config, values: ListenerValues) -> SmtpRules:
    limits = config.limits
    submission = values.protocol == "submission"
    domain = config.file.domain[0].name
    policy = BodyPolicy(Manners(values.bare_newline), Manners(values.long_lines), max_size=limits.message_size)
    offer = Offer(
        config.name,
        starttls=not values.implicit_tls,
        auth=("PLAIN", "LOGIN") if submission else (),
        auth_in_clear=values.plaintext_passwords,
        policy=policy,
        limits=Limits(recipients=limits.recipients),
    )
    return SmtpRules(
        offer,
        cluster=domain,
        domain=domain,
        submission=submission,
        xclient_trusted=tuple(ipaddress.ip_network(network) for network in values.xclient_trusted),
        max_received=limits.received,
        expansion=limits.expansion,
        idle=limits.idle,
        name=values.name,
    )
