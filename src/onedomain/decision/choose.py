"""Which of several servers: for a piece of work now, and for an account that will stay.

Knows loads, verdicts and weights as values. Does not know how they were measured; chance is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from onedomain.model.health import BoardView, Verdict
from onedomain.model.server import Server

PLACING_FLOOR = 0.02
"""Seconds added to response times when an account is placed: it stays for years, a few milliseconds now say nothing."""


def better_of_two(servers: Iterable[Server], board: BoardView, random: Callable[[], float]) -> Server | None:
    """One of `servers` for a piece of work, None if none can be used.

    Two are drawn at random and the one that costs less is taken: as good as knowing the best, without everybody running
    to it at once on the same stale figure (Mitzenmacher 2001). `random` is uniform in [0, 1).
    """
    usable = [server for server in servers if board.verdict(server.name).usable]
    if len(usable) <= 1:
        return usable[0] if usable else None
    first = int(random() * len(usable))
    second = int(random() * (len(usable) - 1))
    if second >= first:
        second += 1
    one, other = usable[first], usable[second]
    return one if _cost(one, board) <= _cost(other, board) else other


def least_loaded(servers: Iterable[Server], board: BoardView, accounts: Mapping[str, int]) -> Server | None:
    """Where a new account goes: the least loaded of `servers`; None if none takes accounts now.

    `accounts` says how many each has: an import of a thousand must not all land on one server that was idle.
    """
    taking = [s for s in servers if board.verdict(s.name) in (Verdict.UP, Verdict.SLOW) and not s.draining]

    def cost(server: Server) -> float:
        load = board.load(server.name)
        work = accounts.get(server.name, 0) + load.in_flight + 1
        return (load.seconds + PLACING_FLOOR) * work / _weight(server)

    return min(taking, key=cost, default=None)


def _cost(server: Server, board: BoardView) -> float:
    return board.load(server.name).cost / _weight(server)


def _weight(server: Server) -> float:
    return max(server.weight, 1e-6)
