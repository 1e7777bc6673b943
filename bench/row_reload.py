"""A row of look-ups while the directory changes under them: 100,000 accounts are imported anew, all of them altered."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from tests.lab.edge import Edge
from tests.lab.ours import command

from bench.dialogue import lookups
from bench.figure import Figure, percentile
from bench.load import Load
from bench.peer_postfix import ENVIRONMENT, Postfix
from bench.row import Row, scaled
from bench.stage import PEOPLE, US, Contender, Stage, people_file
from bench.talk import Work

ACCOUNTS, SESSIONS, AT_ONCE, TIMES = 100_000, 200, 5, 10


class Change:
    """All accounts are given another password; Postfix is given its table of recipients anew."""

    def __init__(self, contender: Contender, accounts: list[str], turn: int) -> None:
        server = contender.server
        environment: dict[str, str] | None = None
        words: list[str | Path]
        if isinstance(server, Postfix):
            # Under another name, and then in the place of the old one: a table that is being written knows nobody.
            table = server.folder / "recipients"
            fresh = server.folder / "fresh"
            fresh.write_text("".join(f"{name} ok{turn}\n" for name in (*PEOPLE, *accounts)))
            script = f"postmap -c {server.config} {fresh} && mv {fresh}.db {table}.db"
            words, environment = ["sh", "-c", script], ENVIRONMENT
        else:
            assert isinstance(server, Edge)
            file = people_file(server, [(name, "home0", f"{{PLAIN}}{turn}") for name in accounts])
            words = [*command("account", "import", file), "--config", server.config]
        self._process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL)

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def end(self) -> None:
        if self._process.wait() != 0:
            raise RuntimeError(f"{self._process.args}: {self._process.returncode}")


def _measure(stage: Stage, contender: Contender, scale: float) -> Figure:
    """Latency of a look-up from the outside: MAIL, RCPT and RSET in one write. Cost is that of look-ups and change
    together, the command that makes the change left out.
    """
    accounts = [f"n{number}@example.com" for number in range(scaled(ACCOUNTS, scale, 1000))]
    stage.turn += 1
    latencies: list[float] = []
    used = 0.0
    before, began = contender.cpu(), time.perf_counter()
    change = Change(contender, accounts, stage.turn)
    try:
        while not latencies or change.running:
            load = Load(Work("127.0.0.1", contender.ports["smtp"], lookups(), sessions=SESSIONS, at_once=AT_ONCE,
                             repeat=(2, 3), times=TIMES, users=PEOPLE))  # fmt: skip
            try:
                done = load.go()
            finally:
                load.end()
            latencies += done.latencies
            used += done.cpu
    finally:
        change.end()
    seconds = time.perf_counter() - began
    return Figure(
        cost=contender.cpu() - before, rate=len(latencies) / seconds, p50=percentile(latencies, 0.5) * 1000,
        p99=percentile(latencies, 0.99) * 1000, load=used / seconds,
        note=f"{len(accounts):,} accounts in {seconds:.1f} s, slowest {max(latencies) * 1000:,.0f} ms",
    )  # fmt: skip


def _mail(stage: Stage, name: str) -> Contender:
    return stage.mail(name, relay=False, tag="reload")


ROWS = [
    Row("reload", "Look-ups while 100,000 accounts are reloaded", "CPU-s for the reload and the look-ups meanwhile",
        ("postfix", US), _mail, _measure, leave=Stage.drop_all, rounds=2),
]  # fmt: skip
