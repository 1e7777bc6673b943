"""An edge of OneDomain as a tree of processes, run as its users run it: a configuration file and `onedomain run`.

Knows the command line and the file's format, from the outside; imports nothing of onedomain.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.lab.ours import Ours, run
from tests.lab.ports import free_port
from tests.lab.process import Server, Tree, answers
from tests.lab.tls import Certificate

PROTOCOLS = ("smtp", "submission", "submissions", "imap", "imaps", "pop3", "pop3s")


def toml(value: Any) -> str:
    """A value as it stands in TOML; JSON's texts, numbers and lists are TOML's too."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, Path):
        return json.dumps(str(value))
    return json.dumps(value)


def document(tables: Mapping[str, Any]) -> str:
    """Top-level tables, and lists of tables as [[name]]."""
    lines = []
    for name, value in tables.items():
        for table in value if isinstance(value, list) else [value]:
            lines.append(f"[[{name}]]" if isinstance(value, list) else f"[{name}]")
            lines += [f"{key} = {toml(inner)}" for key, inner in table.items()]
            lines.append("")
    return "\n".join(lines)


class Edge(Server):
    """`servers` and `units` are tables as in the file. `port[protocol]` says where it listens.

    `extra` are further top-level tables, merged over the usual ones; `listener` further keys for every listener of a
    protocol. `environment` goes to the process.
    """

    kind = "edge"

    def __init__(
        self,
        folder: Path,
        name: str = "mx1.example.com",
        *,
        servers: Sequence[Mapping[str, Any]],
        units: Sequence[Mapping[str, Any]] = (),
        host: str = "127.0.0.1",
        directory: str = "",
        workers: int = 2,
        certificate: Certificate | None = None,
        protocols: Sequence[str] = PROTOCOLS,
        listener: Mapping[str, Mapping[str, Any]] | None = None,
        extra: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
        namespace: str | None = None,
    ) -> None:
        super().__init__(folder, host, namespace)
        folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.config = folder / "onedomain.toml"
        self.state = folder / "state"
        self.port = {protocol: free_port(host) for protocol in protocols if certificate or not protocol.endswith("s")}
        self.peer_port = free_port(host)
        self.metrics_port = free_port(host)
        self.environment = dict(environment or {})
        usual: dict[str, Any] = {
            "edge": {
                "name": name,
                "state": self.state,
                "workers": workers,
                "peer_listen": f"{host}:{self.peer_port}",
                "peer_address": f"{host}:{self.peer_port}",
            },
            "domain": [{"name": "example.com", "postmaster": "postmaster@example.com"}],
            "server": [dict(server) for server in servers],
            "unit": [dict(unit) for unit in units] or [{"name": "all", "servers": [s["name"] for s in servers]}],
            "listener": [
                {
                    "protocol": protocol,
                    "address": host,
                    "port": port,
                    "plaintext_passwords": True,
                    "max_sessions_per_address": 10_000,
                    **(listener or {}).get(protocol, {}),
                }
                for protocol, port in self.port.items()
            ],
            "metrics": {"address": host, "port": self.metrics_port},
        }
        for one in usual["listener"]:
            if one["protocol"] == "smtp":
                del one["plaintext_passwords"]
        if directory:
            usual["directory"] = {"url": directory}
        if certificate:
            usual["tls"] = {"certificate": [{"certificate": certificate.cert, "key": certificate.key}]}
        for key, value in (extra or {}).items():
            usual[key] = {**usual.get(key, {}), **value} if isinstance(value, Mapping) else value
        self.tables = usual
        self.write()

    def write(self) -> None:
        """Write the file from `tables`, which a test may have changed."""
        self.config.write_text(document(self.tables))

    def _launch(self) -> Tree:
        tree = Ours(["run", "--config", self.config], self.folder / "edge.log", self.namespace)
        tree.start(self.environment)
        return tree

    def _is_ready(self) -> bool:
        return self.control_answers() and all(
            answers(self.host, port, greeting=not protocol.endswith("s")) for protocol, port in self.port.items()
        )

    def control_answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as control:
                control.settimeout(5)
                control.connect(str(self.state / "control.sock"))
                control.sendall(b'{"do":"status","id":1}\n')
                status = json.loads(control.makefile().readline())["ok"]
                return len(status["workers"]) == self.tables["edge"]["workers"]
        except (OSError, ValueError, KeyError):
            return False

    def run(self, *words: str | Path, check: bool = True, text: str | None = None) -> str:
        """A verb of the command line on this edge's file; its standard output."""
        done = run(*words, "--config", self.config, text=text)
        if check and done.returncode:
            raise AssertionError(f"{words}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def ask(self, *words: str | Path) -> Any:
        """A verb with --json, whatever its exit status."""
        return json.loads(self.run(*words, "--json", check=False))

    def events(self, event: str = "", process: str = "*") -> list[dict[str, Any]]:
        """What the edge's processes have logged, in order of time."""
        found = []
        for path in (self.state / "log").glob(f"{process}.jsonl"):
            for line in path.read_bytes().splitlines():
                try:
                    found.append(json.loads(line))
                except ValueError:
                    continue  # torn by a kill, or being written
        return sorted((e for e in found if not event or e["event"] == event), key=lambda e: e["time"])
