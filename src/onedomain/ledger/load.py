"""Sends mail as many hosts do at once, and keeps the ledger of it.

Also a program: `python -m onedomain.ledger.load --help`. Knows what a sender is to know: who got what, and which
answers never came.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import ssl
import sys
import time
import uuid
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onedomain.ledger.corpus import Corpus, Message, senders
from onedomain.ledger.ledger import ACKED, DELIVER, REFUSED, UNKNOWN, Ledger, Sent
from onedomain.ledger.wire import Lost, Reply, Wire

RETRY_PAUSE = 0.1


@dataclass
class Plan:
    """What to send. At least one of `count` (messages) and `duration` (seconds) bounds it; `rate` is messages a second.

    `targets` are (host, port), used in turn. `accounts` says whose mailbox an address leads to, where that is not the
    address itself. With `persistent`, recipients that were refused with 4xx, or never asked, are tried again until
    `patience` seconds have passed since the first try; `repeat_unknown` also repeats those whose answer was lost, as
    an ordinary MTA does, and so makes duplicates that the ledger allows for.
    """

    targets: Sequence[tuple[str, int]]
    recipients: Sequence[str]
    accounts: Mapping[str, str] = field(default_factory=dict)
    count: int | None = None
    duration: float | None = None
    rate: float | None = None
    sessions: int = 10
    per_session: int = 10
    recipients_per_message: int = 1
    lmtp: bool = False
    chunked: bool = False
    seed: int = 0
    kinds: Sequence[str] | None = None
    max_size: int = 1 << 20
    odd_senders: bool = True
    sender: str = "sender@example.org"
    tls: ssl.SSLContext | None = None
    implicit_tls: bool = False
    login: tuple[str, str] | None = None
    persistent: bool = False
    repeat_unknown: bool = False
    patience: float = 60.0
    timeout: float = 60.0

    def __post_init__(self) -> None:
        if self.count is None and self.duration is None:
            raise ValueError("neither count nor duration: the load would never end")


@dataclass
class Outcome:
    """What came of it, in recipients, except `messages`. `latencies` are seconds from MAIL to the last answer."""

    messages: int = 0
    acked: int = 0
    refused: int = 0
    unknown: int = 0
    replies: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    longest_gap: float = 0.0

    def percentile(self, share: float) -> float:
        ordered = sorted(self.latencies) or [0.0]
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]

    def summary(self) -> dict[str, Any]:
        return {
            "messages": self.messages,
            "acked": self.acked,
            "refused": self.refused,
            "unknown": self.unknown,
            "seconds": round(self.seconds, 3),
            "per_second": round(self.messages / self.seconds, 1) if self.seconds else 0,
            "p50_ms": round(self.percentile(0.50) * 1000, 2),
            "p99_ms": round(self.percentile(0.99) * 1000, 2),
            "max_ms": round(max(self.latencies, default=0.0) * 1000, 2),
            "longest_gap_s": round(self.longest_gap, 3),
            "replies": dict(self.replies),
            "failures": dict(self.failures),
        }


@dataclass
class _Job:
    message: Message
    sent: Sent
    sender: str
    open: list[str]
    deadline: float
    not_before: float = 0.0


class Load:
    """Runs one plan. `stop` ends it early: nothing new is begun, what was begun is settled, other tries included."""

    def __init__(self, plan: Plan, ledger: Ledger) -> None:
        self.plan, self.ledger = plan, ledger
        self.outcome = Outcome()
        self._numbers = itertools.count()
        self._corpus = Corpus(plan.seed, plan.kinds, plan.max_size)
        self._senders = senders(plan.seed) if plan.odd_senders else itertools.repeat(plan.sender)
        self._rng = random.Random(f"{plan.seed}/load")
        self._run = uuid.uuid4().hex[:8]
        self._again: deque[_Job] = deque()
        self._under_way = 0
        self._targets = itertools.cycle(plan.targets)
        self._stopped = False
        self._began = self._last_ack = 0.0

    def stop(self) -> None:
        self._stopped = True

    async def run(self) -> Outcome:
        self._began = self._last_ack = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(self.plan.sessions):
                group.create_task(self._session())
        self.outcome.seconds = time.monotonic() - self._began
        return self.outcome

    async def _session(self) -> None:
        while job := await self._next():
            await self._connection(job)

    async def _connection(self, first: _Job) -> None:
        """One connection for up to `per_session` messages; `first` is handed back if it can't even be offered."""
        host, port = target = next(self._targets)
        plan = self.plan
        job: _Job | None = first
        try:
            wire = await Wire.open(
                host,
                port,
                lmtp=plan.lmtp,
                timeout=plan.timeout,
                tls=plan.tls,
                implicit=plan.implicit_tls,
                login=plan.login,
            )
        except Lost as failure:
            self.outcome.failures[_short(failure)] += 1
            self._wait_or_drop(first)
            return
        try:
            for _ in range(plan.per_session or sys.maxsize):
                if job is None:
                    break
                await self._transaction(wire, job, target)
                job = await self._next()
            if job is not None:
                self._put_back(job)
            await wire.quit()
        except Lost as failure:
            self.outcome.failures[_short(failure)] += 1
        finally:
            wire.abort()

    async def _next(self) -> _Job | None:
        """The next thing to send: first what waits for another try; None when all is done."""
        while True:
            now = time.monotonic()
            if self._again and self._again[0].not_before <= now:
                self._under_way += 1
                return self._again.popleft()
            if not self._exhausted(now):
                number = next(self._numbers)
                self._under_way += 1
                if self.plan.rate:
                    await asyncio.sleep(max(0.0, self._began + number / self.plan.rate - now))
                return self._make(number)
            if not self._again and not self._under_way:
                return None
            await asyncio.sleep(RETRY_PAUSE / 4)

    def _exhausted(self, now: float) -> bool:
        plan = self.plan
        if self._stopped or (plan.duration is not None and now - self._began >= plan.duration):
            return True
        return plan.count is not None and self.outcome.messages >= plan.count

    def _make(self, number: int) -> _Job:
        self.outcome.messages += 1
        amount = self._rng.randint(1, min(self.plan.recipients_per_message, len(self.plan.recipients)))
        recipients = self._rng.sample(self.plan.recipients, amount)
        sender = next(self._senders)
        message = self._corpus.message(number, f"{self._run}-{number:08}", sender, recipients)
        deadline = time.monotonic() + self.plan.patience
        return _Job(message, Sent.of(message.data), sender, recipients, deadline)

    async def _transaction(self, wire: Wire, job: _Job, target: tuple[str, int]) -> None:
        began = time.monotonic()
        acts: dict[str, str] = {}
        try:
            await self._offer(wire, job, target, acts)
            self.outcome.latencies.append(time.monotonic() - began)
        except Lost as failure:
            for recipient, act in acts.items():
                self._settle(job, recipient, act, UNKNOWN, str(failure))
            raise
        finally:
            self._wait_or_drop(job)

    async def _offer(self, wire: Wire, job: _Job, target: tuple[str, int], acts: dict[str, str]) -> None:
        recipients = list(job.open)
        answers = await wire.envelope(job.sender, recipients, len(job.message.data))
        accepted = []
        for recipient, answer in zip(recipients, answers, strict=True):
            if answer.good:
                accepted.append(recipient)
            else:
                self._refused(job, recipient, target, answer)
        if not accepted:
            await wire.command("RSET")
            return

        def at_stake() -> None:
            for recipient in accepted:
                acts[recipient] = self._begin(job, recipient, target)

        chunked = self.plan.chunked and "CHUNKING" in wire.extensions
        final = await wire.content(job.message.data, len(accepted), chunked, at_stake)
        staked = bool(acts)
        for recipient, answer in zip(accepted, final, strict=True):
            act = acts.pop(recipient, None)
            if act is None:  # refused before anything was at stake
                self._refused(job, recipient, target, answer)
            else:
                self._settle(job, recipient, act, ACKED if answer.good else REFUSED, str(answer), answer)
        if not staked:
            await wire.command("RSET")  # a DATA that is refused leaves sender and recipients in force

    def _begin(self, job: _Job, recipient: str, target: tuple[str, int]) -> str:
        account = self.plan.accounts.get(recipient, recipient)
        server = f"{target[0]}:{target[1]}"
        return self.ledger.begin(DELIVER, account, job.message.token, job.sent, recipient=recipient, server=server)

    def _refused(self, job: _Job, recipient: str, target: tuple[str, int], answer: Reply) -> None:
        self._settle(job, recipient, self._begin(job, recipient, target), REFUSED, str(answer), answer)

    def _settle(self, job: _Job, recipient: str, act: str, state: str, text: str, answer: Reply | None = None) -> None:
        self.ledger.settle(act, state, text)
        outcome = self.outcome
        if answer:
            outcome.replies[f"{answer.code} {answer.text[:60]}" if answer.code >= 400 else str(answer.code)] += 1
        if state == ACKED:
            outcome.acked += 1
            now = time.monotonic()
            outcome.longest_gap = max(outcome.longest_gap, now - self._last_ack)
            self._last_ack = now
        elif state == UNKNOWN:
            outcome.unknown += 1
        elif answer and answer.code >= 500:
            outcome.refused += 1
        again = state == REFUSED and answer is not None and answer.code < 500
        again = again or (state == UNKNOWN and self.plan.repeat_unknown)
        if not again:
            job.open.remove(recipient)

    def _put_back(self, job: _Job) -> None:
        self._under_way -= 1
        self._again.appendleft(job)

    def _wait_or_drop(self, job: _Job) -> None:
        """What is still open waits for another try if the plan says so, and counts as refused if not."""
        self._under_way -= 1
        now = time.monotonic()
        if job.open and self.plan.persistent and now < job.deadline:
            job.not_before = now + RETRY_PAUSE
            self._again.append(job)
        else:
            self.outcome.refused += len(job.open)


def _short(failure: Lost) -> str:
    return str(failure)[:80]


async def run(plan: Plan, ledger: Ledger | Path | str) -> Outcome:
    """Carry out the plan, writing into the ledger, and say what came of it."""
    if isinstance(ledger, Ledger):
        return await Load(plan, ledger).run()
    with Ledger(ledger) as own:
        return await Load(plan, own).run()


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m onedomain.ledger.load", description="Send mail and keep the ledger of it."
    )
    parser.add_argument("targets", nargs="+", metavar="HOST:PORT")
    parser.add_argument("--ledger", required=True, type=Path)
    parser.add_argument("--to", action="append", required=True, metavar="ADDRESS[=ACCOUNT]")
    parser.add_argument("--count", type=int)
    parser.add_argument("--duration", type=float)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--sessions", type=int, default=10)
    parser.add_argument("--per-session", type=int, default=10)
    parser.add_argument("--recipients-per-message", type=int, default=1)
    parser.add_argument("--max-size", type=int, default=1 << 20)
    parser.add_argument("--kind", action="append", dest="kinds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=60)
    parser.add_argument("--patience", type=float, default=60)
    parser.add_argument("--login", metavar="USER:PASSWORD", help="log in first, as for submission")
    parser.add_argument("--sender", help="the one sender of all messages, instead of many odd ones")
    for switch in ("lmtp", "chunked", "persistent", "repeat-unknown", "json"):
        parser.add_argument(f"--{switch}", action="store_true")
    return parser


def main() -> int:
    """Exit status 0 if every answer came and none was a refusal, 1 if not."""
    given = vars(_arguments().parse_args())
    as_json, ledger = given.pop("json"), given.pop("ledger")
    pairs = [word.partition("=") for word in given.pop("to")]
    targets = [(host, int(port)) for host, _, port in (word.rpartition(":") for word in given.pop("targets"))]
    accounts = {address: account for address, _, account in pairs if account}
    user, _, password = (given.pop("login") or "").partition(":")
    if sender := given.pop("sender"):
        given |= {"sender": sender, "odd_senders": False}
    if user:
        given["login"] = (user, password)
    plan = Plan(targets=targets, recipients=[address for address, _, _ in pairs], accounts=accounts, **given)
    outcome = asyncio.run(run(plan, ledger))
    summary = outcome.summary()
    print(json.dumps(summary) if as_json else "\n".join(f"{name:14} {value}" for name, value in summary.items()))
    return 1 if outcome.refused or outcome.unknown else 0


if __name__ == "__main__":
    sys.exit(main())
