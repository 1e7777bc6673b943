"""What needs a person: gathered for a moment, told by mail to the postmaster and to a webhook, never too often.

Knows what was told when. Does not know what is wrong, nor how mail gets into a spool.
"""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from onedomain.model.ports import Clock, Trace

GATHER = 2.0       # seconds: a server that dies has many alerts
AT_LEAST = 60.0    # seconds between two mails, or two posts, unless the same is wanted again sooner
AT_MOST = 3600.0   # as long as they can't be sent
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


Send = Callable[[list[Alert], int], Awaitable[None]]
"""Some alerts, and how many more there were. Raises Exception."""


class _Way:
    """One way of telling. What could not be told this time is told the next."""

    def __init__(self, send: Send, failed: Callable[[Exception], None], pause: float) -> None:
        self._send = send
        self._pause = pause
        self._failed = failed
        self._waiting: list[Alert] = []
        self._more = 0
        self.trouble = ""  # why the last ones could not be told
        self._wanted = asyncio.Event()

    def add(self, alerts: list[Alert], more: int = 0) -> None:
        room = MOST - len(self._waiting)
        self._waiting += alerts[:room]
        self._more += more + len(alerts[room:])
        self._wanted.set()

    async def run(self) -> None:
        pause = self._pause
        while True:
            await self._wanted.wait()
            await asyncio.sleep(GATHER)
            self._wanted.clear()
            alerts, self._waiting = self._waiting, []
            more, self._more = self._more, 0
            try:
                await self._send(alerts, more)
                pause, self.trouble = self._pause, ""
            except Exception as error:  # noqa: BLE001  whatever keeps an alert from being told is told in the log
                self._failed(error)
                self.trouble = str(error) or repr(error)
                later, self._waiting = self._waiting, []
                self.add(alerts + later, more)
                pause = min(2 * pause, AT_MOST)
            await asyncio.sleep(pause)


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
        self._ways: dict[str, _Way] = {}
        pause = min(every, AT_LEAST)
        if mail is not None:
            failed = partial(self._failed, "alert not mailed")
            self._ways["mail"] = _Way(self._send_mail, failed, pause)
        if webhook:
            failed = partial(self._failed, "alert not posted")
            self._ways["webhook"] = _Way(self._send_post, failed, pause)

    def tell(self, account: str, folder: str, text: str) -> None:
        key, now = (account, folder, text), self._clock.monotonic()
        if now - self._told.get(key, float("-inf")) < self._every:
            return
        self._told[key] = now
        self._told.move_to_end(key)
        if len(self._told) > REMEMBERED:
            self._told.popitem(last=False)
        self._trace.note("alert", account=account, folder=folder, reason=text)
        for way in self._ways.values():
            way.add([Alert(account, folder, text, self._clock.time())])

    def troubles(self) -> list[dict[str, str]]:
        """The ways by which nobody is told now, and why."""
        return [{"way": name, "reason": way.trouble} for name, way in self._ways.items() if way.trouble]

    async def run(self) -> None:
        """Until cancelled."""
        await asyncio.gather(*(way.run() for way in self._ways.values()))

    def _failed(self, event: str, error: Exception) -> None:
        self._trace.note(event, reason=repr(error))

    async def _send_mail(self, alerts: list[Alert], more: int) -> None:
        assert self._mail is not None
        lines = [str(alert) for alert in alerts] + ([f"… and {more} more"] if more else [])
        subject = f"OneDomain {self._edge}: {alerts[0].text[:100]}" + (f" (+{len(lines) - 1})" if lines[1:] else "")
        await self._mail(subject, "\n".join(lines) + "\n")

    async def _send_post(self, alerts: list[Alert], more: int) -> None:
        content: dict[str, Any] = {
            "edge": self._edge, "text": "\n".join(map(str, alerts)), "more": more,
            "alerts": [{"account": a.account, "folder": a.folder, "text": a.text, "at": a.at} for a in alerts],
        }
        await asyncio.to_thread(self._post, self._webhook, json.dumps(content).encode())


def _post(url: str, content: bytes) -> None:
    """Blocks. Raises OSError (URLError among them), ValueError."""
    request = urllib.request.Request(url, content, {"Content-Type": "application/json"}, method="POST")
    with urllib.request.urlopen(request, timeout=POST_SECONDS) as answer:
        answer.read(1000)
