"""`onedomain drill`: on a stage of its own, or on an operator's servers with test accounts."""

from __future__ import annotations

import json as jsons
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from onedomain.cli.common import AsJson, ConfigPath, configuration, console, errors, fail
from onedomain.cli.rows import plain_grid, with_directory
from onedomain.demo.stage import Stage, StageError
from onedomain.directory.rules import account_key
from onedomain.drill.conductor import Conductor, Ending, Load
from onedomain.drill.judge import by_folder
from onedomain.drill.operators import DrillError, Installation, read_script
from onedomain.drill.own import OwnStage
from onedomain.drill.plan import Act, Way, plan
from onedomain.drill.texts import say
from onedomain.drill.theatre import Theatre


def drill(
    config: ConfigPath,
    duration: Annotated[float, typer.Option(min=20, max=86_400, help=say("duration_arg"))] = 600.0,
    rate: Annotated[float, typer.Option(min=0.1, max=1000, help=say("rate_arg"))] = 50.0,
    people: Annotated[int, typer.Option(min=0, max=100, help=say("people_arg"))] = 6,
    seed: Annotated[int, typer.Option(help=say("seed_arg"))] = 1,
    way: Annotated[list[Way] | None, typer.Option(help=say("way_arg"))] = None,
    folder: Annotated[Path | None, typer.Option(help=say("folder_arg"))] = None,
    script: Annotated[Path | None, typer.Option(help=say("script_arg"))] = None,
    accounts: Annotated[list[str] | None, typer.Option("--account", help=say("account_arg"))] = None,
    password_file: Annotated[Path | None, typer.Option(help=say("password_arg"))] = None,
    json: AsJson = False,
) -> None:
    place = folder or Path(tempfile.mkdtemp(prefix="onedomain-drill-"))
    place.mkdir(parents=True, exist_ok=True)
    if any(place.iterdir()):
        fail(say("not_empty", path=place), 2)
    load = Load(rate, people, duration=duration, seed=seed)
    ways = tuple(way or Way)
    out = errors if json else console
    stage: Stage | None = None
    try:
        theatre: Theatre
        if script is not None:
            theatre = _installation(config, script, accounts, password_file)
        else:
            stage = Stage(place)
            stage.start(lambda name: out.print(say("up", name=name)))
            theatre = OwnStage(stage)
        servers, edges = ({name: player.ways for name, player in players.items()}
                          for players in (theatre.servers, theatre.edges))
        if not any(one in ways for found in servers.values() for one in found):
            fail(say("no_way", ways=", ".join(one.value for one in ways)), 2)
        acts = plan(seed, duration, servers, edges, ways)
        out.print(say("intro", acts=len(acts), duration=duration, seed=seed, folder=place), soft_wrap=True)

        def tell(what: str, act: Act | None) -> None:
            out.print(say(what, name=act.name if act is not None else ""), markup=False)

        ending = Conductor(theatre, acts, load, place, tell).play()
    except (StageError, DrillError) as error:
        fail(str(error))
    finally:
        if stage is not None:
            stage.stop()
    (place / "result.json").write_text(jsons.dumps(plain(ending), ensure_ascii=False, indent=2))
    if json:
        print((place / "result.json").read_text())
    _report(ending)
    if not (ending.clean and ending.in_time):
        raise typer.Exit(1)
    if folder is None:
        shutil.rmtree(place)


def _installation(config: Path, script: Path, accounts: list[str] | None, password_file: Path | None) -> Installation:
    if not accounts or password_file is None:
        fail(say("script_needs"), 2)

    def read() -> Any:
        async def action(desk: Any) -> Any:
            keys = {account_key(desk.view, address) for address in accounts or ()}
            return [each for each in await desk.repository.accounts() if each.address in keys]

        return with_directory(config, action)

    return Installation(configuration(config), read_script(script), read, password_file.read_text().strip())


def plain(ending: Ending) -> dict[str, Any]:
    judgement = ending.judgement
    return {
        "clean": ending.clean, "in_time": ending.in_time, "left_in_queue": ending.left, "changes": judgement.changes,
        "turned_away": ending.turned_away, "log_ins_tried": ending.tries, **judgement.report.as_json(),
        "contradictions": ending.notices.contradictions, "looks": ending.notices.looks, "dead_ends": ending.dead_ends,
        "swallowed": [asdict(one) for one in judgement.swallowed],
        "filtered": dict(ending.filtered.counts), "repeated": list(ending.filtered.repeated),
        "acts": [{"at": one.act.at, "way": one.act.way.value, "name": one.act.name, "edge": one.act.edge,
                  "until": one.act.until, "accounts": one.accounts, "log_ins_after": one.seconds, "took": one.took,
                  "limit": one.act.patience, "in_time": one.in_time} for one in ending.answered],
    }  # fmt: skip


def _report(ending: Ending) -> None:
    """On stderr, like every sentence that is not data."""
    out, judgement = errors, ending.judgement
    rows = [[one.act.at, say(one.act.way.value, name=one.act.name), one.accounts,
             say("never") if one.seconds is None else f"{one.seconds:.1f} s", f"{one.act.patience:.0f} s"]
            for one in ending.answered]
    out.print(plain_grid([say("at"), say("act"), say("accounts"), say("log_ins"), say("limit")], rows))
    report = judgement.report
    out.print(say("swallowed", count=len(judgement.swallowed), changes=judgement.changes))
    if judgement.swallowed:
        out.print(plain_grid([say("account"), say("mailbox"), say("changes"), say("before")],
                             [[account, name, count, f"{longest:.2f} s"]
                              for account, name, count, longest in by_folder(judgement.swallowed)[:20]]))
    for text in ending.filtered.repeated:
        out.print(say("repeated", text=text), markup=False)
    if ending.left is None:
        out.print(say("unknown_left"))
    elif ending.left:
        out.print(say("left", count=ending.left))
    if not report.ok:
        out.print(report.table(), markup=False)
    for text in ending.notices.contradictions[:20]:
        out.print(say("contradiction", text=text), markup=False)
    for text in ending.dead_ends:
        out.print(say("dead_end", text=text), markup=False)
    late = sum(not one.in_time for one in ending.answered)
    if late:
        out.print(say("late", count=late, acts=len(ending.answered)))
    out.print(say("result", acknowledged=report.acknowledged, found=report.found - report.doubt_present,
                  lost=len(report.of("lost")), doubled=len(report.of("doubled"))), style="bold")
    out.print(say("clean" if ending.clean else "not_clean"), style="green" if ending.clean else "red")
