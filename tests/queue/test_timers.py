"""Alarms ring when they should and never before, whatever the loop makes of fractions of a millisecond."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextvars import Context
from typing import Any

import pytest
import uvloop

from onedomain.decision.retry import Patience, Pauses
from onedomain.queue.timers import Timers
from tests.queue import simulation
from tests.queue.test_dispatch import Stage, play

HALF = 0.0005


class HastyLoop(simulation.VirtualLoop):
    """Its alarms ring half a millisecond early, as uvloop's may."""

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return super().call_at(max(self.now, when - HALF), callback, *args, context=context)


async def moments(timers: Timers, waits: list[float]) -> list[float]:
    """How late each one's action was called, in seconds of the loop's clock."""
    loop = asyncio.get_running_loop()
    late: list[float] = []
    ended = loop.create_future()

    def ring(moment: float) -> None:
        late.append(loop.time() - moment)
        if len(late) == len(waits):
            ended.set_result(None)

    for wait in waits:
        moment = loop.time() + wait
        timers.call_at(moment, lambda moment=moment: ring(moment))  # type: ignore[misc]
    async with asyncio.timeout(30):
        await ended
    return late


WAITS = [random.Random(1).uniform(0, 0.2) for _ in range(300)]


def test_no_alarm_of_uvloop_counts_before_its_moment() -> None:
    late = uvloop.run(moments(Timers(), WAITS))
    assert min(late) >= 0, f"{-min(late) * 1000:.2f} ms early"


def test_no_alarm_of_a_hasty_loop_counts_before_its_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "VirtualLoop", HastyLoop)
    late, _ = simulation.run(moments(Timers(), WAITS))
    assert min(late) >= 0 and max(late) < 0.002


def test_an_action_may_ask_for_more_and_a_closed_one_asks_for_nothing() -> None:
    async def scene() -> list[str]:
        timers, rung = Timers(), []
        timers.call_in(2, lambda: rung.append("second"))

        def first() -> None:
            rung.append("first")
            timers.call_in(0.5, lambda: rung.append("between"))

        timers.call_in(1, first)
        timers.call_in(3, lambda: rung.append("never"))
        await asyncio.sleep(2.5)
        timers.close()
        timers.call_in(0.1, lambda: rung.append("closed"))
        await asyncio.sleep(2)
        assert not len(timers)
        return rung

    rung, _ = simulation.run(scene())
    assert rung == ["first", "between", "second"]


@pytest.mark.parametrize("faults", [("connect",), ("put off",), ("lost after", "can't find")], ids=" and ".join)
def test_a_pause_ends_when_it_ends_on_a_hasty_loop(monkeypatch: pytest.MonkeyPatch, faults: tuple[str, ...]) -> None:
    """And not at the next look at all lanes, half a minute later."""
    monkeypatch.setattr(simulation, "VirtualLoop", HastyLoop)
    took: list[float] = []

    async def scene(stage: Stage) -> None:
        loop = asyncio.get_running_loop()
        stage.s0.faults = dict.fromkeys(faults, 1.0)
        await stage.put(simulation.address(0))
        await asyncio.sleep(0.5)
        stage.s0.faults = {}
        began = loop.time()
        await stage.empty(60)
        took.append(loop.time() - began)

    play(scene, patience=Patience(server=Pauses(1.0, 300.0), recipient=Pauses(1.0, 300.0), doubt=Pauses(1.0, 300.0)))
    assert took[0] < 3
