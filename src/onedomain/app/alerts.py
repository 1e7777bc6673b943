"""What needs a person: gathered for a moment, told by mail to the postmaster and to a webhook, never too often.

Knows what was told when. Does not know what is wrong, nor how mail gets into a spool.
"""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from onedomain.model.ports import Clock, Trace

GATHER = 2.0       # seconds: a server that dies has many alerts
AT_LEAST = 60.0    # seconds between two mails, or two posts
MOST = 50          # texts in one; the others are counted
REMEMBERED = 10_000
POST_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Alert:
    account: str
    folder: str
    text: str
    at: float

    def __str__(self) -> str:
        return " ".join(part for part in (self.account, self.folder, self.text) if part)


Mail = Callable[[str, str], Awaitable[None]]
"""Sends a mail with this subject and text to the postmaster. Raises Exception."""


class Alerts:
    """`tell` may be called from anywhere in the loop, and never blocks. `every`: seconds until the same again."""

    def __init__(self, edge: str, every: float, mail: Mail | None, webhook: str, *, clock: Clock, trace: Trace,
                 post: Callable[[str, bytes], None] | None = None) -> None:
        self._edge = edge
        self._every = every
        self._mail = mail
        self._webhook = webhook
        self._clock = clock
        self._trace = trace
        self._post = post or _post
        self._told: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        self._waiting: list[Alert] = []
        self._more = 0
        self._wanted = asyncio.Event()

    def tell(self, account: str, folder: str, text: str) -> None:
        key, now = (account, folder, text), self._clock.monotonic()
        if now - self._told.get(key, float("-inf")) < self._every:
            return
        self._told[key] = now
        self._told.move_to_end(key)
        if len(self._told) > REMEMBERED:
            self._told.popitem(last=False)
        self._trace.note("alert", account=account, folder=folder, reason=text)
        if len(self._waiting) < MOST:
            self._waiting.append(Alert(account, folder, text, self._clock.time()))
        else:
            self._more += 1
        self._wanted.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wanted.wait()
            await asyncio.sleep(GATHER)
            self._wanted.clear()
            alerts, self._waiting = self._waiting, []
            more, self._more = self._more, 0
            await asyncio.gather(self._send_mail(alerts, more), self._send_post(alerts, more))
            await asyncio.sleep(AT_LEAST)

    async def _send_mail(self, alerts: list[Alert], more: int) -> None:
        if self._mail is None:
            return
        lines = [str(alert) for alert in alerts] + ([f"… and {more} more"] if more else [])
        subject = f"OneDomain {self._edge}: {alerts[0].text[:100]}" + (f" (+{len(lines) - 1})" if lines[1:] else "")
        try:
            await self._mail(subject, "\n".join(lines) + "\n")
        except Exception as error:  # noqa: BLE001  whatever keeps an alert from being sent is told in the log
            self._trace.note("alert not mailed", reason=repr(error))

    async def _send_post(self, alerts: list[Alert], more: int) -> None:
        if not self._webhook:
            return
        content: dict[str, Any] = {
            "edge": self._edge, "text": "\n".join(map(str, alerts)), "more": more,
            "alerts": [{"account": a.account, "folder": a.folder, "text": a.text, "at": a.at} for a in alerts],
        }
        try:
            await asyncio.to_thread(self._post, self._webhook, json.dumps(content).encode())
        except (OSError, ValueError, urllib.error.URLError) as error:
            self._trace.note("alert not posted", reason=f"{type(error).__name__}: {error}")


def _post(url: str, content: bytes) -> None:
    """Blocks. Raises OSError (URLError among them), ValueError."""
    request = urllib.request.Request(url, content, {"Content-Type": "application/json"}, method="POST")
    with urllib.request.urlopen(request, timeout=POST_SECONDS) as answer:
        answer.read(1000)
