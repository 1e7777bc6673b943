"""Rows of replicas: what deliveries and sessions cost an edge when each account's mail is kept on a second server, too.

Both times the servers are two Dovecots; without links the second one has nothing to do. Cost is the edge's, with its
linker and its database; what the servers spent stands beside it.
"""

from __future__ import annotations

import csv
import io
import json
import socket
import time
from dataclasses import replace
from typing import Any

from tests.lab.dovecot import Dovecot
from tests.lab.edge import Edge

from bench.dialogue import CHANGES, MESSAGE, smtp
from bench.figure import Figure
from bench.load import Load
from bench.row import Row, figure_of, run_load, scaled
from bench.stage import PASSWORD, US, Contender, Stage
from bench.talk import LoadError, Work

PEOPLE = [f"l{number}@example.com" for number in range(20)]
WITHOUT = "no links"
PATIENCE = 60.0
ACL = "  acl_user = %u\n"
"""Without it Dovecot shows a master user nothing of a user's folders where the acl plugin is on."""


def _start(stage: Stage, name: str) -> Contender:
    def make() -> Contender:
        homes = [Dovecot(stage.new_folder("d"), plugins=ACL) for _ in range(2)]
        folder = stage.new_folder("o")
        edge = Edge(
            folder, directory=f"sqlite:///{folder / 'directory.db'}",
            servers=[_table(home, f"home{n}") for n, home in enumerate(homes)], workers=2,
            listener={protocol: {"max_sessions_per_address": 100_000} for protocol in ("imap", "smtp")},
            extra={"limits": {"account_sessions": 100_000, "message_size": 100 << 20}},
        )  # fmt: skip
        _add_people(edge, replica="home1" if name == US else "")
        return Contender(name, edge, edge.port, tuple(homes))

    contender = stage.get(f"links {name}", make)
    if (key := f"links {name} prepared") not in stage.warmed:
        stage.warmed.add(key)
        for home in contender.others:
            assert isinstance(home, Dovecot)
            home.prepare(*PEOPLE)
        _await_quiet(contender)
    return contender


def _table(home: Dovecot, name: str) -> dict[str, Any]:
    return {
        "name": name, "kind": "dovecot", "imap": {"host": home.host, "port": home.imap_port},
        "delivery": {"host": home.host, "port": home.lmtp_port},
        "login": {"way": "master", "user": home.master_user, "password": home.master_password},
        "doveadm": {"host": home.host, "port": home.doveadm_http_port, "api_key": home.api_key},
    }  # fmt: skip


def _add_people(edge: Edge, replica: str) -> None:
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["address", "unit", "primary", "replicas", "password"])
    rows.writerows([address, "all", "home0", replica, "{PLAIN}" + PASSWORD] for address in PEOPLE)
    file = edge.folder / "people.csv"
    file.write_text(text.getvalue())
    edge.run("account", "import", file)


def _status(edge: Edge) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(str(edge.state / "control.sock"))
        sock.sendall(b'{"do":"status","id":1}\n')
        return dict(json.loads(sock.makefile().readline())["ok"])


def _await_quiet(contender: Contender) -> tuple[float, float]:
    """When nothing waited for a delivery any more, and when the safety net held nothing: the replica has it all."""
    edge = contender.server
    assert isinstance(edge, Edge)
    until, delivered = time.perf_counter() + PATIENCE, 0.0
    while time.perf_counter() < until:
        queue = _status(edge)["queue"]
        now = time.perf_counter()
        if not queue["messages"]:
            delivered = delivered or now
            if not queue["net"]:
                return delivered, now
        time.sleep(0.05)
    left = f"{queue['messages']} messages are waiting, {queue['net']} in the net"
    raise LoadError(f"after {PATIENCE:g} s {left}")


def _deliveries(stage: Stage, contender: Contender, scale: float) -> Figure:
    alone = Contender(contender.name, contender.server, contender.ports)
    servers = Contender("", contender.others[0], {}, contender.others[1:])
    times = scaled(50, scale, 2)
    load = Load(Work("127.0.0.1", contender.ports["smtp"], smtp(10 << 10), sessions=20, at_once=20, repeat=MESSAGE,
                     times=times, users=PEOPLE))  # fmt: skip
    messages = 20 * times
    try:
        before, theirs, began = alone.cpu(), servers.cpu(), time.perf_counter()
        done = load.go()
        delivered, whole = _await_quiet(contender)
        spent, theirs = alone.cpu() - before, servers.cpu() - theirs
    finally:
        load.end()
    note = f"servers {theirs / messages * 1000:.1f} CPU-s, all copied {whole - delivered:.1f} s after delivery"
    return replace(figure_of(done, spent, messages), rate=messages / (delivered - began), note=note)


def _sessions(stage: Stage, contender: Contender, scale: float) -> Figure:
    alone = Contender(contender.name, contender.server, contender.ports)
    servers = Contender("", contender.others[0], {}, contender.others[1:])
    sessions = scaled(600, scale, 20)
    work = Work("127.0.0.1", contender.ports["imap"], CHANGES, sessions=sessions, at_once=10, users=PEOPLE)
    theirs = servers.cpu()
    figure, _ = run_load(alone, work, settle=lambda: _await_quiet(contender))
    return replace(figure, note=f"servers {(servers.cpu() - theirs) / sessions * 1000:.1f} CPU-s")


ROWS = [
    Row("links", "Deliveries with a replica of every account, 20 sessions, many messages, 10 KB",
        "CPU-s per 1,000 messages", (WITHOUT, US), _start, _deliveries, rounds=2),
    Row("links-sessions", "IMAP sessions that append and flag a message, with a replica of every account",
        "CPU-s per 1,000 sessions", (WITHOUT, US), _start, _sessions, rounds=2, leave=Stage.drop_all),
]  # fmt: skip
