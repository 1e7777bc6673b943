"""The load against the sink: what it counts, and that it says so when a server does not do what it should."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.dialogue import IMAP_IDLE, IMAP_SESSION, MESSAGE, POP3_SESSION, message, smtp
from bench.load import Load
from bench.stage import SinkServer
from bench.talk import Done, LoadError, Step, Talk, Work


@pytest.fixture(scope="module")
def sink() -> Iterator[SinkServer]:
    with tempfile.TemporaryDirectory() as folder:
        sink = SinkServer(Path(folder), bulk=100_000)
        sink.start()
        yield sink
        sink.kill()


def talk(work: Work) -> Done:
    made = Talk(work)
    made.warm()
    try:
        return made.run()
    finally:
        made.close()


def test_sessions_side_by_side(sink: SinkServer) -> None:
    for port, steps in ((sink.behind.imap, IMAP_SESSION), (sink.behind.pop3, POP3_SESSION)):
        done = talk(Work("127.0.0.1", port, steps, sessions=30, at_once=7, users=["a", "b"]))
        assert (done.sessions, len(done.latencies)) == (30, 30)
        assert done.seconds > 0 and done.cpu > 0


def test_messages_one_after_another(sink: SinkServer) -> None:
    before = sink.taken()
    work = Work("127.0.0.1", sink.behind.smtp, smtp(50_000), sessions=2, at_once=2, repeat=MESSAGE, times=5)
    assert len(talk(work).latencies) == 10
    assert sink.taken() - before == 10


def test_arrivals_over_time(sink: SinkServer) -> None:
    done = talk(Work("127.0.0.1", sink.behind.imap, IMAP_SESSION, sessions=20, seconds=0.4))
    assert len(done.latencies) == 20
    assert done.seconds >= 0.38


def test_a_process_of_its_own(sink: SinkServer) -> None:
    load = Load(Work("127.0.0.1", sink.behind.imap, IMAP_IDLE, sessions=5, hold=True))
    try:
        assert load.go().sessions == 5
    finally:
        load.end()


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([Step(b"", b"* OK"), Step(b"a LOGOUT\r\n", b"b OK")], "closed by the server"),
        ([Step(b"", b"* BYE"), Step(b"", b"")], "no answer"),
    ],
    ids=["another answer", "silence"],
)
def test_a_server_that_says_something_else_ends_the_run(
    sink: SinkServer, steps: list[Step], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if words == "no answer":
        monkeypatch.setattr("bench.talk.STALLED", 0.3)
    with pytest.raises(LoadError, match=words):
        talk(Work("127.0.0.1", sink.behind.imap, steps, sessions=1))


def test_the_message_has_its_size_and_one_end() -> None:
    for size in (1000, 10 << 10, 1 << 20):
        made = message(size)
        assert abs(len(made) - size) <= 4
        assert made.endswith(b"\r\n.\r\n") and made.count(b"\r\n.") == 1
        assert made.count(b"\n") == made.count(b"\r\n")
