"""What must hold between the tables of a file that are each right by themselves.

Knows names that refer to each other, ports that collide, passwords without TLS. Dials nothing: `onedomain check` does.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable, Iterator

from onedomain.config.problem import Place, Problem
from onedomain.config.schema import IMPLICIT_TLS, PORTS, EndpointTable, File, SmarthostTable
from onedomain.config.texts import advice, say
from onedomain.model.replica import LARGEST

PASSWORDS = ("submission", "imap", "pop3")
CONTROL = "control.sock"


def problems(file: File) -> list[Problem]:
    """Everything that makes the file unusable."""
    return [
        *_twice((("server", i, "name"), table.name) for i, table in enumerate(file.server)),
        *_twice((("unit", i, "name"), table.name) for i, table in enumerate(file.unit)),
        *_twice(_domain_names(file)),
        *_unknown_servers(file),
        *_ports(file),
        *_certificates(file),
        *_authorities(file),
        *_peers(file),
        *_control(file),
    ]


def warnings(file: File) -> list[Problem]:
    """What works and is unwise."""
    found = []
    for index, listener in enumerate(file.listener):
        if listener.plaintext_passwords and not _is_loopback(listener.address):
            found.append(_problem(("listener", index, "plaintext_passwords"), "plain_passwords"))
    draining = {server.name for server in file.server if server.draining}
    for index, unit in enumerate(file.unit):
        if unit.servers and draining.issuperset(unit.servers):
            found.append(_problem(("unit", index, "servers"), "drained"))
    if file.smarthost is None and any(table.protocol.startswith("submission") for table in file.listener):
        found.append(_problem(("smarthost",), "no_smarthost"))
    if file.limits.message_size > LARGEST and any(unit.replicas for unit in file.unit):
        found.append(_problem(("limits", "message_size"), "large_messages", most=LARGEST >> 20))
    return found


def _problem(place: Place, key: str, /, **fields: object) -> Problem:
    return Problem(place, say(key, **fields), advice(key, **fields))


def _twice(names: Iterable[tuple[Place, str]]) -> Iterator[Problem]:
    first: dict[str, Place] = {}
    for place, name in names:
        if name in first:
            yield _problem(place, "twice", value=name, other=Problem(first[name], "").path)
        else:
            first[name] = place


def _domain_names(file: File) -> Iterator[tuple[Place, str]]:
    for index, table in enumerate(file.domain):
        yield ("domain", index, "name"), table.name
        for number, alias in enumerate(table.aliases):
            yield ("domain", index, "aliases", number), alias


def _unknown_servers(file: File) -> Iterator[Problem]:
    names = [server.name for server in file.server]
    for index, unit in enumerate(file.unit):
        for key, listed in (("servers", unit.servers), ("replicas", unit.replicas)):
            for number, name in enumerate(listed):
                if name not in names:
                    place: Place = ("unit", index, key, number)
                    yield _problem(place, "unknown_server", value=name, names=", ".join(names))


def _ports(file: File) -> Iterator[Problem]:
    """Workers listen with SO_REUSEPORT, so the kernel would not notice: half the connections would land on either."""
    taken: list[tuple[str, int, Place]] = []
    for index, table in enumerate(file.listener):
        port = PORTS[table.protocol] if table.port is None else table.port
        place: Place = ("listener", index, "port")
        other = next((at for address, number, at in taken if number == port and _overlap(address, table.address)), None)
        if port and other is not None:
            value = f"{table.address or '*'}:{port}"
            yield _problem(place, "same_port", value=value, other=Problem(other[:-1], "").path)
        taken.append((table.address, port, place))
    for address, port, place in _others(file):
        for taken_address, number, at in taken:
            if port and number == port and _overlap(address, taken_address):
                first = Problem(at[:-1] if at[-1] == "port" else at, "").path
                yield _problem(place, "same_port", value=f"{address or '*'}:{port}", other=first)
        taken.append((address, port, place))


def _others(file: File) -> Iterator[tuple[str, int, Place]]:
    """The ports of the keeper."""
    if file.edge.peer_listen is not None:
        host, _, port = file.edge.peer_listen.rpartition(":")
        yield host.strip("[]"), int(port), ("edge", "peer_listen")
    if file.metrics is not None:
        yield file.metrics.address, file.metrics.port, ("metrics", "port")


def _overlap(one: str, other: str) -> bool:
    every = {"": "", "0.0.0.0": ".", "::": ":"}
    return one == other or any(a in every and every[a] in b for a, b in ((one, other), (other, one)))


def _certificates(file: File) -> Iterator[Problem]:
    for index, table in enumerate(file.tls.certificate):
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(table.certificate, table.key, password="")
        except (ssl.SSLError, OSError, ValueError) as error:
            why = getattr(error, "reason", None) or str(error)
            place: Place = ("tls", "certificate", index, "certificate")
            yield _problem(place, "bad_certificate", path=table.certificate, why=why)
    if file.tls.certificate:
        return
    for index, listener in enumerate(file.listener):
        implicit = listener.protocol in IMPLICIT_TLS
        if implicit or (listener.protocol in PASSWORDS and not listener.plaintext_passwords):
            plain = "" if implicit else say("or_plain")
            yield _problem(
                ("listener", index, "protocol"), "no_certificate", protocol=listener.protocol, plain=plain
            )


def _authorities(file: File) -> Iterator[Problem]:
    dialled: list[tuple[Place, EndpointTable | SmarthostTable | None]] = [(("smarthost",), file.smarthost)]
    for index, server in enumerate(file.server):
        dialled += [(("server", index, "imap"), server.imap), (("server", index, "delivery"), server.delivery),
                    (("server", index, "doveadm"), server.doveadm)]
    for place, table in dialled:
        if table is None or table.ca_file is None:
            continue
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(table.ca_file)
        except (ssl.SSLError, OSError) as error:
            why = getattr(error, "reason", None) or str(error)
            yield _problem((*place, "ca_file"), "bad_ca", path=table.ca_file, why=why)


def _peers(file: File) -> Iterator[Problem]:
    if file.edge.peer_address and not file.edge.peer_listen:
        yield _problem(("edge", "peer_address"), "peer_alone")
    if file.edge.peer_address and file.edge.peer_address.endswith(":0"):
        yield _problem(("edge", "peer_address"), "peer_no_port")


def _control(file: File) -> Iterator[Problem]:
    """A socket's path is short: sun_path of unix(7) has 108 bytes, one of them the final zero."""
    own = file.edge.control is not None
    path = file.edge.control or file.edge.state / CONTROL
    if len(os.fsencode(path)) > 107:
        yield _problem(("edge", "control" if own else "state"), "long_control", path=path)


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"
