"""Which server of its unit a new account gets.

Knows what a unit allows and what to do when nothing is up. How loads are weighed is `choose`'s; how the account is
made on the server is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping

from onedomain.decision.choose import least_loaded
from onedomain.model.account import DirectoryView, Unit
from onedomain.model.failure import Failure, refuse
from onedomain.model.health import BoardView, Load, Verdict
from onedomain.model.server import Server


class QuietBoard:
    """A model.health.BoardView for where nobody probes: every server is up and idle."""

    def verdict(self, server: str) -> Verdict:
        return Verdict.UP

    def load(self, server: str) -> Load:
        return Load()


def place(view: DirectoryView, unit: Unit, board: BoardView, accounts: Mapping[str, int]) -> Server | Failure:
    """The least loaded server of the unit that is up and not draining; a unit that names no servers may use all.

    `accounts` says how many live on each server. With every server down the account is made all the same, on the one
    with the fewest, and its mail waits.
    """
    named = [view.server(name) for name in unit.servers] if unit.servers else view.servers()
    servers = [server for server in named if server is not None and not server.draining]
    if not servers:
        return refuse(550, "5.3.5", "no server takes new accounts", f"unit {unit.name}: every server is draining")
    chosen = least_loaded(servers, board, accounts)
    return chosen or least_loaded(servers, QuietBoard(), accounts) or servers[0]


def place_replicas(view: DirectoryView, unit: Unit, primary: str, accounts: Mapping[str, int]) -> tuple[str, ...]:
    """Where a new account's copy is kept: of the unit's replicas the one with the fewest accounts, or none."""
    named = [view.server(name) for name in dict.fromkeys(unit.replicas) if name != primary]
    servers = [server for server in named if server is not None]
    calm = [server for server in servers if not server.draining] or servers
    chosen = min(calm, key=lambda server: accounts.get(server.name, 0) / server.weight, default=None)
    return (chosen.name,) if chosen is not None else ()
