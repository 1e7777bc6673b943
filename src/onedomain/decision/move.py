"""What a move has to do next: a replica is made at the new server, and when it is whole the two change places.

Knows the account's home and its link as values. Does not know how a link is run or a home changed. So a move survives
whatever ends: it is decided anew from what is there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from onedomain.decision.choose import least_loaded
from onedomain.model.account import Account, Home
from onedomain.model.health import BoardView
from onedomain.model.move import Move, Stage
from onedomain.model.server import LoginWay, Server, ServerClass


@dataclass(frozen=True, slots=True)
class Progress:
    """The link from the home's primary to its first replica. `whole`: nothing is left uncovered. `stopped`: why it
    stands still, or "". `behind`: how many messages are still to be carried, as far as is known.
    """

    whole: bool
    stopped: str = ""
    behind: int = 0


@dataclass(frozen=True, slots=True)
class ChangeReplicas:
    replicas: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Switch:
    """The target becomes the primary, and its primary the replica."""


@dataclass(frozen=True, slots=True)
class Stand:
    """Nothing to do but to wait, or nothing more at all. `why` for people."""

    stage: Stage
    why: str = ""


@dataclass(frozen=True, slots=True)
class Compare:
    """Both copies, message by message, before the old one is let go of."""


Step: TypeAlias = ChangeReplicas | Switch | Compare | Stand


def next_step(move: Move, home: Home | None, link: Progress | None, *, returned: bool, usable: Collection[str]) -> Step:
    """`link`: None where none runs yet. `returned`: the old primary has been brought back as a replica. `usable`: the
    servers that are up.
    """
    if home is None:
        return Stand(Stage.FAILED, "the account is gone")
    if home.primary == move.target:
        return _after(move, home, link, returned)
    if home.pending:
        return Stand(Stage.COPYING, f"{home.primary} is just becoming the primary")
    if home.primary != move.source:
        return Stand(Stage.FAILED, f"its home has become {home.primary} meanwhile")
    if home.replicas[:1] != (move.target,):
        return ChangeReplicas((move.target, *(name for name in home.replicas if name != move.target)))
    if link is None:
        return Stand(Stage.COPYING, "the link has not begun")
    if link.stopped:
        return Stand(Stage.COPYING, link.stopped)
    if not link.whole:
        return Stand(Stage.COPYING, f"{link.behind} messages to go" if link.behind else "")
    down = [name for name in (move.source, move.target) if name not in usable]
    if down:
        return Stand(Stage.COPYING, f"{down[0]} is not usable")
    return Switch()


def _after(move: Move, home: Home, link: Progress | None, returned: bool) -> Step:
    if home.pending:
        return Stand(Stage.SWITCHING)
    if not returned and not (move.force and move.cause == "drop"):  # of a server that will never be there again, too
        return Stand(Stage.FINISHING, f"what came late at {move.source} is brought")
    if move.keep or move.source not in home.replicas:
        return Stand(Stage.DONE)
    if move.differ is None:
        if home.replicas[0] != move.source:  # somebody has put another before it since
            return _without(move, home) if move.force else Stand(
                Stage.FAILED, f"it lives at {move.target}, and {move.source} stays as a replica: links go to "
                              f"{home.replicas[0]}, so nobody compares it")
        stands = "the link has not begun" if link is None else link.stopped
        if move.force and stands:
            return _without(move, home)  # nobody can compare: that is what it is forced for
        if link is None or link.stopped or not link.whole:
            behind = link.behind if link is not None else 0
            return Stand(Stage.FINISHING, stands or (f"{behind} messages to go" if behind else ""))
        return Compare()
    if move.differ and not move.force:
        return Stand(Stage.FAILED, f"it lives at {move.target}, and {move.source} stays as the replica: "
                                   f"{move.differ} messages differ")
    return _without(move, home)


def _without(move: Move, home: Home) -> ChangeReplicas:
    return ChangeReplicas(tuple(name for name in home.replicas if name != move.source))


def cancelled(move: Move, home: Home | None) -> Step:
    """Before the switch: the replicas are those of before; if there were none, and the old server was to stay as one,
    the new one does. After it: a move back is what undoes it.
    """
    if home is None or home.primary != move.source or move.target not in home.replicas:
        return Stand(Stage.CANCELLED)
    if move.before is not None and {*home.replicas} == {move.target, *move.before}:
        wanted = move.before or home.replicas[: move.keep]
    else:  # somebody has changed them since
        wanted = home.replicas if move.keep else tuple(name for name in home.replicas if name != move.target)
    return ChangeReplicas(wanted) if wanted != home.replicas else Stand(Stage.CANCELLED)


def obstacle(account: Account, source: Server | None, target: Server) -> str:
    """Why it can't go there, as a key of the texts; "" if nothing speaks against it."""
    if account.home.primary == target.name:
        return "there_already"
    if source is None:
        return "server_unknown"
    for server in (source, target):
        if server.class_ is ServerClass.FOREIGN:
            return "foreign"
        if not may_link(server):
            return "no_link_login"
    return ""


def may_link(server: Server) -> bool:
    """Links need a log-in for every account; which password a person has is not known to us."""
    return bool(server.replication_user) if server.kind == "node" else server.login_way is not LoginWay.PASSWORD


def refuge(account: Account, servers: Sequence[Server], board: BoardView, accounts: Mapping[str, int]) -> str:
    """Where an account goes when its server is drained: to its replica, which has everything already; else to the least
    loaded of `servers`. "" if there is none.
    """
    known = {server.name: server for server in servers}
    for name in account.home.replicas:
        server = known.get(name)
        if server is not None and not server.draining and board.verdict(name).usable:
            return name
    source = account.home.primary
    others = [server for server in servers if server.name != source and not server.draining and may_link(server)]
    chosen = least_loaded(others, board, accounts)
    return chosen.name if chosen is not None else ""
