"""Board and mirrors: faces, draining, reports and snapshots."""

from __future__ import annotations

import json

import pytest

from onedomain.health.board import Board
from onedomain.health.mirror import MAX_FAILURES, Mirror
from onedomain.health.view import Change
from onedomain.model.health import Load, Seen, Sighting, Verdict
from onedomain.model.server import Endpoint, Server

HERE = Endpoint("127.0.0.1", 1)


def server(name: str, draining: bool = False) -> Server:
    return Server(name, "node", HERE, HERE, draining=draining)


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1e9 + self.now


def board(*names: str) -> Board:
    return Board([server(name) for name in names or ("a", "b")], Clock())


def down(board: Board, name: str = "a", face: str = "imap") -> None:
    board.probed(Sighting(name, face, Seen.REFUSED, reason="connection refused"))
    board.probed(Sighting(name, face, Seen.REFUSED, reason="connection refused"))


def test_faces_are_apart() -> None:
    b = board()
    down(b)
    assert b.verdict("a") is Verdict.REFUSING
    assert b.facing("imap").verdict("a") is Verdict.REFUSING
    assert b.facing("delivery").verdict("a") is Verdict.UP
    assert b.verdict("b") is Verdict.UP


def test_changes_are_told_once_with_their_reason() -> None:
    b, told = board(), list[Change]()
    b.on_change.append(told.append)
    down(b)
    down(b)
    assert told == [
        Change("a", face, Verdict.UP, Verdict.REFUSING, "connection refused") for face in ("imap", "")
    ]
    down(b, face="delivery")
    assert [change.face for change in told[2:]] == ["delivery"]


def test_doubts_ask_for_another_probe() -> None:
    b, doubts = board(), list[tuple[str, str]]()
    b.on_doubt.append(lambda name, face: doubts.append((name, face)))
    b.saw(Sighting("a", "delivery", Seen.REFUSED))
    assert doubts == [("a", "delivery")]
    assert b.verdict("a") is Verdict.UP
    b.probed(Sighting("a", "delivery", Seen.REFUSED))
    assert b.verdict("a") is Verdict.REFUSING


def test_draining_shows_while_it_works() -> None:
    b, told = board(), list[Change]()
    b.on_change.append(told.append)
    b.configure([server("a", draining=True), server("b")])
    assert b.verdict("a") is b.verdict("a", "imap") is Verdict.DRAINING
    assert [(change.server, change.after) for change in told] == [("a", Verdict.DRAINING)]
    down(b)
    assert b.verdict("a") is Verdict.REFUSING
    b.configure([server("a"), server("b")])
    assert b.verdict("a") is Verdict.REFUSING


def test_strangers_are_nobodys_to_doubt() -> None:
    b = board()
    down(b, "smarthost")
    b.probed(Sighting("a", "pop3", Seen.REFUSED))
    b.message_probed("x", Sighting("gone", "delivery", Seen.BROKEN))
    assert b.verdict("smarthost") is Verdict.UP and b.load("smarthost") == Load()


def mirrored(b: Board, mirror: Mirror, worker: str = "w1") -> None:
    """There and back as JSON, as between processes."""
    b.take_report(worker, json.loads(json.dumps(mirror.report())))
    mirror.apply(json.loads(json.dumps(b.snapshot(worker))))


def test_a_mirror_says_what_the_board_says() -> None:
    b, told = board(), list[Change]()
    mirror = Mirror(lambda _: 0, lambda: None)
    mirror.on_change.append(told.append)
    assert mirror.verdict("a") is Verdict.UP
    mirrored(b, mirror)
    down(b)
    b.configure([server("a"), server("b", draining=True)])
    mirrored(b, mirror)
    for name in ("a", "b", "c"):
        for face in ("", "imap", "delivery"):
            assert mirror.verdict(name, face) is b.verdict(name, face)
            assert mirror.load(name, face).seconds == pytest.approx(b.load(name, face).seconds, abs=1e-5)
    assert mirror.facing("delivery").verdict("a") is Verdict.UP
    assert (told[0].server, told[0].after, told[1].reason) == ("a", Verdict.REFUSING, "connection refused")


def test_work_in_flight_is_ones_own_and_the_others() -> None:
    b = board()
    mine, theirs = {"a": 3}, {"a": 5}
    one, other = Mirror(lambda s: mine.get(s, 0), lambda: None), Mirror(lambda s: theirs.get(s, 0), lambda: None)
    for _ in range(2):
        mirrored(b, one, "w1")
        mirrored(b, other, "w2")
    one.apply(b.snapshot("w1"))
    assert b.load("a").in_flight == one.load("a").in_flight == other.load("a").in_flight == 8
    mine["a"] = 0
    assert one.load("a").in_flight == 5
    b.forget_worker("w2")
    mirrored(b, one, "w1")
    assert one.load("a").in_flight == 0


def test_a_thousand_answers_make_one_line() -> None:
    mirror = Mirror(lambda _: 0, lambda: None)
    for i in range(1000):
        mirror.saw(Sighting("a", "imap", Seen.OK, 0.001 * (i % 2)))
    assert mirror.report()["sightings"] == [["a", "imap", "ok", pytest.approx(0.0005), ""]]
    assert mirror.report()["sightings"] == []


def test_failures_are_urgent_in_order_and_bounded() -> None:
    calls: list[int] = []
    mirror = Mirror(lambda _: 0, lambda: calls.append(1))
    mirror.saw(Sighting("a", "imap", Seen.REFUSED, 0.0, "before"))
    mirror.saw(Sighting("a", "imap", Seen.OK, 0.1))
    for i in range(100):
        mirror.saw(Sighting("a", "imap", Seen.SILENT, 1.0, f"after {i}"))
    assert len(calls) == 101
    sightings = mirror.report()["sightings"]
    assert len(sightings) == 1 + MAX_FAILURES
    assert [line[2] for line in sightings] == ["ok"] + ["silent"] * MAX_FAILURES
    assert all(line[4] != "before" for line in sightings)


def test_a_snapshot_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="version 99"):
        Mirror(lambda _: 0, lambda: None).apply({"version": 99, "servers": {}})


def test_a_snapshot_explains() -> None:
    b = board("a")
    down(b)
    shown = b.snapshot()["servers"]["a"]
    assert shown["verdict"] == "refusing"
    assert shown["faces"]["imap"]["reason"] == "connection refused"
    assert shown["faces"]["imap"]["age"] == 0.0
    assert shown["faces"]["delivery"] == {
        "verdict": "up", "seconds": 0.0, "reason": "", "age": None, "heard": None
    }  # fmt: skip
