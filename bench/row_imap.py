"""Rows of mailbox proxies: sessions, commands through an open session, a large body. Peers are nginx and Dovecot."""

from __future__ import annotations

from dataclasses import replace

from bench.dialogue import IMAP_BULK, IMAP_NOOPS, IMAP_SESSION, POP3_SESSION
from bench.figure import Figure
from bench.row import Measure, Row, Target, run_load, scaled
from bench.stage import BULK, PEOPLE, REWRITTEN, US, Contender, Stage
from bench.talk import Step, Work

PROXIES = ("nginx", "dovecot", US)
EVERYBODY = ("nginx", "nginx-64k", "dovecot", US)
OURS = (US, REWRITTEN)
SESSIONS, AT_ONCE = 3000, 20
NOOPS = 2000


def _people(scale: float) -> list[str]:
    return PEOPLE[: scaled(len(PEOPLE), min(1.0, scale), 5)]


def _warmed(stage: Stage, contender: Contender, port: int, steps: tuple[Step, ...], scale: float) -> None:
    """Before a contender's first measurement everybody logs in so often that all of its processes have seen everybody:
    what is remembered is remembered, as it is on any day but the first. A hash that is checked is a hundred sessions.
    """
    key = f"{contender.name}:{port}"
    if key not in stage.warmed:
        stage.warmed.add(key)
        people = _people(scale)
        run_load(contender, Work("127.0.0.1", port, steps, sessions=len(people) * 10, at_once=10, users=people))


def _sessions(
    protocol: str, tls: str, steps: tuple[Step, ...], *, sessions: int = SESSIONS, seconds: float = 0.0
) -> Measure:
    def measure(stage: Stage, contender: Contender, scale: float) -> Figure:
        plain = contender.ports["pop3" if protocol == "pop3" else "imap"]
        _warmed(stage, contender, plain, steps, scale)
        work = Work(
            "127.0.0.1", contender.ports[protocol], steps, sessions=scaled(sessions, scale, 20), at_once=AT_ONCE,
            users=_people(scale), tls=tls, seconds=seconds * min(1.0, scale * 2) if seconds else 0.0,
        )  # fmt: skip
        figure, done = run_load(contender, work)
        if tls == "resumed" and done.resumed < done.sessions * 0.9:
            # Dovecot's log-in processes have no ticket keys in common.
            figure = replace(figure, note=f"{done.resumed / done.sessions:.0%} resumed")
        return figure

    return measure


def _noops(protocol: str, tls: str) -> Measure:
    def measure(stage: Stage, contender: Contender, scale: float) -> Figure:
        _warmed(stage, contender, contender.ports["imap"], IMAP_SESSION, scale)
        work = Work(
            "127.0.0.1", contender.ports[protocol], IMAP_NOOPS, sessions=10, at_once=10, repeat=(2, 3),
            times=scaled(NOOPS, scale, 100), users=_people(scale), tls=tls,
        )  # fmt: skip
        return run_load(contender, work, per=1_000_000)[0]

    return measure


def _bulk(protocol: str, tls: str) -> Measure:
    def measure(stage: Stage, contender: Contender, scale: float) -> Figure:
        _warmed(stage, contender, contender.ports["imap"], IMAP_SESSION, scale)
        times = scaled(4, scale)
        work = Work(
            "127.0.0.1", contender.ports[protocol], IMAP_BULK, sessions=1, repeat=(2, 3), times=times,
            users=_people(scale), tls=tls,
        )  # fmt: skip
        gigabytes = times * BULK / (1 << 30)
        figure, done = run_load(contender, work, per=1, units=times)
        assert figure.cost is not None
        return Figure(
            cost=figure.cost * times / gigabytes, rate=gigabytes * 1024 / done.seconds, p50=figure.p50, p99=figure.p99,
            load=figure.load,
        )  # fmt: skip

    return measure


NGINX, DOVECOT = ("nginx", "nginx-64k"), ("dovecot", "dovecot-packaged")
BOTH = (Target(NGINX, 1.0), Target(DOVECOT, 0.6))
PER_SESSION = "CPU-s per 1,000 sessions"

ROWS = [
    Row("imap", "IMAP session, plain", PER_SESSION, PROXIES, Stage.proxy, _sessions("imap", "", IMAP_SESSION),
        targets=BOTH),
    Row("imap-packaged", "IMAP session, plain, Dovecot as packaged", PER_SESSION, ("dovecot-packaged",), Stage.proxy,
        _sessions("imap", "", IMAP_SESSION, sessions=600), rounds=2),
    Row("imap-tls", "IMAP session, TLS 1.3", PER_SESSION, PROXIES, Stage.proxy,
        _sessions("imaps", "full", IMAP_SESSION, sessions=1500), targets=BOTH),
    Row("imap-resumed", "IMAP session, TLS 1.3 resumed", PER_SESSION, PROXIES, Stage.proxy,
        _sessions("imaps", "resumed", IMAP_SESSION, sessions=1500), targets=BOTH),
    Row("pop3", "POP3 session, plain", PER_SESSION, PROXIES, Stage.proxy, _sessions("pop3", "", POP3_SESSION)),
    Row("noop", "NOOP through, plain", "µs CPU", PROXIES, Stage.proxy, _noops("imap", ""),
        targets=(Target(NGINX, 1.1),)),
    Row("noop-tls", "NOOP through, TLS", "µs CPU", PROXIES, Stage.proxy, _noops("imaps", "full"),
        targets=(Target(NGINX, 1.15),)),
    Row("fetch", "100 MB FETCH, plain", "CPU-s per GB", EVERYBODY, Stage.proxy, _bulk("imap", ""),
        targets=(Target(("nginx-64k",), 0.7),)),
    Row("fetch-tls", "100 MB FETCH, TLS", "CPU-s per GB", EVERYBODY, Stage.proxy, _bulk("imaps", "full"),
        targets=(Target(("nginx-64k",), 0.9),)),
    Row("imap-rewritten", "IMAP session, plain, rewritten", PER_SESSION, OURS, Stage.proxy,
        _sessions("imap", "", IMAP_SESSION)),
    Row("noop-rewritten", "NOOP through, plain, rewritten", "µs CPU", OURS, Stage.proxy, _noops("imap", "")),
    Row("fetch-rewritten", "100 MB FETCH, plain, rewritten", "CPU-s per GB", OURS, Stage.proxy, _bulk("imap", "")),
]  # fmt: skip
