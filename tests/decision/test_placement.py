"""New accounts go to the least loaded server of their unit."""

from __future__ import annotations

from collections import Counter

from onedomain.decision.placement import QuietBoard, place, place_replicas
from onedomain.directory.book import Book
from onedomain.directory.delta import Delta
from onedomain.model.account import Unit
from onedomain.model.failure import Failure
from onedomain.model.health import Load, Verdict
from onedomain.model.server import Server
from tests.directory.views import server

HEAD = Unit("head", ("s1", "s2"))
ANY = Unit("any")


class Board(QuietBoard):
    def __init__(self, loads: dict[str, Load] | None = None, **verdicts: Verdict) -> None:
        self.loads = loads or {}
        self.verdicts = verdicts

    def verdict(self, server: str) -> Verdict:
        return self.verdicts.get(server, Verdict.UP)

    def load(self, server: str) -> Load:
        return self.loads.get(server, Load())


def view(*servers: Server) -> Book:
    return Book([], [HEAD, ANY], servers or [server("s1"), server("s2"), server("s3")])


def name(answer: Server | Failure) -> str:
    assert isinstance(answer, Server), answer
    return answer.name


def test_only_servers_of_the_unit() -> None:
    assert name(place(view(), HEAD, QuietBoard(), {"s1": 5, "s2": 3})) == "s2"
    assert name(place(view(), ANY, QuietBoard(), {"s1": 5, "s2": 3})) == "s3"


def test_busy_and_slow_servers_get_less() -> None:
    board = Board({"s1": Load(0.5, 3)})
    assert name(place(view(), HEAD, board, {"s1": 3, "s2": 5})) == "s2"


def test_an_import_is_spread() -> None:
    accounts: Counter[str] = Counter()
    for _ in range(300):
        accounts[name(place(view(), ANY, QuietBoard(), accounts))] += 1
    assert accounts == {"s1": 100, "s2": 100, "s3": 100}


def test_neither_down_nor_draining() -> None:
    assert name(place(view(), HEAD, Board(s1=Verdict.SILENT), {"s2": 99})) == "s2"
    assert name(place(view(), HEAD, Board(s1=Verdict.DRAINING), {"s2": 99})) == "s2"
    book = view()
    book.apply(Delta(1, draining=("s1",)))
    assert name(place(book, HEAD, QuietBoard(), {"s2": 99})) == "s2"


def test_all_down_still_gets_a_home_and_all_draining_none() -> None:
    down = Board(s1=Verdict.SILENT, s2=Verdict.REFUSING)
    assert name(place(view(), HEAD, down, {"s1": 1})) == "s2"
    drained = view(server("s1", draining=True), server("s2", draining=True))
    assert isinstance(place(drained, HEAD, QuietBoard(), {}), Failure)


def test_a_copy_lives_on_the_emptiest_of_the_replicas_but_never_beside_its_primary() -> None:
    unit = Unit("u", replicas=("s1", "s2", "s3", "gone"))
    assert place_replicas(view(), unit, "s1", {"s2": 5, "s3": 4}) == ("s3",)
    assert place_replicas(view(), unit, "s3", {"s1": 9, "s2": 5}) == ("s2",)
    assert place_replicas(view(), Unit("u", replicas=("s1",)), "s1", {}) == ()
    assert place_replicas(view(), HEAD, "s1", {}) == ()
