"""What `onedomain status` says of failovers and links, also where an older edge answers that says less."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console, Group

from onedomain.cli.status import edge_troubles, failovers, replicas

FAILOVER = {"from": "a", "to": "b", "accounts": 3, "settled": 2, "returned": 1, "seconds": 1.2, "cause": "a is silent"}
PAIR = {"source": "a", "target": "b", "accounts": 3, "whole": 1, "first_copy": 2, "stopped": 0, "lag": 0.004,
        "uncovered": 0, "uncovered_for": None, "braked": 0, "refused": 0, "reasons": []}  # fmt: skip


def shown(parts: list[Any]) -> str:
    console = Console(width=250)
    with console.capture() as capture:
        console.print(Group(*parts))
    return " ".join(capture.get().split())


def test_what_became_of_accounts_that_failed_over() -> None:
    now = {**FAILOVER, "at": time.time() - 9}
    assert "a b 3 2 1 1.2 s" in shown(failovers({"recent": [now]}))
    became = {**now, "renumbered": 4, "added": 5, "aside": 6}
    assert "2 (4 folder(s) are loaded anew) 1 (5 message(s) of it added; 6 set aside)" in shown(
        failovers({"recent": [became]}))
    nets = {("a", "b"): 7, ("b", "a"): 8}
    assert "2 (4 folder(s) are loaded anew; 7 message(s) from safety nets) 1 (5" in shown(
        failovers({"recent": [became]}, nets))
    before = {**now, "cause": "by hand"}
    assert shown(failovers({"recent": [now, before]}, nets)).count("7 message(s)") == 1, "told once"


def test_how_much_of_first_copies_is_to_go() -> None:
    assert "to go" not in shown(replicas({"pairs": [PAIR]}))
    assert "1234 message(s) to go" in shown(replicas({"pairs": [{**PAIR, "to_go": 1234}]}))


def test_that_nobody_is_told() -> None:
    edge = {"queue": {"trouble": []}, "directory": {}}
    assert edge_troubles(edge) == [], "an older edge does not say"
    untold = [{"way": "mail", "reason": "no such account"}, {"way": "webhook", "reason": "refused"}]
    assert edge_troubles({**edge, "alerts_untold": untold}) == [
        "alerts reach no postmaster: no such account", "alerts reach no webhook: refused"]
