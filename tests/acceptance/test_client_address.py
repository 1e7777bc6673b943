"""The servers behind an edge are told whose connection it is: by ID, or by the PROXY protocol, as their tables say."""

from __future__ import annotations

import imaplib
import poplib
import re
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.acceptance.cluster import PASSWORD, Cluster
from tests.lab.ports import free_port
from tests.lab.process import wait_until

HERE = "127.0.0.77"
"""An address of the loopback that is nobody's."""

PROXY = """
haproxy_trusted_networks = 127.0.0.0/8
service imap-login {
  inet_listener behind {
    address = 127.0.0.1
    port = %d
    haproxy = yes
  }
}
"""


def addresses(cluster: Cluster, account: str) -> set[str]:
    """As Dovecot's log has the account's log-ins."""
    log = cluster.homes["a"].lab.log()
    return set(re.findall(rf"imap-login: .*user=<{re.escape(account)}>.* rip=([^,]+)", log))


@pytest.mark.parametrize("way", ["id", "proxy"])
def test_dovecot_logs_the_clients_address(
    make_cluster: Callable[..., Cluster], make_home: Callable[..., Any], way: str
) -> None:
    port = free_port()
    home = make_home("dovecot", "a", **({"trusted": "", "extra": PROXY % port} if way == "proxy" else {}))
    if way == "proxy":
        home = replace(home, table={**home.table, "imap": {**home.table["imap"], "port": port, "proxy_protocol": True}})
    cluster = make_cluster(home, people=2)
    first, second = cluster.people
    edge = cluster.edge
    source = (HERE, 0)
    for login in (first, second):
        assert HERE not in addresses(cluster, login)
    reader = _Imap(edge.host, edge.port["imap"], source)
    reader.login(first, PASSWORD)
    reader.logout()
    wait_until(lambda: HERE in addresses(cluster, first), "the address of an IMAP session", 10)
    pop = _Pop3(edge.host, edge.port["pop3"], source)
    pop.user(second)
    pop.pass_(PASSWORD)
    pop.quit()
    wait_until(lambda: HERE in addresses(cluster, second), "and that of POP3", 10)


class _Imap(imaplib.IMAP4):
    """From an address of its own."""

    def __init__(self, host: str, port: int, source: tuple[str, int]) -> None:
        self._source = source
        super().__init__(host, port, timeout=30)

    def _create_socket(self, timeout: float | None) -> Any:
        return socket.create_connection((self.host, self.port), timeout, self._source)


class _Pop3(poplib.POP3):
    def __init__(self, host: str, port: int, source: tuple[str, int]) -> None:
        self._source = source
        super().__init__(host, port, timeout=30)

    def _create_socket(self, timeout: float | None) -> Any:
        return socket.create_connection((self.host, self.port), timeout, self._source)
