"""What the children of a supervisor inherit: everything that has to be made before the fork.

Knows sockets, TLS contexts and shared memory. Does not know what is done with them.

Each worker has a listening socket of its own for each port (SO_REUSEPORT), and the supervisor keeps them all:
connections that come while a worker is being replaced wait in its queue instead of being refused.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

from onedomain.app.handed import Handed
from onedomain.app.supervisor import Beats
from onedomain.config import Config, ListenerValues
from onedomain.model.failure import Failed, give_up
from onedomain.net.listen import bind
from onedomain.net.shared import SharedTable
from onedomain.net.tls import CertificateFiles, ServerContexts

ANY = ("0.0.0.0", "::")
KNOWN_HALF_LIFE = 3 * 86400.0
KNOWN_SLOTS = 1 << 18
"""With 100,000 pairs of account and address 1 new one in 10 is taken for a known one. 6 MB a worker."""
FAILURE_SLOTS = 1 << 17
"""300,000 failures in five minutes, from everywhere and at names that nobody has, slow nobody else down."""
LINKER_SLOT = -1
"""What the linker says to the keeper in place of a worker's number."""


@dataclass(frozen=True, slots=True)
class Inherited:
    """`sockets[slot]` is a list of (listener, socket). `contexts` is None where no certificate is configured.

    `failures` (of log-ins) fade in minutes; `known` remembers for days where accounts have logged in from.
    """

    sockets: list[list[tuple[ListenerValues, socket.socket]]]
    contexts: ServerContexts | None
    connections: SharedTable
    failures: SharedTable
    known: SharedTable
    beats: Beats
    handed: Handed

    def keep(self, slot: int | None) -> None:
        """Close the sockets of all other workers, of all with None: whoever holds one keeps its queue open."""
        for number, opened in enumerate(self.sockets):
            if number != slot:
                for _, sock in opened:
                    sock.close()

    @property
    def workers(self) -> int:
        return len(self.sockets)

    @property
    def keeper_beat(self) -> int:
        return self.workers

    @property
    def linker_beat(self) -> int:
        return self.workers + 1


def worker_count(config: Config) -> int:
    return config.file.edge.workers or os.cpu_count() or 1


def inherit(config: Config) -> Inherited:
    """Opens every port for every worker. Raises Failed with the listener's name, CertificateError."""
    count = worker_count(config)
    contexts = server_contexts(config)
    sockets = [[(listener, sock) for listener in config.listeners for sock in open_listener(listener)]
               for _ in range(count)]
    return Inherited(
        sockets, contexts, connections=SharedTable(workers=count), failures=SharedTable(FAILURE_SLOTS, count),
        known=SharedTable(KNOWN_SLOTS, count, half_life=KNOWN_HALF_LIFE), beats=Beats(count + 2), handed=Handed())


def server_contexts(config: Config) -> ServerContexts | None:
    files = [CertificateFiles(str(table.certificate), str(table.key), tuple(table.names))
             for table in config.tls.certificate]
    return ServerContexts(files, tls13=config.tls.minimum == "1.3") if files else None


def open_listener(listener: ListenerValues, *, shared: bool = True) -> list[socket.socket]:
    """One socket, or one per family where the address is open. No IPv6 on the machine is no error then.

    `shared`: with the other workers. Raises Failed.
    """
    opened = []
    for host in [listener.address] if listener.address else ANY:
        try:
            opened.append(bind(host, listener.port, reuse_port=shared))
        except OSError as error:
            if not listener.address and host == "::" and opened:
                continue
            why = f"{listener.name}: {error.strerror or error}"
            raise Failed(give_up(421, "4.3.5", "cannot listen", why)) from error
    return opened
