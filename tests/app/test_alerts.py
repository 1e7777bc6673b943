"""What needs a person: gathered, told once in a while, counted where it is too much, and never a reason to stop."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections.abc import Callable, Coroutine
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from onedomain.app import alerts as module
from onedomain.app.alerts import Alerts
from onedomain.control.link import LinkError
from tests.queue.fakes import ListTrace
from tests.queue.simulation import LoopClock, run

ANN, BOB = "ann@example.com", "bob@example.com"
EVERY = 3600.0


class Office:
    """Where mails and posts arrive, in virtual time."""

    def __init__(self, *, mail: bool = True, webhook: str = "") -> None:
        self.log = ListTrace()
        self.mails: list[tuple[float, str, str]] = []
        self.broken = False
        self.alerts = Alerts("mx1", EVERY, self._mail if mail else None, webhook, clock=LoopClock(), trace=self.log)

    async def _mail(self, subject: str, text: str) -> None:
        if self.broken:
            raise LinkError("no worker is up")
        self.mails.append((asyncio.get_running_loop().time(), subject, text))


def lived(life: Callable[[Office], Coroutine[Any, Any, None]], **options: Any) -> Office:
    async def whole() -> Office:
        office = Office(**options)
        running = asyncio.create_task(office.alerts.run())
        await life(office)
        running.cancel()
        return office

    office: Office = run(whole())[0]
    return office


def test_what_comes_together_is_one_mail() -> None:
    async def life(office: Office) -> None:
        office.alerts.tell(ANN, "INBOX", "UIDs went backwards")
        await asyncio.sleep(module.GATHER / 2)
        office.alerts.tell(BOB, "", "the link stopped")
        await asyncio.sleep(module.GATHER)

    office = lived(life)
    [(at, subject, text)] = office.mails
    assert at == module.GATHER
    assert subject == "OneDomain mx1: UIDs went backwards (+1)"
    assert text == f"{ANN} INBOX UIDs went backwards\n{BOB} the link stopped\n"
    assert [fields["account"] for fields in office.log.named("alert")] == [ANN, BOB]


def test_the_same_is_told_again_only_after_a_while() -> None:
    async def life(office: Office) -> None:
        for _ in range(int(EVERY // 100) + 2):
            office.alerts.tell(ANN, "", "the link stopped")
            await asyncio.sleep(100.0)

    office = lived(life)
    assert [at for at, _, _ in office.mails] == [module.GATHER, EVERY + module.GATHER]
    assert len(office.log.named("alert")) == 2


def test_mails_keep_a_distance_and_lose_nothing_between() -> None:
    async def life(office: Office) -> None:
        for number in range(100):
            office.alerts.tell(ANN, "", f"trouble {number}")
            await asyncio.sleep(2.0)
        await asyncio.sleep(2 * module.AT_LEAST)

    office = lived(life)
    times = [at for at, _, _ in office.mails]
    assert all(later - earlier >= module.AT_LEAST for earlier, later in itertools.pairwise(times))
    assert "".join(text for _, _, text in office.mails).splitlines() == [f"{ANN} trouble {n}" for n in range(100)]


def test_too_many_are_counted() -> None:
    async def life(office: Office) -> None:
        for number in range(module.MOST + 7):
            office.alerts.tell(f"{number}@example.com", "", "the link stopped")
        await asyncio.sleep(module.GATHER + 1)
        office.alerts.tell(ANN, "", "later")
        await asyncio.sleep(module.AT_LEAST + 2 * module.GATHER)

    office = lived(life)
    first, second = (text.splitlines() for _, _, text in office.mails)
    assert len(first) == module.MOST + 1 and first[-1] == "… and 7 more"
    assert second == [f"{ANN} later"]
    assert len(office.log.named("alert")) == module.MOST + 8, "the log has all of them"


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 10)

    async def life(office: Office) -> None:
        for number in range(1000):
            office.alerts.tell(f"{number}@example.com", "", "the link stopped")

    office = lived(life)
    assert len(office.alerts._told) == 10


def test_a_mail_that_can_not_be_sent_is_logged_and_goes_with_the_next() -> None:
    async def life(office: Office) -> None:
        office.broken = True
        office.alerts.tell(ANN, "", "the link stopped")
        await asyncio.sleep(module.GATHER + 1)
        assert office.alerts.troubles() == [{"way": "mail", "reason": "no worker is up"}], "for status"
        office.broken = False
        await asyncio.sleep(3 * module.AT_LEAST)
        assert office.alerts.troubles() == []

    office = lived(life)
    assert [fields["reason"] for fields in office.log.named("alert not mailed")] == ["LinkError('no worker is up')"]
    assert [text for _, _, text in office.mails] == [f"{ANN} the link stopped\n"]


class Hook:
    """A webhook: a real server that takes POSTs, and answers `status`."""

    def __init__(self, status: int = 200) -> None:
        self.posts: list[tuple[str, dict[str, Any]]] = []
        posts = self.posts

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                posts.append((self.headers["Content-Type"], json.loads(content)))
                self.send_response(status)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/alerts"

    def __enter__(self) -> Hook:
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


async def posted(hook: Hook | str, monkeypatch: pytest.MonkeyPatch) -> ListTrace:
    """In real time, as posting blocks a thread: one alert, until it is posted or given up."""
    monkeypatch.setattr(module, "GATHER", 0.01)
    monkeypatch.setattr(module, "AT_LEAST", 0.01)
    log, done = ListTrace(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def post(url: str, content: bytes) -> None:
        try:
            module._post(url, content)
        finally:
            loop.call_soon_threadsafe(done.set)

    alerts = Alerts("mx1", EVERY, None, hook if isinstance(hook, str) else hook.url, clock=LoopClock(), trace=log,
                    post=post)
    running = asyncio.create_task(alerts.run())
    alerts.tell(ANN, "送信済み", "the link stopped")
    async with asyncio.timeout(20):
        await done.wait()
        await asyncio.sleep(0.05)  # what follows in the loop
    running.cancel()
    return log


async def test_a_webhook_gets_them_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    with Hook() as hook:
        log = await posted(hook, monkeypatch)
    [(kind, content)] = hook.posts
    assert kind == "application/json"
    assert content["edge"] == "mx1" and content["more"] == 0
    assert content["text"] == f"{ANN} 送信済み the link stopped"
    [one] = content["alerts"]
    assert (one["account"], one["folder"], one["text"]) == (ANN, "送信済み", "the link stopped") and one["at"] > 0
    assert not log.named("alert not posted")


async def test_a_webhook_that_answers_an_error_or_is_not_there_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    with Hook(500) as hook:
        log = await posted(hook, monkeypatch)
        url = hook.url
    assert "500" in str(log.named("alert not posted")[0]["reason"])
    log = await posted(url, monkeypatch)
    assert "refused" in str(log.named("alert not posted")[0]["reason"])
