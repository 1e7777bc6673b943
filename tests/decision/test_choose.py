"""Choosing: shares in a simulation in virtual time, beside round-robin; placement."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest

from onedomain.decision.choose import better_of_two, least_loaded
from onedomain.decision.health import Health, Patience, after
from onedomain.model.health import Load, Seen, Sighting, Verdict
from onedomain.model.server import Endpoint, Server

HERE = Endpoint("127.0.0.1", 1)


def server(name: str, weight: float = 1.0, draining: bool = False) -> Server:
    return Server(name, "node", HERE, HERE, weight=weight, draining=draining)


@dataclass
class Table:
    loads: dict[str, Load] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)

    def verdict(self, server: str) -> Verdict:
        return self.verdicts.get(server, Verdict.UP)

    def load(self, server: str) -> Load:
        return self.loads.get(server, Load())


A, B, C = server("a"), server("b"), server("c")


def test_nothing_usable() -> None:
    down = Table(verdicts={"a": Verdict.REFUSING, "b": Verdict.SILENT})
    assert better_of_two([A, B], down, random.random) is None
    assert better_of_two([], Table(), random.random) is None
    assert least_loaded([A, B], down, {}) is None


def test_the_unusable_is_never_chosen() -> None:
    board = Table(loads={"b": Load(9, 9)}, verdicts={"a": Verdict.REFUSING})
    assert {better_of_two([A, B], board, random.random) for _ in range(50)} == {B}


@pytest.mark.parametrize("draws", [(0.0, 0.0), (0.0, 0.999999), (0.999999, 0.0), (0.999999, 0.999999), (0.5, 0.5)])
def test_two_different_ones_are_compared(draws: tuple[float, float]) -> None:
    """With two servers there is one pair only, whatever is drawn: the cheaper one wins always."""
    board = Table(loads={"a": Load(0.5, 3), "b": Load(0.01, 3)})
    for pair in ([A, B], [B, A]):
        assert better_of_two(pair, board, iter(draws).__next__) is B


def test_every_pair_is_drawn_equally_often() -> None:
    chance = random.Random(1)
    board = Table(loads={"a": Load(0.001), "b": Load(0.01), "c": Load(0.1)})
    counts = Counter(s.name for _ in range(9000) if (s := better_of_two([C, A, B], board, chance.random)))
    assert counts["a"] == pytest.approx(6000, rel=0.05)
    assert counts["b"] == pytest.approx(3000, rel=0.1)
    assert counts["c"] == 0


def test_weight_makes_cheaper() -> None:
    board = Table(loads={"a": Load(0.1), "b": Load(0.1)})
    assert better_of_two([A, server("b", weight=2)], board, random.random).name == "b"  # type: ignore[union-attr]


# --- balance in virtual time ---------------------------------------------------------------------------------------


@dataclass
class Shares:
    counts: Counter[str]
    waits: list[float]

    def quantile(self, q: float) -> float:
        return sorted(self.waits)[int(q * (len(self.waits) - 1))]


SECONDS = {"a": 0.005, "b": 0.05, "c": 0.5}
PLACES = 8
"""Things each server does at once; more wait in its queue."""


def simulate(pick: Callable[[Sequence[Server], Table, int], Server], rate: float, count: int = 20_000) -> Shares:
    """Poisson arrivals at `rate` per second; each server takes its time with a factor of 0.5 to 1.5, PLACES at once."""
    chance = random.Random(7)
    table, health = Table(), {s.name: Health() for s in (A, B, C)}
    free: dict[str, list[float]] = {name: [0.0] * PLACES for name in SECONDS}
    ends: list[tuple[float, str, float]] = []
    shares, now = Shares(Counter(), []), 0.0
    next_probe = 0.0

    def tell(name: str, seconds: float, at: float, probe: bool) -> None:
        health[name] = after(health[name], Sighting(name, "imap", Seen.OK, seconds), at, Patience(), probe=probe)
        table.loads[name] = Load(health[name].seconds, table.load(name).in_flight)

    for i in range(count):
        now += chance.expovariate(rate)
        while next_probe < now:
            for name in SECONDS:
                tell(name, SECONDS[name], next_probe, True)
            next_probe += 1.0
        while ends and ends[0][0] <= now:
            end, name, seconds = heapq.heappop(ends)
            table.loads[name] = replace(table.load(name), in_flight=table.load(name).in_flight - 1)
            tell(name, seconds, end, False)
        chosen = pick((A, B, C), table, i).name
        start = max(now, free[chosen][0])
        end = start + SECONDS[chosen] * chance.uniform(0.5, 1.5)
        heapq.heapreplace(free[chosen], end)
        heapq.heappush(ends, (end, chosen, end - now))
        table.loads[chosen] = replace(table.load(chosen), in_flight=table.load(chosen).in_flight + 1)
        shares.counts[chosen] += 1
        shares.waits.append(end - now)
    return shares


def by_two() -> Callable[[Sequence[Server], Table, int], Server]:
    chance = random.Random(3)

    def pick(servers: Sequence[Server], table: Table, _: int) -> Server:
        chosen = better_of_two(servers, table, chance.random)
        assert chosen
        return chosen

    return pick


@pytest.mark.parametrize("rate", [30.0, 45.0])
def test_balance_beside_round_robin(rate: float) -> None:
    """Three servers at 5, 50 and 500 ms. The figures are printed by `pytest -s`, for the documents."""
    ours = simulate(by_two(), rate)
    turn = simulate(lambda servers, _, i: servers[i % 3], rate)
    total = sum(ours.counts.values())
    shares = {name: ours.counts[name] / total for name in SECONDS}
    print(f"\n{rate:g}/s: shares {shares}, p99 {ours.quantile(0.99):.3f} s; round-robin {turn.quantile(0.99):.3f} s")
    assert shares["a"] > shares["b"] > shares["c"]
    assert shares["c"] < 0.02
    assert ours.quantile(0.5) < turn.quantile(0.5)
    assert ours.quantile(0.99) < turn.quantile(0.99) / 4


# --- placement -----------------------------------------------------------------------------------------------------


def test_an_import_spreads_by_load_and_weight() -> None:
    board = Table(loads={"a": Load(0.0011), "b": Load(0.0009), "c": Load(0.0010)})
    accounts: Counter[str] = Counter()
    for _ in range(900):
        chosen = least_loaded([A, B, server("c", weight=2)], board, accounts)
        assert chosen
        accounts[chosen.name] += 1
    assert accounts["c"] == pytest.approx(450, rel=0.1)
    assert accounts["a"] == pytest.approx(225, rel=0.1)


def test_the_loaded_server_gets_fewer() -> None:
    board = Table(loads={"a": Load(0.5, 40), "b": Load(0.005, 0)})
    assert least_loaded([A, B], board, {"a": 10, "b": 100}) == B


@pytest.mark.parametrize("draining", [Table(verdicts={"a": Verdict.DRAINING}), Table()])
def test_a_server_being_drained_gets_no_accounts(draining: Table) -> None:
    only = server("a", draining=not draining.verdicts)
    assert least_loaded([only], draining, {}) is None
    assert better_of_two([only], draining, random.random) == only
