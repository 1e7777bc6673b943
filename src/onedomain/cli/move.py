"""`onedomain account move`, `server drain` and their kin: what is to move is written into the directory; the edge that
runs the links carries it out.

Knows what may be asked, and how far it has got. Does not know how a move is done (decision/move, replica/mover).
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from onedomain.cli.board import ask_board
from onedomain.cli.common import AsJson, ConfigPath, console, duration, errors, fail, print_json
from onedomain.cli.move_texts import say
from onedomain.cli.rows import Desk, plain_grid, with_directory
from onedomain.decision.move import ChangeReplicas, cancelled, obstacle, refuge
from onedomain.directory.moves import Moves
from onedomain.directory.rules import account_key
from onedomain.model.account import Account
from onedomain.model.move import Move, Report, Stage
from onedomain.model.server import Server

LOOK_EVERY = 0.5
SHOWN_SECONDS = 86_400.0

Addresses = Annotated[list[str] | None, typer.Argument(metavar="[ADDRESS]...")]
To = Annotated[str, typer.Option("--to", help=say("to_arg"))]
Keep = Annotated[bool, typer.Option("--keep/--drop", help=say("keep_arg"))]
DryRun = Annotated[bool, typer.Option("--dry-run", help=say("dry_arg"))]
Force = Annotated[bool, typer.Option("--force", help=say("force_arg"))]
Wait = Annotated[bool, typer.Option("--wait", help=say("wait_arg"))]


@dataclass
class Wish:
    """`refused`: addresses with the key of what speaks against it."""

    moves: list[Move] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


def move(
    config: ConfigPath,
    to: To,
    addresses: Addresses = None,
    unit: Annotated[str, typer.Option(help=say("unit_arg"))] = "",
    source: Annotated[str, typer.Option("--from", help=say("from_arg"))] = "",
    keep: Keep = True,
    force: Force = False,
    dry_run: DryRun = False,
    wait: Wait = False,
    json: AsJson = False,
) -> None:
    if not addresses and not unit and not source:
        fail(say("whom"), 2)

    async def action(desk: Desk) -> Wish:
        target = _server(desk, to)
        wish = Wish()
        for account in await _accounts(desk, addresses or [], unit, source):
            before = desk.view.server(account.home.primary)
            if key := obstacle(account, before, target):
                wish.refused[account.address] = key
            else:
                wish.moves.append(Move(account.address, account.home.primary, to, keep, force=force))
        return await _begin(desk, wish, dry_run)

    _told(config, with_directory(config, action), dry_run=dry_run, wait=wait, json=json)


def drop(
    config: ConfigPath,
    addresses: Annotated[list[str], typer.Argument(metavar="ADDRESS...")],
    force: Force = False,
    dry_run: DryRun = False,
    wait: Wait = False,
    json: AsJson = False,
) -> None:
    async def action(desk: Desk) -> Wish:
        wish = Wish()
        for account in await _accounts(desk, addresses, "", ""):
            home = account.home
            if home.replicas:
                wish.moves.append(Move(account.address, home.replicas[0], home.primary, keep=False, cause="drop",
                                       stage=Stage.FINISHING, force=force))
            else:
                wish.refused[account.address] = "no_replica"
        return await _begin(desk, wish, dry_run)

    _told(config, with_directory(config, action), dry_run=dry_run, wait=wait, json=json)


def report(
    config: ConfigPath, address: Annotated[str, typer.Argument(metavar="ADDRESS")], json: AsJson = False
) -> None:
    async def action(desk: Desk) -> tuple[list[Move], Report | None]:
        key = account_key(desk.view, address)
        return await _store(desk).all([key]), await _store(desk).report(key)

    found, kept = with_directory(config, action)
    if kept is None:
        fail(say("no_report", address=address))
    if json:
        print_json(asdict(kept) | {"account": address, "moves": [_plain(each) for each in found]})
        return
    if kept.entries:
        heads = [say(head) for head in ("folder", "uid", "old_uid", "verdict", "why")]
        console.print(plain_grid(heads, [[each.folder, str(each.uid or ""), str(each.old_uid or ""), each.verdict,
                                          each.detail] for each in kept.entries]))
    if kept.cut:
        console.print(say("cut", count=len(kept.entries)))
    counts = ", ".join(f"{each.messages} {each.verdict}" for each in kept.counts) or "0"
    console.print(say("compared", address=address, when=f"{datetime.fromtimestamp(kept.at):%Y-%m-%d %H:%M}",
                      folders=kept.folders, counts=counts), markup=False)
    console.print(say("nothing_lost") if not kept.differ else say("would_be_lost", count=kept.differ))


def moves(config: ConfigPath, addresses: Addresses = None, json: AsJson = False) -> None:
    async def action(desk: Desk) -> list[Move]:
        keys = [account_key(desk.view, address) for address in addresses or []]
        return await _store(desk).all(keys, time.time() - SHOWN_SECONDS)

    found = with_directory(config, action)
    if json:
        print_json([_plain(each) for each in found])
    elif not found:
        console.print(say("none"))
    else:
        _print(found)


def cancel(config: ConfigPath, addresses: Addresses = None, json: AsJson = False) -> None:
    async def action(desk: Desk) -> list[Move]:
        store = _store(desk)
        keys = {account_key(desk.view, address) for address in addresses or []}
        early = [each for each in await store.open() if each.stage is Stage.COPYING or each.cause == "drop"]
        wanted = [each for each in early if not keys or each.account in keys]
        gone = [await store.stand(each, Stage.CANCELLED, "") for each in wanted]
        async with desk.repository.writing() as writer:
            for each in gone:
                account = await writer.account(each.account)
                step = cancelled(each, account.home if account is not None else None)
                if account is not None and isinstance(step, ChangeReplicas):
                    await writer.set_account(replace(account, home=replace(account.home, replicas=step.replicas)))
        return gone

    gone = with_directory(config, action)
    if json:
        print_json([_plain(each) for each in gone])
    else:
        console.print(say("cancelled_count", count=len(gone)))


def drain(
    config: ConfigPath,
    name: str,
    to: To = "",
    stay: Annotated[bool, typer.Option("--stay", help=say("stay_arg"))] = False,
    dry_run: DryRun = False,
    wait: Wait = False,
    json: AsJson = False,
) -> None:
    async def action(desk: Desk) -> Wish:
        server = _server(desk, name)
        wanted = [_server(desk, to)] if to else [each for each in desk.view.servers() if each.name != name]
        if not dry_run:
            async with desk.repository.writing() as writer:
                await writer.set_draining(server.name, True)
        wish = Wish()
        if not stay:
            await _flee(desk, server, wanted, wish)
        return await _begin(desk, wish, dry_run)

    wish = with_directory(config, action)
    if not json and not dry_run:
        console.print(say("draining", name=name), markup=False)
    _told(config, wish, dry_run=dry_run, wait=wait, json=json)


def return_(
    config: ConfigPath,
    name: str,
    stay: Annotated[bool, typer.Option("--stay", help=say("stay_arg"))] = False,
    dry_run: DryRun = False,
    wait: Wait = False,
    json: AsJson = False,
) -> None:
    async def action(desk: Desk) -> Wish:
        server = _server(desk, name)
        if not dry_run:
            async with desk.repository.writing() as writer:
                await writer.set_draining(server.name, False)
        wish = Wish()
        if not stay:
            fled = {each.account: each for each in await _store(desk).all()
                    if each.cause == "drain" and each.source == name and each.stage is Stage.DONE}
            for account in await _accounts(desk, sorted(fled), "", ""):
                if account.home.primary == fled[account.address].target:
                    wish.moves.append(Move(account.address, account.home.primary, name, cause="return"))
        return await _begin(desk, wish, dry_run)

    wish = with_directory(config, action)
    if not json and not dry_run:
        console.print(say("back", name=name), markup=False)
    _told(config, wish, dry_run=dry_run, wait=wait, json=json)


async def _flee(desk: Desk, server: Server, wanted: Sequence[Server], wish: Wish) -> None:
    board = await ask_board(desk.config)
    numbers: Counter[str] = Counter()
    for (_, name), count in (await desk.repository.count()).items():
        numbers[name] += count
    for account in await desk.repository.accounts(server=server.name):
        unit = desk.view.unit(account.unit)
        own = [each for each in wanted if unit is None or not unit.servers or each.name in unit.servers]
        target = desk.view.server(refuge(account, own or wanted, board, numbers))
        key = obstacle(account, server, target) if target is not None else "no_refuge"
        if key or target is None:
            wish.refused[account.address] = key
        else:
            numbers[target.name] += 1
            wish.moves.append(Move(account.address, server.name, target.name, cause="drain"))


def _store(desk: Desk) -> Moves:
    return Moves(desk.database, desk.clock)


def _server(desk: Desk, name: str) -> Server:
    found = desk.view.server(name)
    if found is None:
        known = ", ".join(server.name for server in desk.view.servers())
        fail(say("no_server", name=name, known=known))
    return found


async def _accounts(desk: Desk, addresses: Sequence[str], unit: str, server: str) -> list[Account]:
    if not addresses and (unit or server):
        return await desk.repository.accounts(unit=unit, server=server)
    found = []
    for address in addresses:
        account = await desk.repository.account(account_key(desk.view, address))
        if account is None:
            fail(say("missing", address=address))
        found.append(account)
    return found


async def _begin(desk: Desk, wish: Wish, dry_run: bool) -> Wish:
    if dry_run or not wish.moves:
        return wish
    begun = await _store(desk).begin(wish.moves)
    names = {each.account for each in begun}
    late = {each.account: "on_its_way" for each in wish.moves if each.account not in names}
    return Wish(begun, wish.refused | late)


# -- what is said


def _told(config: Any, wish: Wish, *, dry_run: bool, wait: bool, json: bool) -> None:
    """Status 1 if not all could be begun, or done where they are waited for."""
    moves = wish.moves
    if wait and not dry_run and moves:
        moves = _follow(config, moves, quiet=json)
    failed = [each for each in moves if not each.stage.open and each.stage is not Stage.DONE]
    if json:
        print_json({"moves": [_plain(each) for each in moves], "written": not dry_run,
                    "refused": [{"account": key, "why": say(why)} for key, why in sorted(wish.refused.items())]})
    else:
        for key, why in sorted(wish.refused.items()):
            errors.print(f"{key}: {say(why)}", markup=False, soft_wrap=True)
        if not moves and not wish.refused:
            console.print(say("nobody"))
        elif wait and not dry_run:
            _print([each for each in moves if each.stage is not Stage.DONE])
            console.print(say("ended", done=sum(each.stage is Stage.DONE for each in moves), failed=len(failed)))
        else:
            if dry_run:
                _print(moves)
            console.print(say("would_move" if dry_run else "begun", count=len(moves), left=len(wish.refused)))
    if wish.refused or failed:
        raise typer.Exit(1)


def _follow(config: Any, begun: list[Move], *, quiet: bool) -> list[Move]:
    """Until all have ended; ctrl-C leaves them on their way."""
    keys = {each.account: each.at for each in begun}
    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[why]}"),
                  console=errors, disable=quiet) as shown:
        task = shown.add_task(say("copying"), total=len(begun), why="")

        async def action(desk: Desk) -> list[Move]:
            store = _store(desk)
            while True:
                known = {each.account: each for each in await store.all() if keys.get(each.account) == each.at}
                now = [known.get(each.account, each) for each in begun]
                still = [each for each in now if each.account in known and each.stage.open]
                why = f"{still[0].account}: {say(still[0].stage.value)} {still[0].why}" if still else ""
                shown.update(task, completed=len(now) - len(still), why=why)
                if not still:
                    return now
                await asyncio.sleep(LOOK_EVERY)

        return with_directory(config, action)


def _print(found: Sequence[Move]) -> None:
    if found:
        rows = [[each.account, each.source, each.target, say(each.stage.value),
                 duration(time.time() - each.at) if each.at else "", each.why] for each in found]
        console.print(plain_grid([say(head) for head in ("account", "from", "to", "stage", "since", "why")], rows))


def _plain(each: Move) -> dict[str, Any]:
    return {"account": each.account, "from": each.source, "to": each.target, "keep": each.keep, "cause": each.cause,
            "stage": each.stage.value, "why": each.why, "at": each.at, "ended": each.ended, "force": each.force,
            "differ": each.differ}
