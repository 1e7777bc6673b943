"""Several hosts on one machine: network namespaces on a bridge, whose cables can be pulled and put back.

Knows ip(8). Pulling a cable is silent, as in life: no reset, no refusal, packets simply stop.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
from dataclasses import dataclass

from tests.lab.process import need, search_path

PREFIX = "odlab"


@dataclass(frozen=True)
class Host:
    """A host: `namespace` is what servers are started in, `address` where they listen, `cable` our end of its line."""

    name: str
    namespace: str
    address: str
    cable: str


class Network:
    """A net of its own out of 198.18.0.0/15 (RFC 2544, for test benches); the tests themselves are its first host."""

    def __init__(self, *names: str) -> None:
        need("network namespaces", "ip", root=True)
        self._tag = secrets.token_hex(2)
        self.bridge = f"{PREFIX}{self._tag}"
        self._claim, self._net = _claim_net()
        self.gateway = f"{self._net}.1"
        self.hosts: dict[str, Host] = {}
        try:
            self._build(names)
        except subprocess.CalledProcessError as failure:
            self.close()
            # Containers often have ip(8) but not the right to use it.
            need(f"network namespaces: {failure.stderr.strip()}", "permission-to-make-network-namespaces")

    def _build(self, names: tuple[str, ...]) -> None:
        _ip("link", "add", self.bridge, "type", "bridge", "forward_delay", "0")
        _ip("addr", "add", f"{self.gateway}/24", "dev", self.bridge)
        _ip("link", "set", self.bridge, "up")
        for number, name in enumerate(names, start=2):
            host = Host(name, f"{self.bridge}-{name}", f"{self._net}.{number}", f"{PREFIX}{self._tag}{number}")
            self.hosts[name] = host
            _ip("netns", "add", host.namespace)
            _ip("link", "add", host.cable, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
            _ip("link", "set", host.cable, "master", self.bridge, "up")
            _ip("-n", host.namespace, "addr", "add", f"{host.address}/24", "dev", "eth0")
            _ip("-n", host.namespace, "link", "set", "lo", "up")
            _ip("-n", host.namespace, "link", "set", "eth0", "up")

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def cut(self, name: str) -> None:
        """Pull the host's cable."""
        _ip("link", "set", self.hosts[name].cable, "down")

    def mend(self, name: str) -> None:
        _ip("link", "set", self.hosts[name].cable, "up")

    def part(self, name: str, other: str) -> None:
        """What `name` sends to `other` is dropped, so neither hears an answer of the other; anybody else is reached."""
        _ip("-n", self.hosts[name].namespace, "route", "add", "blackhole", f"{self.hosts[other].address}/32")

    def join(self, name: str, other: str) -> None:
        _ip("-n", self.hosts[name].namespace, "route", "del", "blackhole", f"{self.hosts[other].address}/32")

    def close(self) -> None:
        """Remove everything; servers in it must have been ended before."""
        for host in self.hosts.values():
            _ip("netns", "del", host.namespace, check=False)
            _ip("link", "del", host.cable, check=False)
        self.hosts.clear()
        _ip("link", "del", self.bridge, check=False)
        self._claim.close()


def _ip(*words: str, check: bool = True) -> None:
    subprocess.run(
        ["ip", *words], check=check, capture_output=True, text=True, env={**os.environ, "PATH": search_path()}
    )


def _claim_net() -> tuple[socket.socket, str]:
    """A /24 that no other test process holds, by an abstract socket as for ports, and that none has left behind."""
    for number in range(512):
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        net = f"198.{18 + number // 256}.{number % 256}"
        try:
            claim.bind(f"\0onedomain-lab-net-{number}")
        except OSError:
            claim.close()
            continue
        if not _is_here(f"{net}.1"):
            return claim, net
        claim.close()
    raise RuntimeError("all 512 test networks are taken")


def _is_here(address: str) -> bool:
    """Whether a bridge has it: of a test process that was killed before it could take it away."""
    with socket.socket() as trial:
        try:
            trial.bind((address, 0))
        except OSError:
            return False
    return True
