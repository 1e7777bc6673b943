"""Logs in at every edge, for one account of every server, all the time; so that one can say for how long it was not
possible.

Knows when each try began, when it was answered and how. Does not know why.
"""

from __future__ import annotations

import contextlib
import imaplib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from onedomain.drill.theatre import Door

EVERY = 0.25
TIMEOUT = 10.0
HANGS = 1.0
"""Seconds from which on waiting for an answer is an outage, too."""


@dataclass(frozen=True, slots=True)
class Try:
    """Monotonic seconds. `why` is what the server said, or the error; "" where it worked."""

    account: str
    edge: str
    began: float
    ended: float
    why: str

    @property
    def worked(self) -> bool:
        return not self.why


class Watch:
    """One thread for each door and account. `tries` in the order of their ends."""

    def __init__(self, doors: Sequence[Door], accounts: Sequence[str], password: str) -> None:
        self._password = password
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self.tries: list[Try] = []
        self._threads = [threading.Thread(target=self._look, args=(door, account), daemon=True)
                         for door in doors for account in accounts]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(TIMEOUT + 5)

    def _look(self, door: Door, account: str) -> None:
        while not self._ended.wait(EVERY):
            began = time.monotonic()
            why = self._log_in(door, account)
            with self._lock:
                self.tries.append(Try(account, door.edge, began, time.monotonic(), why))

    def _log_in(self, door: Door, account: str) -> str:
        """As a client does that only wants to know whether there is new mail."""
        try:
            session = imaplib.IMAP4(door.host, door.imap, timeout=TIMEOUT)
            try:
                session.login(account, self._password)
                status, answer = session.select("INBOX", readonly=True)
                if status != "OK":
                    return repr(answer)[:200]
                session.logout()
            finally:
                with contextlib.suppress(OSError):  # after a LOGOUT imaplib has closed it already
                    session.shutdown()
        except (OSError, EOFError, imaplib.IMAP4.error) as error:
            return (str(error) or repr(error))[:200]
        return ""


def outage(tries: Sequence[Try], accounts: Sequence[str], since: float, until: float, absent: str = "") -> float | None:
    """Seconds after `since` until log-ins of `accounts` worked and went on working, at every edge but `absent`.

    0 if none failed; None if they did not come back before `until`. A try that hung counts until its answer came; one
    that had only just begun at `until` says nothing, as something else happened then.
    """
    worst = 0.0
    lanes: dict[tuple[str, str], list[Try]] = {}
    for one in tries:
        if one.account in accounts and one.edge != absent and one.ended > since and one.began < until:
            if one.ended > until:
                if until - max(one.began, since) < HANGS:
                    continue
                one = replace(one, why=one.why or "no answer in time")
            lanes.setdefault((one.account, one.edge), []).append(one)
    for lane in lanes.values():
        failed = [one for one in lane if not one.worked]
        if not failed:
            slowest = max((one.ended - max(one.began, since) for one in lane), default=0.0)
            worst = max(worst, slowest if slowest > HANGS else 0.0)
            continue
        later = [one for one in lane if one.worked and one.began >= failed[-1].began]
        if not later:
            return None
        worst = max(worst, min(one.ended for one in later) - since)
    return worst


def dead_ends(tries: Sequence[Try]) -> tuple[str, ...]:
    """Edges at which the last try of an account failed, with its words."""
    last = {(one.edge, one.account): one for one in tries}
    return tuple(f"{edge}: {one.why}" for (edge, _), one in sorted(last.items()) if not one.worked)
