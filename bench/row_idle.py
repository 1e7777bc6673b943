"""Rows of many people: what an idle session holds in memory, and a morning on which all log in at once."""

from __future__ import annotations

from dataclasses import replace

from bench.dialogue import IMAP_IDLE, IMAP_SESSION
from bench.figure import Figure
from bench.load import Load
from bench.row import Measure, Row, Target, figure_of, run_load, scaled
from bench.row_imap import DOVECOT, NGINX, PROXIES
from bench.stage import PEOPLE, STRANGERS, US, Contender, Stage
from bench.talk import Work

SESSIONS, WARM = 5000, 100
STORM_PEOPLE, STORM_SECONDS = 500, 10.0


def _fresh(stage: Stage, name: str) -> Contender:
    stage.drop(f"proxy {name}")  # what a round before has left on the heap would hide what this one needs
    return stage.proxy(name)


def _memory(protocol: str, tls: str) -> Measure:
    """Proportional set size per session: the difference that the sessions make, after some that are gone again."""

    def measure(stage: Stage, contender: Contender, scale: float) -> Figure:
        sessions = scaled(SESSIONS, scale, 50)
        port = contender.ports[protocol]
        run_load(contender, Work("127.0.0.1", port, IMAP_SESSION, sessions=WARM, at_once=10, users=PEOPLE, tls=tls))
        # The warm ones stay, so that pools exist that the first sessions make and the others share.
        warm = Load(Work("127.0.0.1", port, IMAP_IDLE, sessions=WARM, at_once=10, users=PEOPLE, tls=tls, hold=True))
        load = Load(Work("127.0.0.1", port, IMAP_IDLE, sessions=sessions, at_once=20, users=PEOPLE, tls=tls, hold=True))
        try:
            warm.go()
            before = contender.memory()
            done = load.go()
            held = contender.memory() - before
        finally:
            load.end()
            warm.end()
        figure = figure_of(done, 0.0, sessions)
        return replace(figure, cost=held / sessions, note=f"{sessions} sessions")

    return measure


def _storm(stage: Stage, contender: Contender, scale: float) -> Figure:
    """Everybody arrives evenly over ten seconds, with TLS, and stays."""
    people = STRANGERS[: scaled(STORM_PEOPLE, scale, 20)]
    work = Work(
        "127.0.0.1", contender.ports["imaps"], IMAP_IDLE, sessions=len(people), users=people,
        seconds=STORM_SECONDS * min(1.0, scale * 2), tls="full", hold=True,
    )  # fmt: skip
    return run_load(contender, work)[0]


PER_SESSION = "kB per session"

ROWS = [
    Row("idle", "Idle IMAP session, plain", PER_SESSION, PROXIES, _fresh, _memory("imap", ""), rounds=2,
        leave=Stage.drop_all, targets=(Target(NGINX, 0.7),)),
    Row("idle-tls", "Idle IMAP session, TLS", PER_SESSION, PROXIES, _fresh, _memory("imaps", "full"), rounds=2,
        leave=Stage.drop_all, targets=(Target(NGINX, 1.0),)),
    Row("storm", "Nine o'clock: 500 people log in within 10 s, TLS; the home checks the password",
        "CPU-s per 1,000 log-ins", PROXIES, Stage.proxy, _storm, rounds=3,
        targets=(Target((*NGINX, *DOVECOT), 1.0, "p99"),)),
    Row("storm-argon2id", "Nine o'clock, and the proxy checks argon2id", "CPU-s per 1,000 log-ins",
        ("dovecot-argon2id", f"{US}-argon2id"), _fresh, _storm, rounds=2, leave=Stage.drop_all),
]  # fmt: skip
