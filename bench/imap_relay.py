"""What the whole edge costs as an IMAP relay: CPU of its worker processes, everything on (log, log-in check, limits).

    python bench/imap_relay.py [--tls] [--sessions 1000] [--rounds 3] [--idle 2000] [--json]
    python bench/imap_relay.py --port 1143 --pids 11,12     something that runs already, in front of port --home-port

An edge is started as its users start it, before a stub of a home that answers at once. Clients, stub and edge are
processes of their own; CPU is read from /proc for the edge's workers and, beside it, its keeper. The clients are plain
blocking sockets, so that the load costs less than what it measures. Medians over the rounds, best and worst behind
them. Not shown: what a real home adds, several accounts' worth of argon2 (one account's password is remembered), and
rates, for which the clients are too few.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import signal
import socket
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.acceptance.cluster import PASSWORD, add_accounts
from tests.lab.edge import Edge
from tests.lab.tls import Authority

TICK = os.sysconf("SC_CLK_TCK")
BULK = 100 << 20
CHUNK = bytes(65536)
CLIENTS = 10
CAPABILITY = b"IMAP4rev1 SASL-IR LITERAL+ ID IDLE UIDPLUS MOVE CONDSTORE QRESYNC NAMESPACE SPECIAL-USE"
USER = "ann@example.com"


class Stub(asyncio.Protocol):
    """Enough of a home: what a log-in needs, NOOP, FETCH of a large body, LOGOUT."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.left = 0
        self.tag = b""
        self.literals = 0
        self.transport.write(b"* OK [CAPABILITY " + CAPABILITY + b" AUTH=PLAIN] stub\r\n")

    def data_received(self, data: bytes) -> None:
        for line in data.splitlines():
            self.line(line)

    def line(self, line: bytes) -> None:
        if self.literals:
            # nginx sends name and password as literals, each after a "+".
            self.literals -= 1
            line = b"" if self.literals else self.tag + b" LOGIN"
        tag, _, rest = line.partition(b" ")
        word = rest.split(b" ", 1)[0].upper()
        if rest.endswith(b"}") and word == b"LOGIN":
            self.tag, self.literals = tag, 2
        if self.literals:
            self.transport.write(b"+ OK\r\n")
            return
        if word in (b"AUTHENTICATE", b"LOGIN"):
            self.transport.write(tag + b" OK [CAPABILITY " + CAPABILITY + b"] Logged in\r\n")
        elif word == b"FETCH":
            self.left, self.tag = BULK, tag
            self.transport.write(b"* 1 FETCH (BODY[] {%d}\r\n" % BULK)
            self.resume_writing()
        elif word == b"LOGOUT":
            self.transport.write(b"* BYE\r\n" + tag + b" OK\r\n")
            self.transport.close()
        elif word == b"ID":
            self.transport.write(b'* ID ("name" "stub")\r\n' + tag + b" OK\r\n")
        else:
            self.transport.write(tag + b" OK done\r\n")

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        while self.left and not self.paused:
            self.left -= len(CHUNK)
            self.transport.write(CHUNK)
        if self.tag and not self.left:
            self.transport.write(b")\r\n" + self.tag + b" OK done\r\n")
            self.tag = b""


async def serve(sock: socket.socket) -> None:
    server = await asyncio.get_running_loop().create_server(Stub, sock=sock, backlog=1024)
    await server.serve_forever()


def child(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return pid


def cpu(pids: list[int]) -> float:
    """Seconds that these processes have used, from the scheduler's own count."""
    total = 0
    for pid in pids:
        try:
            total += int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])
        except (OSError, ValueError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) * 1_000_000_000 // TICK
    return total / 1e9


def resident(pids: list[int]) -> int:
    page = resource.getpagesize()
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page for pid in pids)


class Clients:
    def __init__(self, port: int, context: ssl.SSLContext | None) -> None:
        self._port = port
        self._context = context

    def enter(self) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self._port), 60)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._context is not None:
            sock = self._context.wrap_socket(sock, server_hostname="mail.example.com")
        until(sock, b"* OK")
        sock.sendall(f'a LOGIN {USER} "{PASSWORD}"\r\n'.encode())
        until(sock, b"a OK")
        return sock

    def session(self) -> None:
        sock = self.enter()
        sock.sendall(b"b NOOP\r\n")
        until(sock, b"b OK")
        sock.sendall(b"c LOGOUT\r\n")
        while sock.recv(4096):
            pass
        sock.close()

    def sessions(self, count: int) -> None:
        self.side_by_side(lambda: [self.session() for _ in range(count // CLIENTS)])

    def noops(self, count: int) -> None:
        def one() -> None:
            sock = self.enter()
            for _ in range(count // CLIENTS):
                sock.sendall(b"b NOOP\r\n")
                sock.recv(4096)
            sock.close()

        self.side_by_side(one)

    def bulk(self) -> None:
        sock = self.enter()
        sock.sendall(b"b FETCH\r\n")
        left = BULK + len(b"* 1 FETCH (BODY[] {%d}\r\n" % BULK) + len(b")\r\nb OK done\r\n")
        buffer = memoryview(bytearray(1 << 20))
        while left > 0:
            count = sock.recv_into(buffer)
            if not count:
                raise ConnectionError("ended in the middle")
            left -= count
        sock.close()

    def side_by_side(self, work: Callable[[], Any]) -> None:
        for pid in [child(work) for _ in range(CLIENTS)]:
            _, status = os.waitpid(pid, 0)
            if status:
                raise RuntimeError("a client failed")


def until(sock: socket.socket, words: bytes) -> bytes:
    data = b""
    while True:
        got = sock.recv(4096)
        if not got:
            raise ConnectionError(f"ended, wanted {words!r}, got {data!r}")
        data += got
        if words in data and data.endswith(b"\n"):
            return data


class Measured:
    def __init__(self, workers: list[int], keeper: list[int]) -> None:
        self.workers = workers
        self.keeper = keeper

    def cost(self, work: Callable[[], None]) -> tuple[float, float, float]:
        before, keeper, began = cpu(self.workers), cpu(self.keeper), time.monotonic()
        work()
        wall = time.monotonic() - began
        time.sleep(0.05)  # the relay's side of the last close
        return cpu(self.workers) - before, cpu(self.keeper) - keeper, wall


def measure(clients: Clients, measured: Measured, options: argparse.Namespace) -> dict[str, Any]:
    clients.session()
    clients.sessions(200)
    figures: dict[str, list[tuple[float, float, float]]] = {"session": [], "noop": [], "fetch": []}
    for _ in range(options.rounds):
        figures["session"].append(measured.cost(lambda: clients.sessions(options.sessions)))
        figures["noop"].append(measured.cost(lambda: clients.noops(options.noops)))
        figures["fetch"].append(measured.cost(clients.bulk))
    units = {
        "session": ("CPU-s per 1,000", 1000 / options.sessions),
        "noop": ("us each", 1e6 / options.noops),
        "fetch": ("CPU-s per GB", (1 << 30) / BULK),
    }
    found: dict[str, Any] = {}
    for name, rows in figures.items():
        unit, factor = units[name]
        spent = sorted(row[0] * factor for row in rows)
        found[name] = {
            "unit": unit,
            "median": round(statistics.median(spent), 3),
            "least": round(spent[0], 3),
            "most": round(spent[-1], 3),
            "keeper": round(statistics.median(row[1] * factor for row in rows), 3),
            "seconds": round(statistics.median(row[2] for row in rows), 2),
        }
    if options.idle:
        found["idle"] = idle(clients, measured, options.idle)
    return found


def idle(clients: Clients, measured: Measured, count: int) -> dict[str, Any]:
    warm = [clients.enter() for _ in range(100)]
    time.sleep(0.3)
    before = resident(measured.workers)
    held = [clients.enter() for _ in range(count)]
    time.sleep(1.5)
    each = (resident(measured.workers) - before) / count / 1024
    burnt = measured.cost(lambda: time.sleep(3))[0] / 3
    for sock in (*warm, *held):
        sock.close()
    time.sleep(1)
    return {"unit": "kB each", "median": round(each, 2), "cpu_while_idle": round(burnt, 4)}


def start_edge(folder: Path, home_port: int, workers: int) -> tuple[Edge, ssl.SSLContext]:
    certificate = Authority(folder).issue("mail.example.com")
    table = {
        "name": "stub", "kind": "dovecot", "imap": {"host": "127.0.0.1", "port": home_port},
        "delivery": {"host": "127.0.0.1", "port": home_port},
        "login": {"way": "master", "user": "master", "password": "secret"},
    }  # fmt: skip
    edge = Edge(
        folder / "edge", servers=[table], workers=workers, certificate=certificate, protocols=("imap", "imaps"),
        directory=f"sqlite:///{folder / 'directory.db'}", extra={"limits": {"account_sessions": 100_000}},
    )  # fmt: skip
    add_accounts(edge, [(USER, "stub")])
    edge.start()
    return edge, certificate.client_context()


def show(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(found))
        return
    for name, row in found.items():
        if "least" in row:
            more = f"{row['least']}-{row['most']}, keeper {row['keeper']}"
        else:
            more = f"{row['cpu_while_idle']} CPU"
        print(f"{name:8} {row['median']:9.3f} {row['unit']:16} ({more})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--noops", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--idle", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--port", type=int, help="of a proxy that is running")
    parser.add_argument("--home-port", type=int, default=0)
    parser.add_argument("--pids", default="", help="of that proxy's processes")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sock = socket.create_server(("127.0.0.1", options.home_port), backlog=1024)
    stub = child(lambda: uvloop.run(serve(sock)))
    home_port = sock.getsockname()[1]
    sock.close()
    try:
        if options.port:
            pids = [int(pid) for pid in options.pids.split(",")]
            show(measure(Clients(options.port, None), Measured(pids, []), options), options.json)
            return
        with tempfile.TemporaryDirectory() as folder:
            edge, trust = start_edge(Path(folder), home_port, options.workers)
            try:
                status = edge.ask("status")
                workers = [one["pid"] for one in status["workers"]]
                keeper = [pid for pid in edge.pids if pid not in workers]
                port, context = (edge.port["imaps"], trust) if options.tls else (edge.port["imap"], None)
                print(f"workers {workers}", file=sys.stderr)
                show(measure(Clients(port, context), Measured(workers, keeper), options), options.json)
            finally:
                edge.stop()
    finally:
        os.kill(stub, signal.SIGTERM)
        os.waitpid(stub, 0)


if __name__ == "__main__":
    main()
